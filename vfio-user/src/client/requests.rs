//! Commands under way: sent by any thread, each with a number of its own, until its reply is handed in or whoever
//! waits for it gives up.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use super::{ClientError, Reply};
use crate::protocol::{Header, flag};
use crate::wire::{Message, Sender, Wait, WireError};

/// Most commands without a reply at a time: there is always a number that none of them has.
const MOST_WAITING: usize = 1 << 15;

/// See the module's header. Cheap to clone; [`Reader`](super::Reader) hands replies in.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: Sender,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u16, Waiting>,
    /// Commands so far. The lower half is the number of the next one in its header.
    sent: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    command: u16,
    cancellable: bool,
    /// None where nobody waits any more: the number is not another's before its late reply has come.
    reply: Option<SyncSender<Result<Message, WireError>>>,
}

impl Requests {
    pub(super) fn new(socket: UnixStream) -> std::io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            sender: Sender::with_cancel(socket)?,
            state: Mutex::default(),
        })))
    }

    /// A wait until `by`, or until the next [`cancel`](Self::cancel).
    pub fn cancellable(&self, by: Instant) -> Wait {
        self.sender().cancellable(by)
    }

    /// Ends all cancellable waits that have begun, with [`WireError::Cancelled`]. The connection goes on: replies that
    /// come late are passed over.
    pub fn cancel(&self) {
        // First, so that a command that is not under way yet does not begin to wait after it.
        self.sender().cancel();
        let mut state = self.lock();
        let cancelled = state
            .waiting
            .values_mut()
            .filter(|waiting| waiting.cancellable);
        for reply in cancelled.filter_map(|waiting| waiting.reply.take()) {
            // There is room for the one; whoever gave up just now does not want it.
            let _ = reply.try_send(Err(WireError::Cancelled));
        }
    }

    /// Sends a command and waits for its reply. Not for the thread that reads.
    ///
    /// # Errors
    /// When the server refuses, does not take the command or answer it in time, the wait is cancelled, or the
    /// connection ends meanwhile.
    pub fn request(
        &self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        wait: impl Into<Wait>,
    ) -> Result<Reply, ClientError> {
        let wait = wait.into();
        (self.begin(command, payload, descriptors, wait)?).wait(wait.by())
    }

    /// Sends a command; its reply is the ticket's. Waits for room, and has the ticket's wait cancelled where `wait`
    /// is.
    ///
    /// # Errors
    /// When the server does not take it, the wait is cancelled, or the connection has ended.
    pub fn begin(
        &self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        wait: impl Into<Wait>,
    ) -> Result<Ticket, ClientError> {
        let wait = wait.into();
        let (reply, arrived) = mpsc::sync_channel(1);
        let serial = {
            let mut state = self.lock();
            let serial = state.number()?;
            let waiting = Waiting {
                serial,
                command,
                cancellable: wait.is_cancellable(),
                reply: Some(reply),
            };
            state.waiting.insert(serial as u16, waiting);
            serial
        };
        let mut ticket = Ticket {
            serial,
            command,
            arrived,
            requests: self.clone(),
            sent: false,
        };
        let header = Header::command(serial as u16, command, size(payload));
        (self.sender()).send_by(&header, payload, descriptors, wait)?;
        ticket.sent = true;
        Ok(ticket)
    }

    /// Sends a command that wants no reply. One that comes all the same is passed over.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn post(
        &self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        wait: impl Into<Wait>,
    ) -> Result<(), ClientError> {
        let serial = self.lock().number()?;
        let mut header = Header::command(serial as u16, command, size(payload));
        header.flags |= flag::NO_REPLY;
        (self.sender()).send_by(&header, payload, descriptors, wait)?;
        Ok(())
    }

    /// The same for the thread that reads: waits for nothing, see [`Sender::keep`].
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn post_unwaited(&self, command: u16, payload: &[&[u8]]) -> Result<(), ClientError> {
        let serial = self.lock().number()?;
        let mut header = Header::command(serial as u16, command, size(payload));
        header.flags |= flag::NO_REPLY;
        self.sender().keep(&header, payload)?;
        Ok(())
    }

    /// Sends nothing more: the server sees the end, and whoever waits for a reply has an error at once.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.sender().leave();
        drop(waiting);
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.0.sender
    }

    /// Hands a reply in, if somebody waits for it.
    pub(super) fn deliver(&self, message: Message) {
        let Header { id, command, .. } = message.header;
        let mut state = self.lock();
        let found = state.waiting.get(&id);
        if found.is_none_or(|waiting| waiting.command != command) {
            return;
        }
        let waiting = state.waiting.remove(&id);
        drop(state);
        if let Some(reply) = waiting.and_then(|waiting| waiting.reply) {
            // There is room for the one reply; whoever gave up just now does not want it.
            let _ = reply.try_send(Ok(message));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(payload: &[&[u8]]) -> usize {
    payload.iter().map(|part| part.len()).sum()
}

impl State {
    /// A serial number whose lower half nobody waits with.
    fn number(&mut self) -> Result<u64, ClientError> {
        if self.closed {
            return Err(WireError::Closed.into());
        }
        if self.waiting.len() >= MOST_WAITING {
            return Err(ClientError::Busy);
        }
        while self.waiting.contains_key(&(self.sent as u16)) {
            self.sent += 1;
        }
        self.sent += 1;
        Ok(self.sent - 1)
    }
}

/// A command whose reply is still to come. Dropped, the reply is passed over when it comes.
#[derive(Debug)]
pub struct Ticket {
    serial: u64,
    command: u16,
    arrived: mpsc::Receiver<Result<Message, WireError>>,
    requests: Requests,
    /// There will be a reply.
    sent: bool,
}

impl Ticket {
    /// Waits for the reply.
    ///
    /// # Errors
    /// When the server refuses, does not answer by `by`, the wait is cancelled, or the connection ends.
    pub fn wait(self, by: Instant) -> Result<Reply, ClientError> {
        let left = by.saturating_duration_since(Instant::now());
        match self.arrived.recv_timeout(left) {
            Ok(arrived) => finish(arrived?),
            Err(RecvTimeoutError::Disconnected) => Err(WireError::Closed.into()),
            Err(RecvTimeoutError::Timeout) => Err(ClientError::TimedOut {
                command: self.command,
            }),
        }
    }

    /// The reply, if it is there.
    pub(super) fn take(&self) -> Option<Result<Reply, ClientError>> {
        match self.arrived.try_recv() {
            Ok(arrived) => Some(arrived.map_err(ClientError::from).and_then(finish)),
            Err(TryRecvError::Disconnected) => Some(Err(WireError::Closed.into())),
            Err(TryRecvError::Empty) => None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.requests.lock();
        let id = self.serial as u16;
        // The number may be another's by now.
        let found = state.waiting.get_mut(&id);
        let Some(waiting) = found.filter(|waiting| waiting.serial == self.serial) else {
            return;
        };
        waiting.reply = None;
        if !self.sent {
            state.waiting.remove(&id);
        }
    }
}

fn finish(message: Message) -> Result<Reply, ClientError> {
    let header = message.header;
    if header.flags & flag::ERROR != 0 {
        return Err(ClientError::Refused {
            command: header.command,
            errno: match i32::try_from(header.error) {
                Ok(errno @ 1..4096) => Errno::from_raw_os_error(errno),
                _ => Errno::IO,
            },
        });
    }
    Ok(Reply {
        payload: message.payload,
        descriptors: message.descriptors,
    })
}
