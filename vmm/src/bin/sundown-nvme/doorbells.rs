//! The page of doorbells that a client maps: its guest writes there without a message, and a thread looks.
//!
//! The thread rests while the controller is off. While it is on, it looks all the time for a moment after
//! each change, then ever more seldom, at least once a millisecond.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::pci::PciFunction;
use nvme::{Controller, PolledDoorbells};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vfio_user::protocol::Area;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

const PAGE: u64 = 0x1000;
/// How long the thread looks all the time after a change.
const BUSY: Duration = Duration::from_micros(50);
/// The shortest and the longest time between two looks after that.
const NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// See the module's header.
pub struct DoorbellPage {
    file: File,
    mapping: MmapRegion,
    state: Mutex<State>,
    woken: Condvar,
}

struct State {
    /// What was last seen of each doorbell.
    seen: Vec<u32>,
    /// The controller is on.
    active: bool,
}

impl DoorbellPage {
    /// A page for a controller of `queues` I/O queue pairs.
    ///
    /// # Errors
    /// What the host says when it gives no memory.
    pub fn new(queues: u16) -> io::Result<Arc<Self>> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("doorbells", flags)?);
        // The page is where it is in the BAR: offsets in the file are those in the region.
        file.set_len(2 * PAGE)?;
        // A client could cut it off otherwise, and an access to what is not there ends this process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping =
            MmapRegion::from_file(FileOffset::new(file.try_clone()?, PAGE), PAGE as usize)
                .map_err(io::Error::other)?;
        Ok(Arc::new(Self {
            file,
            mapping,
            state: Mutex::new(State {
                seen: vec![0; 2 * (usize::from(queues) + 1)],
                active: false,
            }),
            woken: Condvar::new(),
        }))
    }

    /// Starts the thread, which ends with the process.
    ///
    /// # Errors
    /// What the host says when it gives no thread.
    pub fn watch(self: &Arc<Self>, controller: &Arc<Controller>) -> io::Result<()> {
        let (page, controller) = (Arc::clone(self), Arc::clone(controller));
        std::thread::Builder::new()
            .name("doorbells".into())
            .spawn(move || page.run(&controller))?;
        Ok(())
    }

    /// The file to be mapped, and which part of the BAR it stands for.
    pub fn shared(&self) -> (BorrowedFd<'_>, Area) {
        let area = Area {
            offset: PAGE,
            size: PAGE,
        };
        (self.file.as_fd(), area)
    }

    /// A doorbell that was rung by a message: at `offset` in the BAR. Says whether it is one of the page.
    pub fn ring(&self, controller: &Controller, offset: u64, data: &[u8]) -> bool {
        let Ok(raw) = <[u8; 4]>::try_from(data) else {
            return false;
        };
        let at = offset.wrapping_sub(PAGE);
        let mut state = self.lock();
        let Some(seen) = state.seen.get_mut((at / 4) as usize) else {
            return false;
        };
        if !at.is_multiple_of(4) {
            return false;
        }
        *seen = u32::from_le_bytes(raw);
        self.store((at / 4) as usize, *seen);
        controller.write_bar(0, offset, data);
        true
    }

    /// The controller is off: nothing is rung any more, and all doorbells are 0.
    pub fn rest(&self) {
        let mut state = self.lock();
        state.active = false;
        for index in 0..state.seen.len() {
            state.seen[index] = 0;
            self.store(index, 0);
        }
    }

    fn run(&self, controller: &Controller) {
        let mut nap = NAP;
        let mut changed = Instant::now();
        loop {
            let mut state = self.lock();
            while !state.active {
                state = self
                    .woken
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                changed = Instant::now();
            }
            // Rung with the lock held: a doorbell that is cleared meanwhile is not rung with its old value.
            if self.look(&mut state, controller) {
                (changed, nap) = (Instant::now(), NAP);
            }
            drop(state);
            if changed.elapsed() < BUSY {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(nap);
                nap = (nap * 2).min(LONGEST_NAP);
            }
        }
    }

    /// Rings every doorbell that has changed. Says whether one has.
    fn look(&self, state: &mut State, controller: &Controller) -> bool {
        let mut any = false;
        for (index, seen) in state.seen.iter_mut().enumerate() {
            let now = self.load(index);
            if now != *seen {
                *seen = now;
                any = true;
                controller.write_bar(0, PAGE + index as u64 * 4, &now.to_le_bytes());
            }
        }
        any
    }

    // The page has room for more doorbells than there are queues, so that neither access fails.
    fn load(&self, index: usize) -> u32 {
        let page = self.mapping.as_volatile_slice();
        u32::from_le(page.load(index * 4, Ordering::Acquire).unwrap_or(0))
    }

    fn store(&self, index: usize, value: u32) {
        let page = self.mapping.as_volatile_slice();
        let _ = page.store(value.to_le(), index * 4, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PolledDoorbells for DoorbellPage {
    fn clear(&self, index: usize) {
        let mut state = self.lock();
        if let Some(seen) = state.seen.get_mut(index) {
            *seen = 0;
            self.store(index, 0);
        }
        // The admin queues' come first.
        state.active = true;
        self.woken.notify_one();
    }
}
