//! Sends messages, whole and one at a time, for any thread; with an end to each wait for the peer's room.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

use super::{MOST_DESCRIPTORS, PATIENCE, WireError, wait};
use crate::protocol::Header;

/// See the module's header. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Sending>);

#[derive(Debug)]
struct Sending {
    socket: UnixStream,
    /// Some thread sends. Not held as a lock: who waits for its turn has a deadline too.
    taken: Mutex<bool>,
    free: Condvar,
    broken: AtomicBool,
}

impl Sender {
    /// A sender over `socket`.
    pub fn new(socket: UnixStream) -> Self {
        Self(Arc::new(Sending {
            socket,
            taken: Mutex::new(false),
            free: Condvar::new(),
            broken: AtomicBool::new(false),
        }))
    }

    /// Sends `header` and the `payload` that follows it. Waits for room, but not for long.
    ///
    /// # Errors
    /// When the message, or part of it, could not be sent: then the connection is closed.
    pub fn send(
        &self,
        header: &Header,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        let sent = self.send_by(header, payload, descriptors, Instant::now() + PATIENCE);
        if sent.is_err() {
            self.close();
        }
        sent
    }

    /// The same with a deadline of the caller's, which may have passed: then the message is sent if there is room
    /// for it now.
    ///
    /// # Errors
    /// When the message, or part of it, could not be sent: the connection stays as it is, and nothing more goes out
    /// after a part.
    pub fn send_by(
        &self,
        header: &Header,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        by: Instant,
    ) -> Result<(), WireError> {
        let sending = &*self.0;
        let _turn = sending.turn(by)?;
        if sending.broken.load(Ordering::Acquire) {
            return Err(WireError::Closed);
        }
        let mut parts = vec![header.as_bytes()];
        parts.extend_from_slice(payload);
        let sent = send_all(&sending.socket, parts, descriptors, by);
        if sent.is_err() {
            sending.broken.store(true, Ordering::Release);
        }
        sent
    }

    /// Ends the connection: both sides see it closed.
    pub fn close(&self) {
        self.0.broken.store(true, Ordering::Release);
        let _ = self.0.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Sends nothing more: the peer sees the end. This side still sees whether the peer lets go of its own.
    pub fn leave(&self) {
        self.0.broken.store(true, Ordering::Release);
        let _ = self.0.socket.shutdown(std::net::Shutdown::Write);
    }
}

/// The right to send. The next one has it when this is dropped.
struct Turn<'a>(&'a Sending);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.free.notify_one();
    }
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, by: Instant) -> Result<Turn<'_>, WireError> {
        let left = by.saturating_duration_since(Instant::now());
        let (mut taken, _) = self
            .free
            .wait_timeout_while(self.lock(), left, |taken| *taken)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken {
            // Whoever was notified in vain hands it on.
            self.free.notify_one();
            return Err(WireError::TooSlow("take a message"));
        }
        *taken = true;
        Ok(Turn(self))
    }
}

fn send_all(
    socket: &UnixStream,
    mut parts: Vec<&[u8]>,
    mut descriptors: &[BorrowedFd<'_>],
    by: Instant,
) -> Result<(), WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    while parts.iter().any(|part| !part.is_empty()) {
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(WireError::Descriptors);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut count = match sendmsg(socket, &slices, &mut control, flags) {
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                if !wait(socket.as_fd(), PollFlags::OUT, by)? {
                    return Err(WireError::TooSlow("take a message"));
                }
                continue;
            }
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
            Err(errno) => return Err(errno.into()),
        };
        // They went with the first byte.
        descriptors = &[];
        for part in &mut parts {
            let now = count.min(part.len());
            *part = &part[now..];
            count -= now;
        }
    }
    Ok(())
}
