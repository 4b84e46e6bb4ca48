//! Device memory in the guest's address space: KVM's memory slots behind those of guest memory.
#![allow(unsafe_code)] // KVM_SET_USER_MEMORY_REGION takes a host address on trust.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::direct_map::{GuestMapper, MapSlot};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, MmapRegion};

/// The one call of KVM.
trait Slots: Send + Sync {
    /// Has `slot` be `memory` at `at`, or nothing.
    fn set(&self, slot: u32, at: GuestAddress, memory: Option<&MmapRegion>) -> io::Result<()>;
}

impl Slots for VmFd {
    fn set(&self, slot: u32, at: GuestAddress, memory: Option<&MmapRegion>) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: at.0,
            memory_size: memory.map_or(0, |memory| memory.size() as u64),
            userspace_addr: memory.map_or(0, |memory| memory.as_ptr() as u64),
        };
        // SAFETY: whoever has KVM map memory keeps it for as long as KVM has it (`DirectMap::mapped`), and it is
        // a device's memory that the guest may change at will.
        unsafe { self.set_user_memory_region(region) }
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}

/// What the guest reaches of devices' memory without an exit, in one virtual machine.
///
/// The lock is held over the call to KVM, which waits until every vCPU has left the old slots: for a vCPU only where
/// a BAR moves.
pub struct DirectMap {
    vm: Arc<dyn Slots>,
    /// The slots of guest memory come before, KVM has none from here on.
    slots: std::ops::Range<u32>,
    mapped: Mutex<BTreeMap<u32, Mapping>>,
}

struct Mapping {
    at: GuestAddress,
    /// Kept, since KVM has its address.
    _memory: Arc<MmapRegion>,
}

impl DirectMap {
    /// No mapping yet. `taken` slots are those of guest memory, of `all` that KVM has.
    pub fn new(vm: Arc<VmFd>, taken: usize, all: usize) -> Self {
        Self::over(vm, taken, all)
    }

    fn over(vm: Arc<dyn Slots>, taken: usize, all: usize) -> Self {
        let number = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
        Self {
            vm,
            slots: number(taken)..number(all),
            mapped: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Mapping>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuestMapper for DirectMap {
    fn map(&self, at: GuestAddress, memory: &Arc<MmapRegion>) -> io::Result<MapSlot> {
        let mut mapped = self.lock();
        let mut slots = self.slots.clone();
        let Some(slot) = slots.find(|slot| !mapped.contains_key(slot)) else {
            return Err(io::Error::other(format!(
                "the machine has {} mappings of device memory, as many as KVM takes",
                mapped.len()
            )));
        };
        self.vm.set(slot, at, Some(memory))?;
        let mapping = Mapping {
            at,
            _memory: Arc::clone(memory),
        };
        mapped.insert(slot, mapping);
        Ok(MapSlot(slot))
    }

    fn unmap(&self, MapSlot(slot): MapSlot) -> io::Result<()> {
        let mut mapped = self.lock();
        let Some(mapping) = mapped.get(&slot) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no mapping of device memory in slot {slot}"),
            ));
        };
        self.vm.set(slot, mapping.at, None)?;
        mapped.remove(&slot);
        Ok(())
    }
}

impl Drop for DirectMap {
    fn drop(&mut self) {
        let vm = Arc::clone(&self.vm);
        for (slot, mapping) in std::mem::take(&mut *self.lock()) {
            if let Err(error) = vm.set(slot, mapping.at, None) {
                tracing::error!(slot, %error, "device memory stays in the guest");
                // Whatever came to its address would be in the guest.
                std::mem::forget(mapping);
            }
        }
    }
}

#[cfg(test)]
mod tests;
