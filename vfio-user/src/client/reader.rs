//! Takes what the server sends: hands replies to whoever waits for them, and answers what it asks for. Answers that
//! there is no room for are kept, and reading goes on: a server may send much before it takes anything.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::{Memory, Requests};
use crate::protocol::{DEFAULT_TRANSFER, DmaAccess, command};
use crate::wire::{Message, PATIENCE, Receiver, WireError, split};

/// So many bytes of answers are kept for a server that does not take them, before no more of what it sends is read.
const MOST_KEPT: usize = 4 << 20;

/// See the module's header. Whoever has it reads; when it is dropped, this side leaves.
#[derive(Debug)]
pub struct Reader {
    socket: UnixStream,
    receiver: Receiver,
    requests: Requests,
    patience: Duration,
}

impl Reader {
    pub(super) fn new(socket: UnixStream, requests: Requests) -> Self {
        Self {
            socket,
            receiver: Receiver::default(),
            requests,
            patience: PATIENCE,
        }
    }

    /// How long the server may take to take more of what it is answered; [`PATIENCE`] unless said.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Takes a message, if all of one is there, and deals with it; says whether one was there. The server may ask
    /// for `memory`. Waits for nothing.
    ///
    /// # Errors
    /// When there cannot be a next message.
    pub fn turn(&mut self, memory: &dyn Memory) -> Result<bool, WireError> {
        let sender = self.requests.sender();
        sender.flush()?;
        if let Some((bytes, moved)) = sender.kept() {
            if moved + self.patience <= Instant::now() {
                return Err(WireError::TooSlow("take a message"));
            }
            if bytes >= MOST_KEPT {
                return Ok(false);
            }
        }
        let Some(message) = self.receiver.take(&self.socket)? else {
            return Ok(false);
        };
        match message.header.is_reply() {
            // One that nobody waits for any more, or that was not wanted, is passed over.
            Some(true) => self.requests.deliver(message),
            Some(false) => self.answer(&message, memory)?,
            None => {
                let what = "a message is neither a command nor a reply";
                return Err(WireError::Refused(what.to_owned()));
            }
        }
        Ok(true)
    }

    /// By when the rest of an unfinished message must be there, or the server have taken more of its answers: then
    /// [`turn`](Self::turn) fails.
    pub fn due(&self) -> Option<Instant> {
        let taken = (self.requests.sender().kept()).map(|(_, moved)| moved + self.patience);
        self.receiver.due().into_iter().chain(taken).min()
    }

    /// What the connection has to be waited for before the next turn.
    pub fn awaited(&self) -> PollFlags {
        match self.requests.sender().kept() {
            None => PollFlags::IN,
            Some((bytes, _)) if bytes >= MOST_KEPT => PollFlags::OUT,
            Some(_) => PollFlags::IN | PollFlags::OUT,
        }
    }

    fn answer(&self, message: &Message, memory: &dyn Memory) -> Result<(), WireError> {
        let header = message.header;
        let answer = access(message, memory);
        if header.wants_no_reply() {
            return Ok(());
        }
        let sender = self.requests.sender();
        match answer {
            Ok(payload) => sender.keep(&header.reply(payload.len()), &[&payload]),
            Err(errno) => sender.keep(&header.failure(errno.raw_os_error()), &[]),
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Also where another process has a copy of the socket for a moment: the server is to see the end.
        self.requests.close();
    }
}

/// What a server's command comes to: the payload of its reply.
fn access(message: &Message, memory: &dyn Memory) -> Result<Vec<u8>, Errno> {
    let (access, data) = split::<DmaAccess>(&message.payload).ok_or(Errno::INVAL)?;
    let count = usize::try_from(access.count).map_err(|_| Errno::INVAL)?;
    let mut reply = access.as_bytes().to_vec();
    match message.header.command {
        command::DMA_READ if count <= DEFAULT_TRANSFER as usize => {
            let begin = reply.len();
            reply.resize(begin + count, 0);
            memory.read(access.address, &mut reply[begin..])?;
        }
        command::DMA_WRITE if data.len() == count => memory.write(access.address, data)?,
        command::DMA_READ | command::DMA_WRITE => return Err(Errno::INVAL),
        _ => return Err(Errno::NOTSUP),
    }
    Ok(reply)
}
