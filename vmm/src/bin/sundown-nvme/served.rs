//! The controller as a client sees it: regions, interrupts, memory and resets of a VFIO device.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::lifecycle::{Deadline, Device as _, Finish, Phases};
use devices::memory::GuestMemory;
use devices::pci::PciFunction;
use nvme::Controller;
use rustix::io::Errno;
use tracing::{debug, warn};
use vfio_user::dma::PeerMemory;
use vfio_user::protocol::{region, region_flag};
use vfio_user::server::{Device, IoEvent, IrqRequest, MapRequest, Region, UnmapRequest, Unmapped};

use crate::doorbells::DoorbellPage;
use crate::interrupts::Interrupts;
use crate::io_events;
use crate::memory;
use crate::pin::Pin;
use crate::relief::Relief;

/// How long the drive may take to come to rest and let go of memory when a client leaves.
const REST_WITHIN: Duration = Duration::from_secs(10);
/// How long a reset may take that a client asks for. Clients wait five seconds for an answer; QEMU gives the
/// connection up when one comes later. A modelled latency beyond that is cut short.
const RESET_WITHIN: Duration = Duration::from_secs(4);
/// Bytes of a PCI Express function's configuration space.
const CONFIG_SIZE: u64 = 4096;
const FIRST_BAR: u16 = 0x10;

/// See the module's header.
pub struct ServedDrive {
    controller: Arc<Controller>,
    memory: GuestMemory,
    pin: Arc<Pin>,
    /// None only for a controller without MSI-X, which there is not.
    interrupts: Option<Arc<Interrupts>>,
    relief: Relief,
    /// Sizes of the BARs in bytes.
    bars: [u64; 6],
    peer: Mutex<Option<PeerMemory>>,
    /// Doorbells that clients map, where they may.
    page: Option<Arc<DoorbellPage>>,
}

impl ServedDrive {
    /// Serves `controller`, whose guest memory is `memory` and whose pin ends at `pin`.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub fn new(
        controller: Arc<Controller>,
        memory: GuestMemory,
        pin: Arc<Pin>,
        page: Option<Arc<DoorbellPage>>,
    ) -> io::Result<Self> {
        let msix = controller.msix();
        let interrupts =
            msix.map(|msix| Arc::new(Interrupts::new(Arc::clone(&pin), Arc::clone(msix))));
        let held_up = interrupts.clone();
        let relief = Relief::start(move || {
            if let Some(interrupts) = &held_up {
                interrupts.let_go();
            }
        })?;
        Ok(Self {
            bars: bar_sizes(&*controller),
            controller,
            memory,
            pin,
            interrupts,
            relief,
            peer: Mutex::default(),
            page,
        })
    }

    /// Brings the drive to its state after power-on, with nothing under way.
    fn rest(&self, within: Duration) -> Result<(), Errno> {
        if let Some(interrupts) = &self.interrupts {
            interrupts.let_go();
        }
        let mut phases = Phases::default();
        let by = Instant::now() + within;
        let ended = self
            .controller
            .shut_down(Deadline::after(within), &mut phases);
        if let Some(page) = &self.page {
            page.rest();
        }
        match ended {
            Ok(Finish::Now) => Ok(()),
            Ok(Finish::At(at)) => {
                std::thread::sleep(at.min(by).saturating_duration_since(Instant::now()));
                Ok(())
            }
            Err(error) => {
                warn!(%error, "resetting the drive");
                Err(Errno::IO)
            }
        }
    }

    fn peer(&self) -> MutexGuard<'_, Option<PeerMemory>> {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out the sizes of BARs as firmware does: what stays of all ones.
fn bar_sizes(function: &dyn PciFunction) -> [u64; 6] {
    let probe = |register: u16| {
        let at = FIRST_BAR + register * 4;
        let before = function.read_config(at);
        let _ = function.write_config(at, u32::MAX, u32::MAX);
        let found = function.read_config(at);
        let _ = function.write_config(at, before, u32::MAX);
        found
    };
    let mut sizes = [0; 6];
    let mut register = 0;
    while register < 6 {
        let low = probe(register);
        let wide = low & 0b110 == 0b100 && register < 5;
        let high = if wide { probe(register + 1) } else { u32::MAX };
        let mask = u64::from(high) << 32 | u64::from(low & !0xF);
        if low != 0 {
            sizes[usize::from(register)] = (!mask).wrapping_add(1);
        }
        register += if wide { 2 } else { 1 };
    }
    sizes
}

/// The registers of 32 bits that an access touches: each with its bytes' places in it and in the access.
fn registers(offset: u64, len: usize) -> impl Iterator<Item = (u16, usize, usize)> {
    (0..len).map(move |place| {
        let at = offset + place as u64;
        ((at & !3) as u16, (at % 4) as usize, place)
    })
}

impl Device for ServedDrive {
    fn attach(&self, memory: &PeerMemory) {
        *self.peer() = Some(memory.clone());
    }

    fn detach(&self) {
        let _call = self.relief.begin();
        // An error is in the log; the next client finds a drive that becomes ready when it can. Once more, since a
        // client that holds a thread up in a signal may have done so again.
        let _ = self.rest(REST_WITHIN).or_else(|_| self.rest(REST_WITHIN));
        if let Some(interrupts) = &self.interrupts {
            interrupts.disconnect();
        }
        *self.peer() = None;
        let (tell, told) = sync_channel(1);
        self.memory.clear(move || {
            let _ = tell.send(());
        });
        if told.recv_timeout(REST_WITHIN).is_err() {
            warn!("the storage still reads to memory of the client that left, or writes from it");
        }
    }

    fn leave(&self) {
        let _call = self.relief.begin();
        if let Some(interrupts) = &self.interrupts {
            interrupts.ask_for_release();
        }
    }

    fn region(&self, index: u32) -> Region<'_> {
        let bar = self.bars.get(index as usize).copied();
        let size = match index {
            region::CONFIG => CONFIG_SIZE,
            _ => bar.unwrap_or(0),
        };
        let both = region_flag::READ | region_flag::WRITE;
        let page = self.page.as_ref().filter(|_| index == region::BAR0);
        let shared = page.map(|page| page.shared());
        Region {
            size,
            flags: if size > 0 { both } else { 0 },
            file: shared.map(|(file, _)| file),
            areas: shared.into_iter().map(|(_, area)| area).collect(),
        }
    }

    fn read(&self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let _call = self.relief.begin();
        if index != region::CONFIG {
            self.controller.read_bar(index as u8, offset, data);
            return Ok(());
        }
        for (register, lane, place) in registers(offset, data.len()) {
            data[place] = self.controller.read_config(register).to_le_bytes()[lane];
        }
        Ok(())
    }

    fn write(&self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let _call = self.relief.begin();
        if index != region::CONFIG {
            let page = self.page.as_ref().filter(|_| index == region::BAR0);
            if !page.is_some_and(|page| page.ring(&self.controller, offset, data)) {
                self.controller.write_bar(index as u8, offset, data);
            }
            return Ok(());
        }
        // All bytes of a register at once: some registers act on being written.
        let mut bytes = registers(offset, data.len()).peekable();
        while let Some(&(register, ..)) = bytes.peek() {
            let (mut value, mut mask) = ([0; 4], [0; 4]);
            while let Some((_, lane, place)) = bytes.next_if(|(same, ..)| *same == register) {
                (value[lane], mask[lane]) = (data[place], 0xFF);
            }
            let (value, mask) = (u32::from_le_bytes(value), u32::from_le_bytes(mask));
            // A client places BARs itself.
            let _ = self.controller.write_config(register, value, mask);
        }
        Ok(())
    }

    /// Tails of queues with shadow doorbells, until the controller is reset in whatever way. A page that is mapped
    /// needs no eventfds.
    fn io_events(&self, index: u32) -> Vec<IoEvent> {
        if index != region::BAR0 || self.page.is_some() {
            return Vec::new();
        }
        let events = self.controller.doorbell_events().into_iter();
        let given = events.filter_map(|(offset, event)| {
            Some(IoEvent {
                offset,
                size: 4,
                event: io_events::descriptor(&event).ok()?,
            })
        });
        given.collect()
    }

    fn irqs(&self, index: u32) -> (u32, u32) {
        let interrupts = self.interrupts.as_ref();
        interrupts.map_or((0, 0), |interrupts| interrupts.count(index))
    }

    fn set_irqs(&self, request: IrqRequest) -> Result<(), Errno> {
        let _call = self.relief.begin();
        match &self.interrupts {
            Some(interrupts) => interrupts.set(request),
            None => Err(Errno::INVAL),
        }
    }

    fn map(&self, request: MapRequest) -> Result<(), Errno> {
        let peer = self.peer().clone().ok_or(Errno::INVAL)?;
        memory::map(&self.memory, &peer, request)
    }

    fn unmap(&self, request: UnmapRequest, then: Unmapped) -> Result<(), Errno> {
        memory::unmap(&self.memory, request, then)
    }

    fn reset(&self) -> Result<(), Errno> {
        let _call = self.relief.begin();
        debug!("the client resets the drive");
        let rested = self.rest(RESET_WITHIN);
        if let Some(interrupts) = &self.interrupts {
            interrupts.after_reset();
            if rested.is_err() {
                // A command that is stuck may still write to the client's memory.
                interrupts.report_error();
            }
        }
        rested
    }

    fn wakers(&self) -> Vec<Arc<OwnedFd>> {
        self.pin.waker().into_iter().collect()
    }

    fn woken(&self, _: usize) {
        let _call = self.relief.begin();
        self.pin.woken();
    }
}
