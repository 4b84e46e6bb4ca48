//! The client's side of a connection: commands with a deadline each, and answers to a server that asks for
//! the client's memory.
//!
//! [`Requests`] are sent by any thread; a [`Reader`] takes what the server sends: replies, for whoever waits, and
//! its own commands. [`Client`] is both in one hand, for one thread that reads only while it waits: to set a
//! connection up, and to play a driver. [`Client::split`] gives them to several threads, which is what a VMM has.

mod reader;
mod requests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::protocol::{Capabilities, MAJOR, MINOR, Proposal, ProposalError, Version, command};
use crate::wire::{WireError, wait};

pub use reader::Reader;
pub use requests::{Requests, Ticket};

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
    /// More commands than have numbers are under way.
    #[error("too many commands are under way")]
    Busy,
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
    requests: Requests,
    reader: Reader,
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
        Self::connect_seeing(socket, capabilities, patience, |_| {})
    }

    /// The same; `before` has the socket when something of the server's answer is there, and not read yet.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_seeing(
        socket: UnixStream,
        capabilities: Option<Capabilities>,
        patience: Duration,
        before: impl FnOnce(BorrowedFd<'_>),
    ) -> Result<Self, ClientError> {
        let by = Instant::now() + patience;
        let theirs = socket.try_clone().and_then(Requests::new);
        let requests = theirs.map_err(WireError::Socket)?;
        let mut client = Self {
            reader: Reader::new(socket, requests.clone()),
            requests,
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
        let ticket = (client.requests).begin(command::VERSION, &[&payload], &[], by)?;
        if wait(client.reader.as_fd(), PollFlags::IN, by)? {
            before(client.reader.as_fd());
        }
        let reply = client.finish(ticket, command::VERSION, &NoMemory, by)?;
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

    /// Both sides for themselves. Someone has to go on reading.
    pub fn split(self) -> (Requests, Reader) {
        (self.requests, self.reader)
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
        let by = Instant::now() + patience;
        let ticket = self.requests.begin(command, payload, descriptors, by)?;
        self.finish(ticket, command, memory, by)
    }

    fn finish(
        &mut self,
        ticket: Ticket,
        command: u16,
        memory: &dyn Memory,
        by: Instant,
    ) -> Result<Reply, ClientError> {
        loop {
            if let Some(reply) = ticket.take() {
                return reply;
            }
            if !self.turn(memory, by)? {
                return Err(ClientError::TimedOut { command });
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
        let by = Instant::now() + crate::wire::PATIENCE;
        self.requests.post(command, payload, descriptors, by)
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
            self.turn(memory, by.min(Instant::now() + LOOK))?;
        }
        Ok(true)
    }

    /// Deals with the next message; says whether one came in time.
    fn turn(&mut self, memory: &dyn Memory, by: Instant) -> Result<bool, WireError> {
        loop {
            if self.reader.turn(memory)? {
                return Ok(true);
            }
            if !wait(self.reader.as_fd(), self.reader.awaited(), by)? {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
