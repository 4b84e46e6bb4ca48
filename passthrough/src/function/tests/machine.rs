//! The machine around a function: keeps what it is told.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use devices::direct_map::{GuestMapper, MapSlot};
use devices::interrupt::{MsiMessage, MsiRouter, ResampledLine, Route};
use devices::io_event::IoEvents;
use vm_memory::{GuestAddress, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

/// A vector that is attached: its eventfd, as KVM would watch it.
pub(super) struct Attached {
    pub(super) event: EventFd,
    pub(super) message: Option<MsiMessage>,
}

#[derive(Default)]
pub(super) struct Router {
    pub(super) vectors: Mutex<Vec<Attached>>,
    pub(super) changes: AtomicUsize,
    pub(super) detached: AtomicUsize,
    pub(super) refuses: AtomicBool,
}

impl Router {
    /// How many interrupts came by a route since it was last asked.
    pub(super) fn taken(&self, route: usize) -> u64 {
        self.vectors.lock().unwrap()[route]
            .event
            .read()
            .unwrap_or(0)
    }

    pub(super) fn message(&self, route: usize) -> Option<MsiMessage> {
        self.vectors.lock().unwrap()[route].message
    }

    fn check(&self) -> io::Result<()> {
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            false => Ok(()),
        }
    }

    pub(super) fn attached(&self) -> usize {
        self.vectors.lock().unwrap().len()
    }
}

impl MsiRouter for Router {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        self.check()?;
        let mut all = self.vectors.lock().unwrap();
        let first = all.len() as u32;
        for event in vectors {
            all.push(Attached {
                event: event.try_clone()?,
                message: None,
            });
        }
        Ok((first..all.len() as u32).map(Route).collect())
    }

    fn set_messages(&self, changes: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        assert!(!changes.is_empty());
        self.check()?;
        self.changes.fetch_add(1, Ordering::Relaxed);
        let mut all = self.vectors.lock().unwrap();
        for (route, message) in changes {
            all[route.0 as usize].message = *message;
        }
        Ok(())
    }

    fn detach(&self, routes: &[(Route, &EventFd)]) {
        self.detached.fetch_add(routes.len(), Ordering::Relaxed);
    }
}

/// What the mapper was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    At(u64, u64),
    Gone(u64, u64),
}

#[derive(Default)]
pub(super) struct Mapper {
    next: AtomicU32,
    pub(super) refuses: AtomicBool,
    /// Refuses to take mappings away.
    pub(super) keeps: AtomicBool,
    slots: Mutex<BTreeMap<u32, (u64, u64)>>,
    pub(super) calls: Mutex<Vec<Mapped>>,
}

impl Mapper {
    /// What is mapped now: address and size.
    pub(super) fn now(&self) -> Vec<(u64, u64)> {
        let mut now: Vec<_> = self.slots.lock().unwrap().values().copied().collect();
        now.sort_unstable();
        now
    }

    pub(super) fn take_calls(&self) -> Vec<Mapped> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl GuestMapper for Mapper {
    fn map(&self, at: GuestAddress, memory: &Arc<MmapRegion>) -> io::Result<MapSlot> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let size = memory.size() as u64;
        assert!(at.0.is_multiple_of(4096) && size.is_multiple_of(4096));
        let mut slots = self.slots.lock().unwrap();
        let free = |(start, length): &(u64, u64)| at.0 + size <= *start || start + length <= at.0;
        assert!(slots.values().all(free), "mapped over another");
        let slot = self.next.fetch_add(1, Ordering::Relaxed);
        slots.insert(slot, (at.0, size));
        self.calls.lock().unwrap().push(Mapped::At(at.0, size));
        Ok(MapSlot(slot))
    }

    fn unmap(&self, slot: MapSlot) -> io::Result<()> {
        if self.keeps.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let (at, size) = self.slots.lock().unwrap().remove(&slot.0).expect("mapped");
        self.calls.lock().unwrap().push(Mapped::Gone(at, size));
        Ok(())
    }
}

/// Which writes signal what now.
#[derive(Default)]
pub(super) struct Events {
    connected: Mutex<BTreeMap<u64, Arc<EventFd>>>,
    pub(super) refuses: AtomicBool,
}

impl Events {
    /// The addresses.
    pub(super) fn now(&self) -> Vec<u64> {
        self.connected.lock().unwrap().keys().copied().collect()
    }

    /// Whether a write there signals this eventfd.
    pub(super) fn signals(&self, at: u64, event: &Arc<EventFd>) -> bool {
        let connected = self.connected.lock().unwrap();
        connected
            .get(&at)
            .is_some_and(|there| Arc::ptr_eq(there, event))
    }
}

impl IoEvents for Events {
    fn connect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let mut connected = self.connected.lock().unwrap();
        connected.insert(address.0, Arc::clone(event));
        Ok(())
    }

    fn disconnect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        if self.signals(address.0, event) {
            self.connected.lock().unwrap().remove(&address.0);
        }
        Ok(())
    }

    fn clear(&self, range: &RangeInclusive<u64>) {
        let mut connected = self.connected.lock().unwrap();
        connected.retain(|address, _| !range.contains(address));
    }
}

/// A line that keeps the eventfds it is given.
#[derive(Default)]
pub(super) struct Line {
    pub(super) ends: Mutex<Option<(EventFd, EventFd)>>,
    pub(super) connects: AtomicUsize,
}

impl Line {
    pub(super) fn is_connected(&self) -> bool {
        self.ends.lock().unwrap().is_some()
    }

    /// Whether the line was asserted since it was last asked.
    pub(super) fn taken(&self) -> bool {
        let ends = self.ends.lock().unwrap();
        ends.as_ref()
            .is_some_and(|(trigger, _)| trigger.read().is_ok())
    }

    /// The guest ends its interrupt.
    pub(super) fn end(&self) {
        let ends = self.ends.lock().unwrap();
        ends.as_ref().unwrap().1.write(1).unwrap();
    }
}

impl ResampledLine for Line {
    fn connect(&self, trigger: &EventFd, resample: &EventFd) -> io::Result<()> {
        let ends = (trigger.try_clone()?, resample.try_clone()?);
        let before = self.ends.lock().unwrap().replace(ends);
        assert!(before.is_none(), "connected twice");
        self.connects.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn disconnect(&self, trigger: &EventFd) -> io::Result<()> {
        assert!(trigger.as_raw_fd() >= 0);
        let before = self.ends.lock().unwrap().take();
        assert!(before.is_some(), "disconnected twice");
        Ok(())
    }
}
