//! Transfers under way on an I/O thread's ring: started by a queue, continued where the kernel moved less
//! than was asked, cancelled, and told to their queue at their end. Nothing is allocated for one in the
//! steady state: places are used again.
#![allow(
    unsafe_code,
    reason = "a place keeps file, memory and vectors of an operation until its completion came"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use devices::memory::View;
use tracing::error;
use vmm_sys_util::eventfd::EventFd;

use super::Serve;
use super::lease::{Lease, Leases};
use super::place::{Owners, Place, Running};
use super::ring::{Direction, Operation, Ring};
use super::transfer::{Action, End, Ended, Handle, Transfer};
use super::watches::{WATCH, Watches};
use crate::namespace::Namespace;

/// Most vectors of one operation (IOV_MAX of Linux).
const VECTORS: usize = 1024;

/// See the module's header.
pub(crate) struct Transfers {
    ring: Option<Ring>,
    #[expect(
        clippy::vec_box,
        reason = "the kernel reads vectors in a place, which must not move"
    )]
    places: Vec<Box<Place>>,
    free: Vec<u32>,
    /// Places that the ring had no room for.
    backlog: VecDeque<u32>,
    /// Where the kernel puts the wake eventfd's counter.
    counter: Box<u64>,
    wake_armed: bool,
    found: Vec<(u64, i32, bool)>,
    watches: Watches,
    owners: Owners,
    leases: Leases,
    /// Transfers that the kernel does not know of yet.
    queued: u32,
}

const WAKE: u64 = u64::MAX;
/// Marks the completion of a cancellation.
const CANCEL: u64 = 1 << 63;

impl Transfers {
    /// Without a ring no transfer can be started.
    pub(super) fn new(ring: Option<Ring>) -> Self {
        Self {
            ring,
            places: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            counter: Box::default(),
            wake_armed: false,
            found: Vec::new(),
            watches: Watches::default(),
            owners: Owners::default(),
            leases: Leases::default(),
            queued: 0,
        }
    }

    /// Whether transfers can be started here; else the caller does its work by blocking calls.
    pub(crate) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// How many transfers wait to be handed to the kernel.
    pub(crate) fn queued(&self) -> u32 {
        self.queued
    }

    /// What a transfer needs; `None` where there is no ring here, or no file behind the namespace.
    pub(crate) fn lease(
        &mut self,
        namespace: &Arc<Namespace>,
        memory: &View,
        alignment: u64,
    ) -> Option<Arc<Lease>> {
        self.ring.as_ref()?;
        self.leases.take(namespace, memory, alignment)
    }

    /// Starts a transfer at the end of the burst. `owner` is told of its end by `tag`.
    pub(crate) fn start<S: Serve + 'static>(
        &mut self,
        owner: &Arc<S>,
        tag: u32,
        transfer: Transfer,
    ) -> Handle {
        let owner = self.owners.begin(owner);
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Box::new(Place {
                running: None,
                generation: 0,
            }));
            (self.places.len() - 1) as u32
        });
        let mut handle = 0;
        if let Some(place) = self.places.get_mut(index as usize) {
            // 31 bits: the highest one marks cancellations, and WAKE has all of them.
            place.generation = (place.generation + 1) & 0x7FFF_FFFF;
            place.running = Some(Running {
                owner,
                tag,
                transfer,
                first: 0,
                cancelled: false,
            });
            handle = u64::from(place.generation) << 32 | u64::from(index);
        }
        self.push(index);
        self.queued += 1;
        Handle(handle)
    }

    /// Asks the kernel to end a transfer early. Its owner is told of its end as of any other's, and before,
    /// where the kernel cannot cancel it, of that.
    pub(crate) fn cancel(&mut self, handle: Handle) {
        let Some(running) = self.running(handle.0) else {
            return;
        };
        running.cancelled = true;
        let index = handle.0 as u32;
        if let Some(waiting) = self.backlog.iter().position(|other| *other == index) {
            self.backlog.remove(waiting);
            self.end(handle.0, Ended::Cancelled);
            return;
        }
        let pushed = self
            .ring
            .as_mut()
            .is_some_and(|ring| ring.push_cancel(handle.0, handle.0 | CANCEL).is_ok());
        if !pushed {
            self.not_cancelled(handle.0);
        }
    }

    /// Whether eventfds can be watched here.
    pub(super) fn can_watch(&self) -> bool {
        self.ring.as_ref().is_none_or(Ring::can_watch)
    }

    /// Tells `owner` of signals of `event`, on this thread.
    pub(crate) fn watch(&mut self, owner: Arc<dyn Serve>, event: Arc<EventFd>) {
        self.watches.add(owner, event, self.ring.is_some());
    }

    /// Does not tell `owner` any more.
    pub(crate) fn unwatch(&mut self, owner: &Arc<dyn Serve>) {
        self.watches.remove(owner, self.ring.as_mut());
    }

    /// Hands what was started to the kernel, if there is anything.
    pub(crate) fn submit(&mut self) {
        self.leases.end();
        self.queued = 0;
        let Some(ring) = &mut self.ring else { return };
        self.watches.arm(ring);
        if ring.wants_submit()
            && let Err(failure) = ring.submit(false)
        {
            error!("an NVMe I/O thread cannot hand over its work: {failure}");
        }
    }

    /// Without a ring: waits for `wake` or an eventfd that is watched. Returns whether to read `wake` now.
    pub(super) fn sleep_without_ring(&mut self, wake: RawFd) -> bool {
        self.watches.wait(wake)
    }

    /// Waits for a completion or for the counter of `wake`. Without a ring, returns false at once.
    pub(super) fn sleep(&mut self, wake: RawFd) -> bool {
        let Some(ring) = &mut self.ring else {
            return false;
        };
        if !self.wake_armed {
            // SAFETY: the counter is on the heap and the eventfd open as long as this thread runs, which
            // does not end before the ring.
            match unsafe { ring.push_wake(wake, &raw mut *self.counter, WAKE) } {
                Ok(()) => self.wake_armed = true,
                // No room: there are completions to take first.
                Err(_) => return true,
            }
        }
        if let Err(failure) = ring.submit(true) {
            error!("an NVMe I/O thread cannot wait for its work: {failure}");
            return false;
        }
        true
    }

    /// Waits for a completion, if a transfer is under way.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        match &mut self.ring {
            Some(ring) if self.free.len() < self.places.len() => ring.submit(true),
            _ => Ok(()),
        }
    }

    /// Whether a completion waits, as far as that can be seen without asking the kernel.
    pub(super) fn has_completions(&self) -> bool {
        self.ring.as_ref().is_some_and(Ring::has_completions)
    }

    /// Takes completions and tells owners. Returns whether there were any.
    pub(crate) fn finish(&mut self) -> bool {
        let mut found = std::mem::take(&mut self.found);
        match &mut self.ring {
            Some(ring) => ring.reap(&mut found),
            None => self.watches.look(),
        }
        let any = !found.is_empty();
        for (tag, result, more) in found.drain(..) {
            if tag == WAKE {
                self.wake_armed = false;
            } else if tag & (CANCEL | WATCH) == WATCH {
                self.watches.completed(tag, result, more);
            } else if tag & CANCEL == 0 {
                self.completed(tag, result);
            } else if result < 0 {
                self.not_cancelled(tag & !CANCEL);
            }
        }
        self.found = found;
        for _ in 0..self.backlog.len() {
            if let Some(index) = self.backlog.pop_front() {
                self.push(index);
            }
        }
        self.owners.tell();
        any
    }

    fn running(&mut self, tag: u64) -> Option<&mut Running> {
        let place = self.places.get_mut(tag as u32 as usize)?;
        if place.generation != (tag >> 32) as u32 {
            return None;
        }
        place.running.as_mut()
    }

    fn push(&mut self, index: u32) {
        let (Some(ring), Some(place)) = (&mut self.ring, self.places.get(index as usize)) else {
            return;
        };
        let Some(running) = &place.running else {
            return;
        };
        let tag = u64::from(place.generation) << 32 | u64::from(index);
        let Transfer {
            lease,
            action,
            offset,
            vectors,
        } = &running.transfer;
        let left = &vectors[running.first.min(vectors.len())..];
        let direction = match *action {
            Action::Read => Some(Direction::Read),
            Action::Write { stable } => Some(Direction::Write { stable }),
            Action::Flush => None,
        };
        let operation = match (direction, left) {
            (None, _) => Operation::Sync,
            (Some(direction), [one]) if u32::try_from(one.iov_len).is_ok() => {
                Operation::Single(direction, one.iov_base.cast(), one.iov_len as u32)
            }
            (Some(direction), many) => {
                Operation::Vectored(direction, &many[..many.len().min(VECTORS)])
            }
        };
        // SAFETY: the place keeps the file open, the memory mapped and the vectors where they are: it is on
        // the heap, and emptied by the completion alone.
        let pushed = unsafe { ring.push(lease.file.as_raw_fd(), *offset, &operation, tag) };
        if pushed.is_err() {
            self.backlog.push_back(index);
        }
    }

    fn completed(&mut self, tag: u64, result: i32) {
        let Some(running) = self.running(tag) else {
            return;
        };
        let ended = match result {
            0.. if running.transfer.action == Action::Flush => Some(Ended::Done),
            0.. => running.advance(result as usize),
            _ => match -result {
                libc::ECANCELED => Some(Ended::Cancelled),
                libc::EINTR | libc::EAGAIN if running.cancelled => Some(Ended::Cancelled),
                libc::EINTR | libc::EAGAIN => None,
                errno => Some(Ended::Failed(io::Error::from_raw_os_error(errno))),
            },
        };
        match ended {
            Some(ended) => self.end(tag, ended),
            None => self.push(tag as u32),
        }
    }

    fn end(&mut self, tag: u64, ended: Ended) {
        let index = tag as u32;
        let place = self.places.get_mut(index as usize);
        let Some(running) = place.and_then(|place| place.running.take()) else {
            return;
        };
        self.free.push(index);
        let end = End {
            tag: running.tag,
            lease: running.transfer.lease,
            ended,
        };
        self.owners.end(running.owner, end);
    }

    fn not_cancelled(&mut self, tag: u64) {
        let Some(running) = self.running(tag) else {
            return;
        };
        let (owner, tag) = (running.owner, running.tag);
        if let Some(owner) = self.owners.get(owner) {
            owner.not_cancelled(tag);
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // Closing the ring ends the reading of the wake counter, but only soon: its memory is left to it.
        if self.wake_armed {
            std::mem::forget(std::mem::take(&mut self.counter));
        }
        // Every transfer keeps its queue, which then keeps the engine: there is none at the engine's end. A
        // thread that gave up may have some, and what they use stays for ever.
        if self.places.iter().any(|place| place.running.is_some()) {
            std::mem::forget(std::mem::take(&mut self.places));
        }
    }
}
