//! A guest's driver for measurements: one I/O queue pair, shadow doorbells as Linux uses them. It looks for
//! completions for a while and then waits for the interrupt, as a guest that halts does. Reads of 4 KiB, each
//! command with a page of its own.

mod start;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

use devices::interrupt::{MsiMessage, MsiRouter, Route};
use devices::memory::{Access, GuestMemory, GuestSlice};
use devices::pci::{Attachment, PciFunction};
use nvme::spec::Submission;
use nvme::spec::command::io as opcode;
use nvme::spec::registers::offset;
use nvme::{
    Backend, Behaviour, Connections, Controller, ControllerConfig, Engine, NamespaceConfig, Steps,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::IntoBytes;

pub const PAGE: u64 = 4096;
const MEMORY: u64 = 16 << 20;
/// Looks for a completion before the guest halts.
const LOOKS: u32 = 128;
/// Entries of a queue.
const ENTRIES: u32 = 1024;
const ADMIN: Queue = Queue {
    submissions: 0x10_0000,
    completions: 0x11_0000,
};
const IO: Queue = Queue {
    submissions: 0x20_0000,
    completions: 0x24_0000,
};
/// The interrupt vector of the I/O queue.
const VECTOR: u16 = 1;
const SHADOW: u64 = 0x30_0000;
const DATA: u64 = 0x40_0000;

struct Queue {
    submissions: u64,
    completions: u64,
}

/// An interrupt routing that leads nowhere.
struct NoRoutes;

impl MsiRouter for NoRoutes {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        Ok((0..).map(Route).take(vectors.len()).collect())
    }
    fn set_messages(&self, _: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }
    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

/// Guest memory for any number of drives that are used one after the other.
pub fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).expect("guest memory")
}

/// A drive that is enabled, and its driver.
pub struct Guest {
    memory: GuestMemory,
    pub controller: Arc<Controller>,
    /// Guest memory in the host's address space.
    base: usize,
    tails: [u32; 2],
    heads: [u32; 2],
    phases: [bool; 2],
    blocks: u64,
    /// For blocks at random: a linear congruential generator.
    state: u64,
    /// The work of an engine without threads.
    steps: Option<Steps>,
}

impl Guest {
    /// A drive on `backend` with `queues` I/O queue pairs, of which the first is used.
    pub fn new(
        engine: &Arc<Engine>,
        memory: &GuestMemory,
        backend: Arc<dyn Backend>,
        queues: u16,
    ) -> Self {
        Self::with(engine, None, memory, backend, queues)
    }

    /// The same in one thread with its drive, which takes `steps` where the guest waits.
    pub fn stepped(
        (engine, steps): (Arc<Engine>, Steps),
        memory: &GuestMemory,
        backend: Arc<dyn Backend>,
    ) -> Self {
        Self::with(&engine, Some(steps), memory, backend, 1)
    }

    fn with(
        engine: &Arc<Engine>,
        steps: Option<Steps>,
        memory: &GuestMemory,
        backend: Arc<dyn Backend>,
        queues: u16,
    ) -> Self {
        let blocks = backend.size() / PAGE;
        let config = ControllerConfig {
            id: "bench".into(),
            serial: "SD0001".into(),
            model: "Sundown NVMe".into(),
            firmware: "1.0".into(),
            namespaces: vec![NamespaceConfig {
                block_size: PAGE as u32,
                ..NamespaceConfig::new(backend)
            }],
            write_cache: true,
            namespace_store: None,
            state: None,
            behaviour: Behaviour::default(),
            seed: 1,
            queue_limit: queues,
            vectors: None,
            attachment: Attachment::Express,
        };
        let connections = Connections {
            engine: Arc::clone(engine),
            memory: memory.clone(),
            router: Arc::new(NoRoutes),
            intx: None,
            io_events: None,
        };
        let controller = Controller::new(config, connections).expect("a controller");
        let map = memory.snapshot();
        let mut slices: Vec<GuestSlice<'_>> = Vec::new();
        map.slices(GuestAddress(0), MEMORY as usize, Access::Write, &mut slices)
            .expect("mapped memory");
        let base = slices[0].ptr_guard_mut().as_ptr() as usize;
        let mut guest = Self {
            memory: memory.clone(),
            controller,
            base,
            tails: [0; 2],
            heads: [0; 2],
            phases: [true; 2],
            blocks,
            state: 1,
            steps,
        };
        guest.enable();
        guest.configure(queues);
        guest
    }

    /// Runs reads with `depth` of them under way at a time, for as long as `more` says so, which is asked
    /// every 1024 reads. Returns how many were done.
    pub fn reads(&mut self, depth: u16, mut more: impl FnMut() -> bool) -> u64 {
        for cid in 0..depth {
            self.read(cid);
        }
        self.ring(8, self.tails[1]);
        let (mut done, mut under_way, mut goes_on) = (0_u64, u64::from(depth), true);
        let mut looks = 0;
        while under_way > 0 {
            let mut burst = 0;
            while let Some(cid) = self.poll(1) {
                burst += 1;
                done += 1;
                if done.is_multiple_of(1024) {
                    goes_on = more();
                }
                if goes_on {
                    self.read(cid);
                } else {
                    under_way -= 1;
                }
                if burst == depth {
                    break;
                }
            }
            if burst > 0 {
                self.ring(8, self.tails[1]);
                self.ring(12, self.heads[1]);
                looks = 0;
            } else {
                self.wait(looks);
                looks += 1;
            }
        }
        done
    }

    /// Waits a little for what has not come in `looks` looks.
    fn wait(&mut self, looks: u32) {
        match &mut self.steps {
            // Nothing comes of itself but the end of a transfer.
            Some(steps) => {
                if !steps.step() && looks > 0 {
                    steps.wait().expect("io_uring");
                }
            }
            None if looks < LOOKS => std::hint::spin_loop(),
            None => self.halt(),
        }
    }

    /// Gives the CPU away until the I/O queue interrupts, for a moment at most: the admin queue does not.
    fn halt(&self) {
        let msix = self.controller.msix().expect("MSI-X");
        let event = msix.event(VECTOR).expect("the queue's vector");
        // SAFETY: the event, open as long as the controller, outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        };
        let _ = poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&moment),
        );
        // Nothing to read is no reason to stop: completions are looked for anyway.
        let _ = event.read();
    }

    fn read(&mut self, cid: u16) {
        self.state = (self.state.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
        let block = (self.state >> 33) % self.blocks;
        self.push(
            1,
            Submission {
                opcode: opcode::READ,
                cid,
                nsid: 1,
                prp1: DATA + u64::from(cid) * PAGE,
                cdw10: block as u32,
                ..Submission::zeroed()
            },
        );
    }

    fn push(&mut self, queue: usize, command: Submission) {
        let base = [ADMIN.submissions, IO.submissions][queue];
        let at = self.base + (base + u64::from(self.tails[queue]) * 64) as usize;
        // SAFETY: the entry lies in guest memory, which `self.memory` keeps mapped, and belongs to the host
        // until the doorbell.
        unsafe {
            let bytes = command.as_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
        }
        self.tails[queue] = (self.tails[queue] + 1) % ENTRIES;
    }

    /// The identifier of the next command that has completed.
    fn poll(&mut self, queue: usize) -> Option<u16> {
        let base = [ADMIN.completions, IO.completions][queue];
        let at = base + u64::from(self.heads[queue]) * 16;
        let status = self.half(at + 14).load(Ordering::Acquire);
        if (status & 1 == 1) != self.phases[queue] {
            return None;
        }
        assert_eq!(status >> 1, 0, "a command failed");
        let cid = self.half(at + 12).load(Ordering::Relaxed);
        self.heads[queue] += 1;
        if self.heads[queue] == ENTRIES {
            (self.heads[queue], self.phases[queue]) = (0, !self.phases[queue]);
        }
        Some(cid)
    }

    /// As Linux does it (`nvme_dbbuf_update_and_check_event`).
    fn ring(&self, at: u64, value: u32) {
        let old = self.word(SHADOW + at).swap(value, Ordering::Release) as u16;
        fence(Ordering::SeqCst);
        let event = self.word(SHADOW + PAGE + at).load(Ordering::Acquire) as u16;
        let new = value as u16;
        if new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            self.write(offset::DOORBELLS + at, value);
        }
    }

    fn write(&self, at: u64, value: u32) {
        self.controller.write_bar(0, at, &value.to_le_bytes());
    }

    fn word(&self, at: u64) -> &AtomicU32 {
        // SAFETY: aligned, in guest memory that `self.memory` keeps mapped, and shared by atomics alone.
        unsafe { AtomicU32::from_ptr((self.base + at as usize) as *mut u32) }
    }

    fn half(&self, at: u64) -> &AtomicU16 {
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr((self.base + at as usize) as *mut u16) }
    }
}
