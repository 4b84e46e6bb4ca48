//! Where serial output goes: a bounded buffer that a vCPU fills and a thread of its own empties.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::legacy::lock;

/// Bytes that may wait for a slow sink.
const CAPACITY: usize = 256 * 1024;

/// An output of the serial port. Clones share it.
///
/// Writing never blocks. What the sink has not taken waits, up to 256 KiB; what comes while the buffer
/// is full is lost, and so is what a sink refuses with an error. [`lost`](Self::lost) counts both.
#[derive(Clone)]
pub struct ConsoleOutput {
    /// None discards everything.
    queue: Option<Arc<Queue>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread has bytes in hand.
    writing: bool,
    closed: bool,
    lost: u64,
}

impl ConsoleOutput {
    /// An output that goes nowhere.
    pub fn null() -> Self {
        Self { queue: None }
    }

    /// Output to `sink`, by a thread that may block in it for as long as it likes.
    pub fn new(sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let filled = queue.clone();
        thread::Builder::new()
            .name("serial-output".into())
            .spawn(move || filled.empty_into(sink))?;
        Ok(Self { queue: Some(queue) })
    }

    /// Output appended to the file at `path`, which is created if need be.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Self::new(Box::new(file))
    }

    /// Output to this process's standard output.
    pub fn stdout() -> io::Result<Self> {
        // Not std's handle: its lock would hold up everyone else who prints.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::new(Box::new(file))
    }

    /// Waits, for `limit` at most, until the sink has taken everything. Returns whether it has.
    pub fn drain(&self, limit: Duration) -> bool {
        let Some(queue) = &self.queue else {
            return true;
        };
        let until = Instant::now() + limit;
        let mut state = lock(&queue.state);
        while state.writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = queue
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Ends the output: nothing more is taken; what waits has `limit` to be written, then the thread
    /// is left to end by itself.
    pub fn close(&self, limit: Duration) {
        let Some(queue) = &self.queue else {
            return;
        };
        lock(&queue.state).closed = true;
        queue.changed.notify_all();
        self.drain(limit);
    }

    /// Bytes lost so far.
    pub fn lost(&self) -> u64 {
        self.queue
            .as_ref()
            .map_or(0, |queue| lock(&queue.state).lost)
    }
}

impl Write for ConsoleOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(queue) = &self.queue {
            queue.push(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn push(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        let room = if state.closed {
            0
        } else {
            CAPACITY.saturating_sub(state.waiting.len())
        };
        let taken = &bytes[..bytes.len().min(room)];
        let wake = state.waiting.is_empty() && !taken.is_empty();
        let first_lost = state.lost == 0 && taken.len() < bytes.len();
        state.waiting.extend_from_slice(taken);
        state.lost += (bytes.len() - taken.len()) as u64;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        if first_lost {
            tracing::warn!("serial output is lost: its reader is too slow or gone");
        }
    }

    fn empty_into(&self, mut sink: Box<dyn Write + Send>) {
        let mut bytes = Vec::new();
        let mut failed = false;
        loop {
            let mut state = lock(&self.state);
            while state.waiting.is_empty() {
                if state.closed {
                    return;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.waiting, &mut bytes);
            state.writing = true;
            drop(state);

            let result = sink.write_all(&bytes).and_then(|()| sink.flush());

            let mut state = lock(&self.state);
            if result.is_err() {
                state.lost += bytes.len() as u64;
            }
            state.writing = false;
            drop(state);
            self.changed.notify_all();
            bytes.clear();
            match result {
                Ok(()) => failed = false,
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "serial output is lost: writing it failed");
                    }
                    failed = true;
                }
            }
        }
    }
}
