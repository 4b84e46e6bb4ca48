//! Asking the other side for its memory: DMA_READ and DMA_WRITE, sent by any thread, whose replies the
//! connection's thread hands in.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use crate::protocol::{DmaAccess, Header, command, flag};
use crate::wire::{Sender, split};

/// How long an answer may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most accesses that wait for their answers at a time.
const MOST_WAITING: usize = 1024;

/// The memory of the peer. Cheap to clone.
///
/// Not for the thread that receives the peer's messages: it would wait for what it has to hand in itself.
#[derive(Clone, Debug)]
pub struct PeerMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: Sender,
    /// Most bytes of one access.
    transfer: u32,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u16, Waiting>,
    next: u16,
    /// No access begins now.
    held: bool,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    command: u16,
    address: u64,
    count: usize,
    answer: Option<io::Result<Vec<u8>>>,
}

impl PeerMemory {
    /// Memory that is asked for through `sender`, at most `transfer` bytes (not 0) at a time.
    pub fn new(sender: Sender, transfer: u32) -> Self {
        Self(Arc::new(Shared {
            sender,
            transfer: transfer.max(1),
            state: Mutex::default(),
            answered: Condvar::new(),
        }))
    }

    /// Fills `data` from the address `at`.
    ///
    /// # Errors
    /// When the peer refuses, does not answer in time, or has gone.
    pub fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        let step = self.0.transfer as usize;
        for (piece, at) in data.chunks_mut(step).zip(steps(at, step)) {
            let answer = self.ask(command::DMA_READ, at, piece.len(), &[])?;
            piece.copy_from_slice(&answer);
        }
        Ok(())
    }

    /// Copies `data` to the address `at`.
    ///
    /// # Errors
    /// As for reads.
    pub fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let step = self.0.transfer as usize;
        for (piece, at) in data.chunks(step).zip(steps(at, step)) {
            self.ask(command::DMA_WRITE, at, piece.len(), piece)?;
        }
        Ok(())
    }

    /// Ends the accesses to these `size` bytes from `start` that wait now.
    pub fn cancel(&self, start: u64, size: u64) {
        let last = start.saturating_add(size.saturating_sub(1));
        self.end(|waiting| (start..=last).contains(&waiting.address));
    }

    /// Ends all that wait, and lets none begin until [`resume`](Self::resume): the thread that hands answers in
    /// is going to wait for those who would ask.
    pub fn hold(&self) {
        self.lock().held = true;
        self.end(|_| true);
    }

    /// Lets accesses begin again.
    pub fn resume(&self) {
        self.lock().held = false;
    }

    /// Ends all that wait, and lets none begin any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.end(|_| true);
    }

    /// Hands in a reply. Says whether anybody waits for it.
    pub fn answer(&self, header: &Header, payload: &[u8]) -> bool {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get_mut(&header.id) else {
            return false;
        };
        if waiting.command != header.command || waiting.answer.is_some() {
            return false;
        }
        waiting.answer = Some(understand(waiting, header, payload));
        self.0.answered.notify_all();
        true
    }

    fn ask(&self, command: u16, at: u64, count: usize, data: &[u8]) -> io::Result<Vec<u8>> {
        let id = self.begin(Waiting {
            command,
            address: at,
            count,
            answer: None,
        })?;
        let access = DmaAccess {
            address: at,
            count: count as u64,
        };
        let header = Header::command(id, command, size_of::<DmaAccess>() + data.len());
        if let Err(error) = self.0.sender.send(&header, &[access.as_bytes(), data], &[]) {
            self.lock().waiting.remove(&id);
            return Err(io::Error::other(error));
        }
        self.wait(id)
    }

    /// Finds a number that no other access has.
    fn begin(&self, waiting: Waiting) -> io::Result<u16> {
        let mut state = self.lock();
        if state.closed || state.held {
            return Err(gone());
        }
        if state.waiting.len() >= MOST_WAITING {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let mut id = state.next;
        while state.waiting.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        state.next = id.wrapping_add(1);
        state.waiting.insert(id, waiting);
        Ok(id)
    }

    fn wait(&self, id: u16) -> io::Result<Vec<u8>> {
        let by = Instant::now() + ANSWER_WITHIN;
        let mut state = self.lock();
        loop {
            let answer = state
                .waiting
                .get_mut(&id)
                .map(|waiting| waiting.answer.take());
            match answer {
                None => return Err(gone()),
                Some(Some(answer)) => {
                    state.waiting.remove(&id);
                    return answer;
                }
                Some(None) => {}
            }
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waiting.remove(&id);
                drop(state);
                // Its answer may come yet, and must not be taken for another's.
                self.0.sender.close();
                return Err(io::ErrorKind::TimedOut.into());
            }
            state = self
                .0
                .answered
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn end(&self, which: impl Fn(&Waiting) -> bool) {
        let mut state = self.lock();
        for waiting in state.waiting.values_mut() {
            if waiting.answer.is_none() && which(waiting) {
                waiting.answer = Some(Err(gone()));
            }
        }
        self.0.answered.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of pieces of `step` bytes from `at`.
fn steps(at: u64, step: usize) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(at), move |at| Some(at.wrapping_add(step as u64)))
}

fn gone() -> io::Error {
    io::Error::other("the client took its memory back, or has gone")
}

/// What a reply says: the data of a read.
fn understand(waiting: &Waiting, header: &Header, payload: &[u8]) -> io::Result<Vec<u8>> {
    if header.flags & flag::ERROR != 0 {
        let errno = i32::try_from(header.error).unwrap_or(0);
        return Err(match errno {
            0 => io::Error::other("the client refused the access"),
            errno => io::Error::from_raw_os_error(errno),
        });
    }
    let nonsense = || io::Error::other("the client's answer does not fit the access");
    if waiting.command == command::DMA_WRITE {
        // Peers differ in the width of its count; that it is no error says enough.
        return Ok(Vec::new());
    }
    let (access, data) = split::<DmaAccess>(payload).ok_or_else(nonsense)?;
    let whole = access.count == waiting.count as u64 && data.len() == waiting.count;
    if access.address != waiting.address || !whole {
        return Err(nonsense());
    }
    Ok(data.to_vec())
}

#[cfg(test)]
mod tests;
