//! A machine whose guest signals eventfds at addresses, as far as a drive needs one.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use devices::io_event::IoEvents;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// Has room for a number of eventfds, and counts its changes.
pub(super) struct Machine {
    connected: Mutex<BTreeMap<u64, Arc<EventFd>>>,
    pub(super) room: AtomicUsize,
    pub(super) changes: AtomicU64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            connected: Mutex::default(),
            room: AtomicUsize::new(1000),
            changes: AtomicU64::new(0),
        }
    }
}

impl Machine {
    /// Signals what is connected to `address`. Says whether anything is.
    pub(super) fn signal(&self, address: u64) -> bool {
        let connected = self.connected.lock().unwrap();
        let event = connected.get(&address);
        event.map(|event| event.write(1).unwrap()).is_some()
    }

    /// The addresses that are connected.
    pub(super) fn addresses(&self) -> Vec<u64> {
        self.connected.lock().unwrap().keys().copied().collect()
    }
}

impl IoEvents for Machine {
    fn connect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        let mut connected = self.connected.lock().unwrap();
        if (connected.get(&address.0)).is_some_and(|other| Arc::ptr_eq(other, event)) {
            return Ok(());
        }
        if connected.len() >= self.room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
        assert!(connected.insert(address.0, Arc::clone(event)).is_none());
        Ok(())
    }

    fn disconnect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        let mut connected = self.connected.lock().unwrap();
        if (connected.get(&address.0)).is_some_and(|other| Arc::ptr_eq(other, event)) {
            self.changes.fetch_add(1, Ordering::Relaxed);
            connected.remove(&address.0);
        }
        Ok(())
    }

    fn clear(&self, range: &RangeInclusive<u64>) {
        let mut connected = self.connected.lock().unwrap();
        connected.retain(|address, _| !range.contains(address));
    }
}
