//! The client's side of a connection: commands with a deadline each, and answers to a server that asks for
//! the client's memory. What a VMM makes of a device stands on it; so do the tests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::protocol::{
    Capabilities, DmaAccess, Header, MAJOR, MINOR, Proposal, ProposalError, Version, command, flag,
};
use crate::wire::{Message, Receiver, Sender, WireError, split, wait};

/// Memory that a server may ask for.
pub trait Memory {
    /// Fills `data` from the address `at`.
    fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Copies `data` to the address `at`.
    fn write(&self, at: u64, data: &[u8]) -> Result<(), Errno>;
}

/// A client without memory that could be asked for.
pub struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::FAULT)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::FAULT)
    }
}

/// Why a command had no good reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused it. The connection goes on.
    #[error("the server refused command {command}: {errno}")]
    Refused {
        /// The command.
        command: u16,
        /// Why.
        errno: Errno,
    },
    /// No reply in time. A late one is passed over.
    #[error("the server did not reply to command {command} in time")]
    TimedOut {
        /// The command.
        command: u16,
    },
    /// The server's VERSION makes no sense.
    #[error("the server's version: {0}")]
    Version(#[from] ProposalError),
    /// The server speaks another version.
    #[error("the server speaks version {0}.{1}")]
    OtherVersion(u16, u16),
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A reply's payload, and the descriptors that came with it.
#[derive(Debug)]
pub struct Reply {
    /// What follows the header.
    pub payload: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// See the module's header.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    receiver: Receiver,
    sender: Sender,
    next: u16,
    server: Capabilities,
}

impl Client {
    /// Agrees with the server at the other end of `socket` on a version, within `patience`, stating
    /// `capabilities` as JSON where there are any.
    ///
    /// # Errors
    /// When the server refuses, speaks another version, or does not answer.
    pub fn connect(
        socket: UnixStream,
        capabilities: Option<Capabilities>,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let sender = Sender::new(socket.try_clone().map_err(WireError::Socket)?);
        let mut client = Self {
            socket,
            receiver: Receiver::default(),
            sender,
            next: 0,
            server: Capabilities::default(),
        };
        let ours = Proposal {
            version: Version {
                major: MAJOR,
                minor: MINOR,
            },
            capabilities,
        };
        let payload = ours.to_payload();
        let reply = client.request(command::VERSION, &[&payload], &[], &NoMemory, patience)?;
        let theirs = Proposal::parse(&reply.payload)?;
        let Version { major, minor } = theirs.version;
        if major != MAJOR || minor > MINOR {
            return Err(ClientError::OtherVersion(major, minor));
        }
        client.server = theirs.capabilities.unwrap_or_default();
        Ok(client)
    }

    /// What the server stated.
    pub fn server(&self) -> &Capabilities {
        &self.server
    }

    /// Sends a command and waits for its reply, at most `patience`. Meanwhile the server may ask for
    /// `memory`.
    ///
    /// # Errors
    /// When the server refuses, does not answer in time, or the connection fails.
    pub fn request(
        &mut self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        memory: &dyn Memory,
        patience: Duration,
    ) -> Result<Reply, ClientError> {
        let id = self.send(command, payload, descriptors, 0)?;
        let by = Instant::now() + patience;
        loop {
            let Some(message) = self.next(by)? else {
                return Err(ClientError::TimedOut { command });
            };
            let header = message.header;
            match header.is_reply() {
                Some(true) if header.id == id && header.command == command => {
                    return finish(message);
                }
                Some(false) => self.answer(message, memory)?,
                // A reply to a command that was given up.
                _ => {}
            }
        }
    }

    /// Sends a command that wants no reply.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn post(
        &mut self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        self.send(command, payload, descriptors, flag::NO_REPLY)?;
        Ok(())
    }

    /// Lets the server ask for `memory` until `done` says so, or `patience` is over; says which.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn serve(
        &mut self,
        memory: &dyn Memory,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Result<bool, ClientError> {
        const LOOK: Duration = Duration::from_millis(2);
        let by = Instant::now() + patience;
        while !done() {
            if Instant::now() >= by {
                return Ok(false);
            }
            if let Some(message) = self.next(by.min(Instant::now() + LOOK))?
                && message.header.is_reply() == Some(false)
            {
                self.answer(message, memory)?;
            }
        }
        Ok(true)
    }

    fn send(
        &mut self,
        command: u16,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        flags: u32,
    ) -> Result<u16, ClientError> {
        let id = self.next;
        self.next = id.wrapping_add(1);
        let size = payload.iter().map(|part| part.len()).sum();
        let mut header = Header::command(id, command, size);
        header.flags |= flags;
        self.sender.send(&header, payload, descriptors)?;
        Ok(id)
    }

    /// The next message, if one comes in time.
    fn next(&mut self, by: Instant) -> Result<Option<Message>, ClientError> {
        loop {
            if let Some(message) = self.receiver.take(&self.socket)? {
                return Ok(Some(message));
            }
            if !wait(self.socket.as_fd(), PollFlags::IN, by)? {
                return Ok(None);
            }
        }
    }

    fn answer(&self, message: Message, memory: &dyn Memory) -> Result<(), ClientError> {
        let header = message.header;
        let answer = access(&message, memory);
        if header.wants_no_reply() {
            return Ok(());
        }
        match answer {
            Ok(payload) => self
                .sender
                .send(&header.reply(payload.len()), &[&payload], &[])?,
            Err(errno) => self
                .sender
                .send(&header.failure(errno.raw_os_error()), &[], &[])?,
        }
        Ok(())
    }
}

/// What a server's command comes to: the payload of its reply.
fn access(message: &Message, memory: &dyn Memory) -> Result<Vec<u8>, Errno> {
    let (access, data) = split::<DmaAccess>(&message.payload).ok_or(Errno::INVAL)?;
    let count = usize::try_from(access.count).map_err(|_| Errno::INVAL)?;
    let mut reply = access.as_bytes().to_vec();
    match message.header.command {
        command::DMA_READ if count <= crate::wire::MOST_BYTES as usize => {
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

fn finish(message: Message) -> Result<Reply, ClientError> {
    let header = message.header;
    if header.flags & flag::ERROR != 0 {
        let errno = i32::try_from(header.error).unwrap_or(0);
        return Err(ClientError::Refused {
            command: header.command,
            errno: Errno::from_raw_os_error(if errno == 0 { 5 } else { errno }),
        });
    }
    Ok(Reply {
        payload: message.payload,
        descriptors: message.descriptors,
    })
}

impl Drop for Client {
    fn drop(&mut self) {
        // Also where another process has a copy of the socket for a moment: the server is to see the end.
        self.sender.close();
    }
}
