//! Sends messages, whole and one at a time, for any thread; with an end to each wait for the peer's room.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use zerocopy::IntoBytes;

use super::{MOST_DESCRIPTORS, PATIENCE, Wait, WireError, timespec};
use crate::protocol::Header;

/// Of what is kept, so much is copied to be sent at once: about what a socket has room for.
const PIECE: usize = 64 << 10;

/// See the module's header. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Sending>);

#[derive(Debug)]
struct Sending {
    socket: UnixStream,
    state: Mutex<State>,
    free: Condvar,
    broken: AtomicBool,
    /// Wakes who waits for room: whoever has the turn. Without it a wait ends when both directions are shut down.
    wake: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    /// Some thread sends. Not held as a lock: who waits for its turn has a deadline too.
    taken: bool,
    /// What nobody waits for: the end of a message whose sender was cancelled, and messages of [`Sender::keep`]. It goes
    /// out before all else.
    kept: Vec<u8>,
    /// When something of it was last sent, or it began.
    moved: Option<Instant>,
    cancels: u64,
}

/// What was sent before the peer had no more room and the wait for it was cancelled.
enum Sent {
    All,
    Part(usize),
}

impl Sender {
    /// A sender over `socket`, whose waits end by their deadlines alone.
    pub fn new(socket: UnixStream) -> Self {
        Self::with(socket, None)
    }

    /// A sender over `socket`, whose waits [`cancel`](Self::cancel) may end.
    ///
    /// # Errors
    /// When the host gives no eventfd.
    pub fn with_cancel(socket: UnixStream) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::with(socket, Some(wake)))
    }

    fn with(socket: UnixStream, wake: Option<OwnedFd>) -> Self {
        Self(Arc::new(Sending {
            socket,
            state: Mutex::default(),
            free: Condvar::new(),
            broken: AtomicBool::new(false),
            wake,
        }))
    }

    /// A wait until `by`, or until the next [`cancel`](Self::cancel).
    pub fn cancellable(&self, by: Instant) -> Wait {
        Wait {
            by,
            cancels: Some(self.0.lock().cancels),
        }
    }

    /// Ends all cancellable waits that have begun. The connection goes on: a message of which a part was sent is sent
    /// to its end before the next one.
    pub fn cancel(&self) {
        self.0.lock().cancels += 1;
        self.0.wake_all();
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

    /// The same with a wait of the caller's, whose moment may have passed: then the message is sent if there is room
    /// for it now.
    ///
    /// # Errors
    /// When the message, or part of it, could not be sent: the connection stays as it is, and nothing more goes out
    /// after a part. Where the wait was cancelled nothing of it was sent, and others go out.
    pub fn send_by(
        &self,
        header: &Header,
        payload: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        wait: impl Into<Wait>,
    ) -> Result<(), WireError> {
        let sending = &*self.0;
        let wait = wait.into();
        let turn = sending.turn(wait)?;
        if sending.is_broken() {
            return Err(WireError::Closed);
        }
        let mut parts = vec![header.as_bytes()];
        parts.extend_from_slice(payload);
        let sent = turn.send(&parts, descriptors, wait);
        if !matches!(sent, Ok(()) | Err(WireError::Cancelled)) {
            sending.broken.store(true, Ordering::Release);
        }
        sent
    }

    /// Sends a message and waits for nothing: what there is no room for is kept, and goes out before whatever is sent
    /// later, or by [`flush`](Self::flush). For the thread that reads: it has to go on, or a peer that does not read
    /// before it is read from, and this side, would wait for each other.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn keep(&self, header: &Header, payload: &[&[u8]]) -> Result<(), WireError> {
        {
            let mut state = self.0.lock();
            if state.kept.is_empty() {
                state.moved = Some(Instant::now());
            }
            state.kept.extend_from_slice(header.as_bytes());
            for part in payload {
                state.kept.extend_from_slice(part);
            }
        }
        self.flush()
    }

    /// Sends as much of what is kept as there is room for now. Who sends meanwhile does so too.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn flush(&self) -> Result<(), WireError> {
        let sending = &*self.0;
        if sending.is_broken() {
            return Err(WireError::Closed);
        }
        {
            let mut state = sending.lock();
            if state.kept.is_empty() || state.taken {
                return Ok(());
            }
            state.taken = true;
        }
        let sent = Turn(sending).send_kept(Wait::over());
        if sent.is_err() {
            sending.broken.store(true, Ordering::Release);
        }
        sent.map(drop)
    }

    /// How many bytes are kept, and since when the peer has taken none of them; `None` if there are none.
    pub fn kept(&self) -> Option<(usize, Instant)> {
        let state = self.0.lock();
        let moved = state.moved.filter(|_| !state.kept.is_empty())?;
        Some((state.kept.len(), moved))
    }

    /// Ends the connection: both sides see it closed, and whoever waits to send has an error at once.
    pub fn close(&self) {
        self.0.end(Shutdown::Both);
    }

    /// Sends nothing more: the peer sees the end, and whoever waits to send has an error at once. This side still sees
    /// whether the peer lets go of its own.
    pub fn leave(&self) {
        self.0.end(Shutdown::Write);
    }
}

/// The right to send. The next one has it when this is dropped.
struct Turn<'a>(&'a Sending);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().taken = false;
        self.0.free.notify_one();
    }
}

impl Turn<'_> {
    /// Sends what is kept, and this message. Once a part of it has gone out it counts as sent.
    fn send(
        &self,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        wait: Wait,
    ) -> Result<(), WireError> {
        if !self.send_kept(wait)? {
            return Err(WireError::Cancelled);
        }
        match self.0.send_all(parts.to_vec(), descriptors, wait)? {
            // Who kept something meanwhile left it to whoever has the turn.
            Sent::All => self.send_kept(Wait::over()).map(drop),
            Sent::Part(0) => Err(WireError::Cancelled),
            Sent::Part(count) => {
                let mut state = self.0.lock();
                let mut kept = parts.concat().split_off(count);
                kept.append(&mut state.kept);
                (state.kept, state.moved) = (kept, Some(Instant::now()));
                Ok(())
            }
        }
    }

    /// Sends what is kept; says whether all of it went out before the wait was cancelled.
    fn send_kept(&self, wait: Wait) -> Result<bool, WireError> {
        loop {
            let kept = {
                let state = self.0.lock();
                state.kept[..state.kept.len().min(PIECE)].to_vec()
            };
            if kept.is_empty() {
                return Ok(true);
            }
            let (count, is_all) = match self.0.send_all(vec![&kept], &[], wait)? {
                Sent::All => (kept.len(), true),
                Sent::Part(count) => (count, false),
            };
            let mut state = self.0.lock();
            // More may have come behind it.
            state.kept.drain(..count);
            if count > 0 {
                state.moved = Some(Instant::now());
            }
            if !is_all {
                return Ok(false);
            }
        }
    }
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn end(&self, direction: Shutdown) {
        {
            // Nobody begins to wait in between, who would not be woken.
            let _state = self.lock();
            self.broken.store(true, Ordering::Release);
        }
        let _ = self.socket.shutdown(direction);
        // The kernel says nothing to who waits for room where only this side's direction is shut down.
        self.wake_all();
    }

    /// Has all who wait look again whether they are to go on.
    fn wake_all(&self) {
        self.free.notify_all();
        if let Some(wake) = &self.wake {
            // Its counter is never full: who waits for room empties it.
            let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
    }

    fn turn(&self, wait: Wait) -> Result<Turn<'_>, WireError> {
        let left = wait.by.saturating_duration_since(Instant::now());
        let has_to_wait = |state: &mut State| state.taken && !state.ends(wait) && !self.is_broken();
        let (mut state, _) = self
            .free
            .wait_timeout_while(self.lock(), left, has_to_wait)
            .unwrap_or_else(PoisonError::into_inner);
        if state.taken || state.ends(wait) {
            // Whoever was notified in vain hands it on.
            self.free.notify_one();
            return Err(match state.ends(wait) {
                true => WireError::Cancelled,
                false if self.is_broken() => WireError::Closed,
                false => WireError::TooSlow("take a message"),
            });
        }
        state.taken = true;
        Ok(Turn(self))
    }

    fn send_all(
        &self,
        mut parts: Vec<&[u8]>,
        mut descriptors: &[BorrowedFd<'_>],
        wait: Wait,
    ) -> Result<Sent, WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut sent = 0;
        while parts.iter().any(|part| !part.is_empty()) {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty()
                && !control.push(SendAncillaryMessage::ScmRights(descriptors))
            {
                return Err(WireError::Descriptors);
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut count = match sendmsg(&self.socket, &slices, &mut control, flags) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => match self.wait_for_room(wait)? {
                    true => continue,
                    false => return Ok(Sent::Part(sent)),
                },
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
                Err(errno) => return Err(errno.into()),
            };
            sent += count;
            // They went with the first byte.
            descriptors = &[];
            for part in &mut parts {
                let now = count.min(part.len());
                *part = &part[now..];
                count -= now;
            }
        }
        Ok(Sent::All)
    }

    /// Waits for room; says whether it came, or the wait was cancelled. For whoever has the turn.
    fn wait_for_room(&self, wait: Wait) -> Result<bool, WireError> {
        let wake = self.wake.as_ref();
        loop {
            if self.lock().ends(wait) {
                return Ok(false);
            }
            if self.is_broken() {
                return Err(WireError::Closed);
            }
            let mut polled = vec![PollFd::from_borrowed_fd(
                self.socket.as_fd(),
                PollFlags::OUT,
            )];
            polled.extend(wake.map(|wake| PollFd::new(wake, PollFlags::IN)));
            let left = timespec(wait.by.saturating_duration_since(Instant::now()));
            match poll(&mut polled, Some(&left)) {
                Ok(0) => return Err(WireError::TooSlow("take a message")),
                Ok(_) if !polled[0].revents().is_empty() => return Ok(true),
                // The end, or a cancel: of this wait, or of another.
                Ok(_) => {
                    let _ = wake.map(|wake| rustix::io::read(wake, &mut [0; 8]));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl State {
    /// Whether this wait was cancelled.
    fn ends(&self, wait: Wait) -> bool {
        wait.cancels.is_some_and(|cancels| cancels != self.cancels)
    }
}
