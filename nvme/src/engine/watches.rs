//! The eventfds that an I/O thread watches on behalf of its queues: by its ring, or where there is none by an
//! epoll instance.
//!
//! Nobody reads their counters. Each signal of an eventfd tells its owner at least once, or once with others
//! that came before the owner was told. One that was signalled before it is watched tells its owner at once.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use tracing::error;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::Serve;
use super::ring::Ring;

/// Marks the completions of watches.
pub(super) const WATCH: u64 = 1 << 31;
/// What the thread's own eventfd has in place of a watch's tag.
const WAKE: u64 = u64::MAX;
/// Eventfds taken from the epoll instance at once.
const BURST: usize = 32;

/// See the module's header.
#[derive(Default)]
pub(super) struct Watches {
    slots: Vec<Slot>,
    /// How many watches the ring does not know of yet.
    unarmed: usize,
    epoll: Option<Epoll>,
    /// The thread's own eventfd is in there too.
    has_wake: bool,
}

#[derive(Default)]
struct Slot {
    /// Tells the completions of an earlier watch from those of this one.
    generation: u32,
    watch: Option<Watch>,
}

struct Watch {
    owner: Arc<dyn Serve>,
    event: Arc<EventFd>,
    armed: bool,
}

fn tag((index, slot): (usize, &Slot)) -> u64 {
    u64::from(slot.generation) << 32 | WATCH | index as u64
}

impl Watches {
    /// Tells `owner` of signals of `event`.
    pub(super) fn add(&mut self, owner: Arc<dyn Serve>, event: Arc<EventFd>, with_ring: bool) {
        let index = (self.slots.iter())
            .position(|slot| slot.watch.is_none())
            .unwrap_or_else(|| {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            });
        let slot = &mut self.slots[index];
        slot.generation = (slot.generation + 1) & 0x7FFF_FFFF;
        let tag = tag((index, slot));
        if with_ring {
            self.unarmed += 1;
        } else if let Err(failure) = self.poll_for(&event, tag) {
            return refuse(&*owner, &failure);
        }
        self.slots[index].watch = Some(Watch {
            owner,
            event,
            armed: !with_ring,
        });
    }

    /// Does not tell `owner` any more.
    pub(super) fn remove(&mut self, owner: &Arc<dyn Serve>, ring: Option<&mut Ring>) {
        let of_owner = |slot: &(usize, &mut Slot)| {
            let watch = slot.1.watch.as_ref();
            watch.is_some_and(|watch| Arc::ptr_eq(&watch.owner, owner))
        };
        let Some((index, slot)) = self.slots.iter_mut().enumerate().find(of_owner) else {
            return;
        };
        let tag = tag((index, slot));
        let Some(watch) = slot.watch.take() else {
            return;
        };
        match (ring, &self.epoll) {
            (Some(_), _) if !watch.armed => self.unarmed -= 1,
            // Where there is no room the ring goes on watching: what it finds belongs to nobody.
            (Some(ring), _) => drop(ring.push_cancel(tag, tag | 1 << 63)),
            (None, Some(epoll)) => {
                let event = EpollEvent::default();
                let _ = epoll.ctl(ControlOperation::Delete, watch.event.as_raw_fd(), event);
            }
            (None, None) => {}
        }
    }

    /// Has the ring watch what it does not watch yet.
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        if self.unarmed == 0 {
            return;
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let tag = tag((index, slot));
            if let Some(watch) = slot.watch.as_mut().filter(|watch| !watch.armed) {
                // No room: again when there is.
                if ring.push_poll(watch.event.as_raw_fd(), tag).is_err() {
                    return;
                }
                watch.armed = true;
                self.unarmed -= 1;
            }
        }
    }

    /// A completion of a watch; `more` where others will come. Tells its owner.
    pub(super) fn completed(&mut self, tag: u64, result: i32, more: bool) {
        let index = (tag & (WATCH - 1)) as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.generation != (tag >> 32) as u32 {
            return;
        }
        let Some(watch) = &mut slot.watch else { return };
        let owner = Arc::clone(&watch.owner);
        if result < 0 {
            slot.watch = None;
            return refuse(&*owner, &io::Error::from_raw_os_error(-result));
        }
        if !more {
            watch.armed = false;
            self.unarmed += 1;
        }
        owner.rang();
    }

    /// Without a ring: waits until `wake` can be read or a watched eventfd has told its owner. Returns whether
    /// the thread is to read `wake`, which waits for nothing else where nothing is watched.
    pub(super) fn wait(&mut self, wake: RawFd) -> bool {
        let Some(epoll) = &self.epoll else {
            return true;
        };
        if !self.has_wake {
            let event = EpollEvent::new(EventSet::IN, WAKE);
            if let Err(failure) = epoll.ctl(ControlOperation::Add, wake, event) {
                self.give_up(&failure);
                return true;
            }
            self.has_wake = true;
        }
        self.poll(-1)
    }

    /// Without a ring: tells the owners of eventfds that were signalled.
    pub(super) fn look(&mut self) {
        self.poll(0);
    }

    /// The same, after `timeout` milliseconds at the latest unless that is -1. Returns whether the thread's own
    /// eventfd can be read.
    fn poll(&mut self, timeout: i32) -> bool {
        let Some(epoll) = &self.epoll else {
            return false;
        };
        let mut found = [EpollEvent::default(); BURST];
        let count = match epoll.wait(timeout, &mut found) {
            Ok(count) => count,
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => 0,
            Err(failure) => {
                self.give_up(&failure);
                return timeout < 0;
            }
        };
        let mut woken = false;
        for event in found.iter().take(count) {
            match event.data() {
                WAKE => woken = true,
                tag => self.completed(tag, 0, true),
            }
        }
        woken
    }

    fn poll_for(&mut self, event: &EventFd, tag: u64) -> io::Result<()> {
        let epoll = match &mut self.epoll {
            Some(epoll) => epoll,
            none => none.insert(Epoll::new()?),
        };
        // Nobody reads the counter: what counts is that it changes.
        let wanted = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, tag);
        epoll.ctl(ControlOperation::Add, event.as_raw_fd(), wanted)
    }

    /// Nothing can be watched any more.
    fn give_up(&mut self, failure: &io::Error) {
        self.epoll = None;
        for slot in &mut self.slots {
            if let Some(watch) = slot.watch.take() {
                refuse(&*watch.owner, failure);
            }
        }
    }
}

fn refuse(owner: &dyn Serve, failure: &io::Error) {
    error!("an NVMe I/O thread cannot watch an eventfd: {failure}");
    owner.unwatched();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::engine::{Transfers, Turn};

    #[derive(Default)]
    struct Counting {
        rings: AtomicU32,
        refusals: AtomicU32,
    }

    impl Serve for Counting {
        fn serve(self: Arc<Self>, _: &mut Transfers) -> Turn {
            Turn::Done
        }
        fn rang(&self) {
            self.rings.fetch_add(1, Ordering::Relaxed);
        }
        fn unwatched(&self) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_cannot_be_told_of_signals_is_told_of_that_and_nobody_else() {
        let mut watches = Watches::default();
        let owners = [(); 2].map(|()| Arc::new(Counting::default()));
        let event = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        // An epoll instance takes a descriptor once.
        for owner in &owners {
            watches.add(Arc::clone(owner) as _, Arc::clone(&event), false);
        }
        event.write(1).unwrap();
        watches.look();
        let counts = |owner: &Counting| {
            (
                owner.rings.load(Ordering::Relaxed),
                owner.refusals.load(Ordering::Relaxed),
            )
        };
        assert_eq!(
            owners.each_ref().map(|owner| counts(owner)),
            [(1, 0), (0, 1)]
        );
        // As a ring's kernel says it.
        let tag = tag((0, &watches.slots[0]));
        watches.completed(tag, -libc::EBADF, false);
        assert_eq!(counts(&owners[0]), (1, 1));
        watches.completed(tag, 0, true);
        assert_eq!(counts(&owners[0]), (1, 1), "it is forgotten");
    }
}
