//! One client's connection, from its first message to its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::{debug, info};

use super::commands::{self, Reply};
use super::{Device, Unmapped};
use crate::dma::PeerMemory;
use crate::protocol::{Capabilities, Header, MAJOR, MINOR, Proposal, Version, command};
use crate::wire::{Message, Receiver, Sender, WireError, timespec};

/// Commands taken before anything else is looked at.
const BURST: usize = 64;
/// How long memory that was taken back may still be in use before the client is told so. Clients wait
/// five seconds for a reply.
const UNMAP_WITHIN: Duration = Duration::from_secs(4);
/// How long a new client may take for its first message.
const VERSION_WITHIN: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The client left, or did what cannot be answered.
    Client(String),
    /// The server was told to stop.
    Stopped,
}

/// See the module's header.
pub struct Connection<'a> {
    device: &'a dyn Device,
    socket: UnixStream,
    receiver: Receiver,
    sender: Sender,
    /// There once the version is agreed on.
    memory: Option<PeerMemory>,
    unmapping: Vec<Unmapping>,
    /// Most descriptors that the client takes in a message.
    descriptors_taken: u32,
    version_due: Instant,
}

/// A DMA_UNMAP that waits for the memory's last user.
struct Unmapping {
    request: Arc<Unanswered>,
    due: Instant,
}

/// A command that is answered by whoever comes first: the end of what it waits for, or its deadline.
struct Unanswered {
    header: Header,
    payload: Vec<u8>,
    sender: Sender,
    answered: AtomicBool,
}

impl Unanswered {
    fn answer(&self, result: Result<(), Errno>) {
        if self.answered.swap(true, Ordering::AcqRel) || self.header.wants_no_reply() {
            return;
        }
        // A connection that broke says so to its own thread.
        let _ = match result {
            Ok(()) => {
                let header = self.header.reply(self.payload.len());
                self.sender.send(&header, &[&self.payload], &[])
            }
            Err(errno) => {
                let header = self.header.failure(errno.raw_os_error());
                self.sender.send(&header, &[], &[])
            }
        };
    }
}

impl<'a> Connection<'a> {
    /// A connection over `socket` to `device`.
    ///
    /// # Errors
    /// When the host gives no second descriptor for the socket.
    pub fn new(device: &'a dyn Device, socket: UnixStream) -> std::io::Result<Self> {
        let sender = Sender::new(socket.try_clone()?);
        Ok(Self {
            device,
            socket,
            receiver: Receiver::default(),
            sender,
            memory: None,
            unmapping: Vec::new(),
            descriptors_taken: Capabilities::default().descriptors(),
            version_due: Instant::now() + VERSION_WITHIN,
        })
    }

    /// Serves the client until it leaves or `stop` can be read. Clients that come to `listener` meanwhile
    /// are turned away.
    pub fn run(mut self, listener: &UnixListener, stop: BorrowedFd<'_>) -> Ended {
        let ended = loop {
            match self.turn(listener, stop) {
                Ok(true) => {}
                Ok(false) => break Ended::Stopped,
                Err(error) => break Ended::Client(error.to_string()),
            }
        };
        if matches!(ended, Ended::Stopped) && self.memory.is_some() {
            self.device.leave();
        }
        self.sender.close();
        if let Some(memory) = self.memory.take() {
            memory.close();
            self.device.detach();
        }
        ended
    }

    /// Waits for something to do, and does it. Says whether the connection goes on.
    fn turn(&mut self, listener: &UnixListener, stop: BorrowedFd<'_>) -> Result<bool, WireError> {
        let wakers = self.device.wakers();
        let ready = self.wait(listener, stop, &wakers)?;
        if ready[1] {
            return Ok(false);
        }
        for (waker, _) in ready[3..].iter().enumerate().filter(|(_, ready)| **ready) {
            self.device.woken(waker);
        }
        self.give_up_unmapping();
        if self.memory.is_none() && self.version_due <= Instant::now() {
            return Err(WireError::TooSlow("send VERSION"));
        }
        for _ in 0..BURST {
            if let Some(message) = self.receiver.take(&self.socket)? {
                self.take(message)?;
                continue;
            }
            // All is read, and the client is still there: one that leaves and comes again is no second.
            if ready[2] && listener.accept().is_ok() {
                info!("a second client was turned away: the device has one at a time");
            }
            break;
        }
        Ok(true)
    }

    /// Which of the socket, `stop`, the listener and the device's wakers can be read.
    fn wait(
        &self,
        listener: &UnixListener,
        stop: BorrowedFd<'_>,
        wakers: &[Arc<OwnedFd>],
    ) -> Result<Vec<bool>, WireError> {
        let own = [self.socket.as_fd(), stop, listener.as_fd()];
        let all = own
            .into_iter()
            .chain(wakers.iter().map(|waker| waker.as_fd()));
        let mut polled: Vec<_> = all
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let version_due = Some(self.version_due).filter(|_| self.memory.is_none());
        let due = self.unmapping.iter().map(|unmapping| unmapping.due);
        let due = due.chain(self.receiver.due()).chain(version_due).min();
        let timeout = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // An error or a hang-up counts: reading tells what it is.
        Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    fn take(&mut self, message: Message) -> Result<(), WireError> {
        let header = message.header;
        match header.is_reply() {
            Some(true) => return self.take_reply(&message),
            Some(false) => {}
            None => {
                self.fail(&header, Errno::INVAL)?;
                return Err(refused("a message is neither a command nor a reply"));
            }
        }
        match (header.command, &self.memory) {
            (command::VERSION, None) => self.agree(&message),
            (_, None) => {
                self.fail(&header, Errno::INVAL)?;
                Err(refused("the first message was not VERSION"))
            }
            (command::VERSION, Some(_)) => self.fail(&header, Errno::INVAL),
            (command::DMA_UNMAP, Some(_)) => self.unmap(message),
            (command::DEVICE_RESET, Some(memory)) => {
                // What waits for the client's memory would wait for this thread.
                let memory = memory.clone();
                memory.hold();
                let done = self.execute(message);
                memory.resume();
                done
            }
            _ => self.execute(message),
        }
    }

    fn take_reply(&self, message: &Message) -> Result<(), WireError> {
        let memory = self.memory.as_ref();
        if !memory.is_some_and(|memory| memory.answer(&message.header, &message.payload)) {
            debug!(id = message.header.id, "a reply that nobody waits for");
        }
        Ok(())
    }

    fn agree(&mut self, message: &Message) -> Result<(), WireError> {
        let header = &message.header;
        let proposal = match Proposal::parse(&message.payload) {
            Ok(proposal) => proposal,
            Err(error) => {
                self.fail(header, Errno::INVAL)?;
                return Err(WireError::Refused(error.to_string()));
            }
        };
        let Version { major, minor } = proposal.version;
        if major != MAJOR {
            self.fail(header, Errno::NOTSUP)?;
            return Err(refused("the client speaks another major version"));
        }
        let ours = commands::capabilities();
        let answer = Proposal {
            version: Version {
                major,
                minor: minor.min(MINOR),
            },
            capabilities: (proposal.capabilities).map(|theirs| ours.answer_to(&theirs)),
        };
        let theirs: Capabilities = proposal.capabilities.unwrap_or_default();
        let transfer = theirs.transfer().min(ours.transfer());
        self.descriptors_taken = theirs.descriptors();
        let memory = PeerMemory::new(self.sender.clone(), transfer);
        self.device.attach(&memory);
        self.memory = Some(memory);
        debug!(minor, transfer, "a client has come");
        self.succeed(header, answer.to_payload().into())
    }

    fn execute(&self, message: Message) -> Result<(), WireError> {
        let header = message.header;
        match commands::execute(self.device, message, self.descriptors_taken) {
            Ok(reply) => self.succeed(&header, reply),
            Err(errno) => self.fail(&header, errno),
        }
    }

    fn unmap(&mut self, message: Message) -> Result<(), WireError> {
        let header = message.header;
        let range = match commands::unmap_request(&message.payload) {
            Ok(range) => range,
            Err(errno) => return self.fail(&header, errno),
        };
        let request = Arc::new(Unanswered {
            header,
            payload: message.payload,
            sender: self.sender.clone(),
            answered: AtomicBool::new(false),
        });
        let ended = Arc::clone(&request);
        let then: Unmapped = Box::new(move || ended.answer(Ok(())));
        if let Err(errno) = self.device.unmap(range, then) {
            return self.fail(&header, errno);
        }
        self.unmapping.push(Unmapping {
            request,
            due: Instant::now() + UNMAP_WITHIN,
        });
        self.give_up_unmapping();
        Ok(())
    }

    /// Tells the client of memory that could not be given back in time, and forgets what was answered.
    fn give_up_unmapping(&mut self) {
        let now = Instant::now();
        self.unmapping.retain(|unmapping| {
            if unmapping.due <= now {
                unmapping.request.answer(Err(Errno::BUSY));
            }
            !unmapping.request.answered.load(Ordering::Acquire)
        });
    }

    fn succeed(&self, header: &Header, reply: Reply) -> Result<(), WireError> {
        if header.wants_no_reply() {
            return Ok(());
        }
        let descriptors = reply.borrowed();
        let header = header.reply(reply.payload.len());
        self.sender.send(&header, &[&reply.payload], &descriptors)
    }

    fn fail(&self, header: &Header, errno: Errno) -> Result<(), WireError> {
        debug!(command = header.command, %errno, "a command failed");
        if header.wants_no_reply() {
            return Ok(());
        }
        self.sender
            .send(&header.failure(errno.raw_os_error()), &[], &[])
    }
}

/// What a client did that leaves nothing to be said.
fn refused(what: &'static str) -> WireError {
    WireError::Refused(what.to_owned())
}
