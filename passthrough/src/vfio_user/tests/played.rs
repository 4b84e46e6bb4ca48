//! A server played by rules: it answers as a good one does, but where a test says otherwise.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use vfio_user::protocol::*;
use vfio_user::wire::{Receiver, Sender};

use super::SOON;
use super::ordinary::{BAR, ordinary};

/// What becomes of a message.
pub enum Verdict {
    /// What a good server does.
    Ordinary,
    /// This reply.
    Reply(Vec<u8>, Vec<OwnedFd>),
    /// An error.
    Refuse(u32),
    /// Nothing at all.
    Silence,
    /// The end of the connection.
    Leave,
    /// These bytes, and the end.
    Die(Vec<u8>),
}

/// What a message is told apart by, and the way back to the client.
pub struct Asked<'a> {
    pub command: u16,
    pub header: Header,
    pub payload: &'a [u8],
    /// How many came with it.
    pub descriptors: usize,
    pub sender: &'a Sender,
    /// Connections before this one.
    pub earlier: usize,
}

type Rule = dyn Fn(&Asked<'_>) -> Verdict + Send + Sync;

/// What came to a server.
#[derive(Default)]
pub struct Notes {
    pub connections: usize,
    pub ended: usize,
    /// Connection, range, and its file.
    pub maps: Vec<(usize, DmaMap, Option<File>)>,
    pub writes: Vec<(RegionAccess, Vec<u8>, bool)>,
    /// Flags, index, start, count and descriptors.
    pub irqs: Vec<(IrqSet, Vec<OwnedFd>, bool)>,
    /// Type, first and count of vectors.
    pub unmasked: Vec<(u32, u32, u32)>,
    pub resets: usize,
    /// Commands in their order.
    pub commands: Vec<u16>,
    /// Replies of the client.
    pub replies: Vec<(Header, Vec<u8>)>,
    /// Where the client may be sent messages.
    pub sender: Option<Sender>,
    pub bar: Vec<u8>,
}

pub struct Shared {
    pub notes: Mutex<Notes>,
    changed: Condvar,
    rule: Box<Rule>,
    pub stated: Capabilities,
}

pub struct Played {
    pub path: PathBuf,
    shared: Arc<Shared>,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
    folder: Option<TempDir>,
}

/// Most descriptors that a good server takes in a message.
const DESCRIPTORS: u32 = 4;

impl Played {
    pub fn new(rule: impl Fn(&Asked<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        let stated = Capabilities {
            max_msg_fds: Some(DESCRIPTORS),
            ..Capabilities::default()
        };
        Self::stating(stated, rule)
    }

    pub fn stating(
        stated: Capabilities,
        rule: impl Fn(&Asked<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("played.sock");
        let mut played = Self::at(path, stated, rule);
        played.folder = Some(folder);
        played
    }

    /// A server at a path where another was.
    pub fn at(
        path: PathBuf,
        stated: Capabilities,
        rule: impl Fn(&Asked<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        Self::over(listener, path, stated, rule)
    }

    /// A server for which another has called `listen`.
    pub fn over(
        listener: UnixListener,
        path: PathBuf,
        stated: Capabilities,
        rule: impl Fn(&Asked<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let shared = Arc::new(Shared {
            notes: Mutex::default(),
            changed: Condvar::new(),
            rule: Box::new(rule),
            stated,
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&listener, &stopped, &theirs));
        Self {
            path,
            shared,
            stop,
            thread: Some(thread),
            folder: None,
        }
    }

    pub fn good() -> Self {
        Self::new(|_| Verdict::Ordinary)
    }

    /// Looks at the notes until `find` finds something there.
    pub fn until<T>(&self, mut find: impl FnMut(&mut Notes) -> Option<T>) -> T {
        let by = Instant::now() + SOON;
        let mut notes = self.shared.notes.lock().unwrap();
        loop {
            if let Some(found) = find(&mut notes) {
                return found;
            }
            let left = by.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came");
            notes = self.shared.changed.wait_timeout(notes, left).unwrap().0;
        }
    }

    pub fn notes<T>(&self, look: impl FnOnce(&mut Notes) -> T) -> T {
        look(&mut self.shared.notes.lock().unwrap())
    }

    /// Ends it, with its connections; the folder stays.
    pub fn end(&mut self) -> Option<TempDir> {
        let _ = self.stop.write_all(b"x");
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.folder.take()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.end();
    }
}

fn readable(fds: &[&dyn AsFd]) -> Vec<bool> {
    let polled = fds.iter();
    let mut polled: Vec<_> = polled
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: SOON.as_secs() as i64,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&timeout)).unwrap();
    polled.iter().map(|fd| !fd.revents().is_empty()).collect()
}

fn serve(listener: &UnixListener, stopped: &UnixStream, shared: &Shared) {
    loop {
        let ready = readable(&[listener, stopped]);
        if ready[1] {
            return;
        }
        let (socket, _) = listener.accept().unwrap();
        let earlier = {
            let mut notes = shared.notes.lock().unwrap();
            notes.connections += 1;
            notes.bar = vec![0; BAR as usize];
            shared.changed.notify_all();
            notes.connections - 1
        };
        let stop = attend(&socket, stopped, shared, earlier);
        let mut notes = shared.notes.lock().unwrap();
        (notes.ended, notes.sender) = (notes.ended + 1, None);
        shared.changed.notify_all();
        if stop {
            return;
        }
    }
}

/// Serves a client until it leaves or is left. Says whether the server was told to stop.
fn attend(socket: &UnixStream, stopped: &UnixStream, shared: &Shared, earlier: usize) -> bool {
    let sender = Sender::new(socket.try_clone().unwrap());
    shared.notes.lock().unwrap().sender = Some(sender.clone());
    let mut receiver = Receiver::default();
    loop {
        let message = match receiver.take(socket) {
            Ok(Some(message)) => message,
            Ok(None) => {
                if readable(&[socket, stopped])[1] {
                    return true;
                }
                continue;
            }
            Err(_) => return false,
        };
        let header = message.header;
        if header.is_reply() == Some(true) {
            let mut notes = shared.notes.lock().unwrap();
            notes.replies.push((header, message.payload));
            shared.changed.notify_all();
            continue;
        }
        let asked = Asked {
            command: header.command,
            header,
            payload: &message.payload,
            descriptors: message.descriptors.len(),
            sender: &sender,
            earlier,
        };
        let verdict = (shared.rule)(&asked);
        let (payload, fds) = match verdict {
            Verdict::Ordinary if asked.command == command::DEVICE_GET_REGION_IO_FDS => {
                // It has none, as most.
                let _ = sender.send(&header.failure(95), &[], &[]);
                continue;
            }
            Verdict::Ordinary => ordinary(message, shared, earlier),
            Verdict::Reply(payload, fds) => (payload, fds),
            Verdict::Refuse(errno) => {
                let _ = sender.send(&header.failure(errno as i32), &[], &[]);
                continue;
            }
            Verdict::Silence => continue,
            Verdict::Leave => return false,
            Verdict::Die(bytes) => {
                let _ = (&mut &*socket).write_all(&bytes);
                return false;
            }
        };
        shared.changed.notify_all();
        if !header.wants_no_reply() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let _ = sender.send(&header.reply(payload.len()), &[&payload], &fds);
        }
    }
}

/// Whether the other end of this socket has been let go of, soon.
pub fn is_closed(mut socket: &UnixStream) -> bool {
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.read(&mut [0]).unwrap() == 0
}
