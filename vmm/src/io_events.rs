//! KVM's ioeventfds: guest addresses at which a write signals an eventfd and goes on in the guest.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::io_event::IoEvents;
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// Most ioeventfds of a machine. KVM takes 1,000 on a bus, which its own devices are on too, and copies its
/// whole table for each change.
const MOST: usize = 768;

/// The two calls of KVM. One that it does not know, it need not forget.
trait Registrar: Send + Sync {
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()>;
    fn unregister(&self, address: u64, event: &EventFd) -> io::Result<()>;
}

impl Registrar for VmFd {
    fn register(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        self.register_ioevent(event, &address, NoDatamatch)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }

    fn unregister(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        match self.unregister_ioevent(event, &address, NoDatamatch) {
            Err(error) if error.errno() != libc::ENOENT => {
                Err(io::Error::from_raw_os_error(error.errno()))
            }
            _ => Ok(()),
        }
    }
}

/// The ioeventfds of one virtual machine.
///
/// They match writes of any width: KVM finds those without decoding the instruction, where the processor says
/// the address. The lock is held over the calls to KVM, which wait until every vCPU has left the old table, some
/// ten microseconds: for a vCPU only where a BAR moves.
pub struct IoEventTable {
    vm: Arc<dyn Registrar>,
    most: usize,
    connected: Mutex<BTreeMap<u64, Arc<EventFd>>>,
}

impl IoEventTable {
    /// An empty table of `vm`.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self {
            vm,
            most: MOST,
            connected: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<EventFd>>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl IoEvents for IoEventTable {
    fn connect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        let mut connected = self.lock();
        match connected.get(&address.0) {
            Some(there) if Arc::ptr_eq(there, event) => return Ok(()),
            Some(there) => {
                self.vm.unregister(address.0, there)?;
                connected.remove(&address.0);
            }
            None => {}
        }
        if connected.len() >= self.most {
            return Err(io::Error::other(format!(
                "the machine has {} ioeventfds, as many as it takes",
                self.most
            )));
        }
        self.vm.register(address.0, event)?;
        connected.insert(address.0, Arc::clone(event));
        Ok(())
    }

    fn disconnect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()> {
        let mut connected = self.lock();
        if let Some(there) = connected.get(&address.0)
            && Arc::ptr_eq(there, event)
        {
            self.vm.unregister(address.0, there)?;
            connected.remove(&address.0);
        }
        Ok(())
    }

    fn clear(&self, range: &RangeInclusive<u64>) {
        let mut connected = self.lock();
        let addresses: Vec<u64> = connected
            .range(range.clone())
            .map(|(address, _)| *address)
            .collect();
        for address in addresses {
            let Some(event) = connected.get(&address) else {
                continue;
            };
            match self.vm.unregister(address, event) {
                Ok(()) => drop(connected.remove(&address)),
                Err(error) => {
                    tracing::error!(address, %error, "an ioeventfd stays where a device has moved");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
