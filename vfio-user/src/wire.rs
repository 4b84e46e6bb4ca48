//! Whole messages over a Unix socket: a receiver that takes what is there and keeps what is not whole yet,
//! and a sender that any thread may use. Neither waits for long for a peer that does not do its part.

mod sender;
mod wait;

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub use sender::Sender;
pub use wait::Wait;

use crate::protocol::{DEFAULT_TRANSFER, Header};

/// Most descriptors that the kernel passes in one message: with room for them all, none is lost unseen.
const MOST_DESCRIPTORS: usize = 253;
/// Largest message taken: the data of the longest transfer, and what precedes it.
pub const MOST_BYTES: u32 = DEFAULT_TRANSFER + 4096;
/// How long a peer may take for the rest of a message that it began, or to make room for one.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed it between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// It closed it within one.
    #[error("the peer closed the connection within a message")]
    Truncated,
    /// A size that no message has.
    #[error("a message says that it has {0} bytes: 16 to {MOST_BYTES} are possible")]
    Size(u32),
    /// More descriptors than there may be.
    #[error("a message came with descriptors that were lost on the way")]
    Descriptors,
    /// It did not do its part in time.
    #[error("the peer did not {0} in time")]
    TooSlow(&'static str),
    /// This side does not wait for it any more: see [`Sender::cancel`].
    #[error("the wait for the peer was cancelled")]
    Cancelled,
    /// It did what cannot be answered.
    #[error("{0}")]
    Refused(String),
    /// The socket failed.
    #[error("the connection's socket: {0}")]
    Socket(#[from] io::Error),
}

impl From<Errno> for WireError {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno.into())
    }
}

/// A message as it arrived.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What follows it.
    pub payload: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Puts messages together from what has arrived.
#[derive(Debug)]
pub struct Receiver {
    header: Header,
    payload: Vec<u8>,
    /// Bytes of header and payload that are there.
    filled: usize,
    descriptors: Vec<OwnedFd>,
    /// When the first byte of an unfinished message came.
    since: Option<Instant>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            header: Header::new_zeroed(),
            payload: Vec::new(),
            filled: 0,
            descriptors: Vec::new(),
            since: None,
        }
    }
}

impl Receiver {
    /// Takes the next message, if all of it is there. Never waits.
    ///
    /// # Errors
    /// When there cannot be a next message.
    pub fn take(&mut self, socket: &UnixStream) -> Result<Option<Message>, WireError> {
        loop {
            let count = if self.filled < Header::SIZE {
                let missing = &mut self.header.as_mut_bytes()[self.filled..];
                receive(socket, missing, &mut self.descriptors)?
            } else {
                let missing = &mut self.payload[self.filled - Header::SIZE..];
                if missing.is_empty() {
                    return Ok(Some(self.finish()));
                }
                receive(socket, missing, &mut self.descriptors)?
            };
            match count {
                None => return self.unfinished(),
                Some(0) if self.filled == 0 => return Err(WireError::Closed),
                Some(0) => return Err(WireError::Truncated),
                Some(count) => self.filled += count,
            }
            self.since.get_or_insert_with(Instant::now);
            if self.filled == Header::SIZE {
                let size = self.header.size;
                if !(Header::SIZE as u32..=MOST_BYTES).contains(&size) {
                    return Err(WireError::Size(size));
                }
                self.payload = vec![0; size as usize - Header::SIZE];
            }
        }
    }

    /// By when the rest of an unfinished message must be there.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }

    fn unfinished(&self) -> Result<Option<Message>, WireError> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            return Err(WireError::TooSlow("send the rest of a message"));
        }
        Ok(None)
    }

    fn finish(&mut self) -> Message {
        let ended = std::mem::take(self);
        Message {
            header: ended.header,
            payload: ended.payload,
            descriptors: ended.descriptors,
        }
    }
}

/// One `recvmsg`: how many bytes came, `None` where there are none yet.
fn receive(
    socket: &UnixStream,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<Option<usize>, WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(into)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            // A peer that died with unread data.
            Err(Errno::CONNRESET) => return Ok(Some(0)),
            other => break other?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MOST_DESCRIPTORS {
        return Err(WireError::Descriptors);
    }
    Ok(Some(received.bytes))
}

/// Waits for `events`; says whether they came in time.
pub(crate) fn wait(fd: BorrowedFd<'_>, events: PollFlags, by: Instant) -> Result<bool, WireError> {
    loop {
        let left = by.saturating_duration_since(Instant::now());
        let timeout = timespec(left);
        match poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `duration` as poll takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Reads the layout that a payload begins with, and what follows it.
pub(crate) fn split<T: FromBytes>(payload: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(payload).ok()
}

#[cfg(test)]
mod tests;
