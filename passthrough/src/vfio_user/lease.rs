//! Guest memory as one connection reaches it by messages, until that ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use vfio_user::Errno;
use vfio_user::client::Memory;

use super::guest_memory::ServedMemory;

/// See the module's header.
pub struct Lease {
    memory: ServedMemory,
    /// Held while an access is served.
    serving: Mutex<()>,
    ended: AtomicBool,
}

impl Lease {
    /// A lease of `memory` that begins now.
    pub fn new(memory: &ServedMemory) -> Self {
        Self {
            memory: memory.clone(),
            serving: Mutex::new(()),
            ended: AtomicBool::new(false),
        }
    }

    /// Refuses all accesses from now on. One that is being served goes on.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether it has ended: nothing is served any more once this says so. Waits for the end of one access.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) && {
            // Whoever has it next finds that the lease has ended.
            drop(self.serving.lock().unwrap_or_else(PoisonError::into_inner));
            true
        }
    }

    /// The memory.
    pub fn memory(&self) -> &ServedMemory {
        &self.memory
    }

    fn serve(&self, access: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let _serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        match self.ended.load(Ordering::Acquire) {
            true => Err(Errno::SHUTDOWN),
            false => access(),
        }
    }
}

impl Memory for Lease {
    fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.serve(|| self.memory.read(at, data))
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        self.serve(|| self.memory.write(at, data))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    use super::*;

    fn guest() -> GuestMemoryMmap<()> {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap()
    }

    #[test]
    fn an_ended_lease_reaches_nothing() {
        let guest = guest();
        let lease = Lease::new(&ServedMemory::new(&guest));
        lease.write(8, &[7]).unwrap();
        assert!(!lease.has_ended());
        lease.end();
        assert!(lease.has_ended());
        assert_eq!(lease.write(8, &[9]), Err(Errno::SHUTDOWN));
        assert_eq!(lease.read(8, &mut [0]), Err(Errno::SHUTDOWN));
        assert_eq!(guest.read_obj::<u8>(GuestAddress(8)).unwrap(), 7);
    }

    #[test]
    fn a_lease_has_not_ended_before_the_access_that_is_served() {
        let lease = Lease::new(&ServedMemory::new(&guest()));
        let (began, has_began) = channel();
        let (go_on, may_go_on) = channel();
        let served = AtomicBool::new(false);
        thread::scope(|scope| {
            let (serving, served) = (&lease, &served);
            scope.spawn(move || {
                serving.serve(|| {
                    began.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    served.store(true, Ordering::Release);
                    Ok(())
                })
            });
            has_began.recv().unwrap();
            lease.end();
            let asking = scope.spawn(|| lease.has_ended() && served.load(Ordering::Acquire));
            // Whether it asks before this or after it.
            go_on.send(()).unwrap();
            assert!(asking.join().unwrap());
        });
    }
}
