//! A device of the host that the machine has opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;
use devices::lifecycle::Deadline;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

use super::error::OpenError;
use super::facts::Facts;
use super::ioctls::{Record, Request};
use super::mappings::Mappings;
use super::opened::Opened;
use super::regions::Placed;
use super::reset::{ResetMethod, ResetSet};
use super::sysfs::HostDevice;
use super::{Vfio, interrupts};
use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Observer, Region, region};

/// Command register (PCI 3.0, 6.2.2).
pub(super) const COMMAND: u64 = 0x04;
pub(super) const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// A device of the host, behind VFIO.
///
/// When the host wants it back, because its driver is being unbound, it is gone from then on: what was mapped of it
/// reads as all-ones, and its descriptors are closed as soon as no call uses them. Until then the host waits.
pub struct VfioDevice {
    pub(super) this: Weak<VfioDevice>,
    pub(super) vfio: Arc<Vfio>,
    pub(super) found: HostDevice,
    pub(super) name: String,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) regions: Vec<Placed>,
    /// INTx, MSI, MSI-X.
    pub(super) irqs: [u32; 3],
    pub(super) opened: ArcSwapOption<Opened>,
    /// Why it is gone.
    pub(super) reason: ArcSwapOption<String>,
    /// It cannot write to memory any more.
    pub(super) quiet: AtomicBool,
    /// Files of it that are about to be closed.
    pub(super) closing: AtomicU32,
    pub(super) method: ResetMethod,
    pub(super) mappings: Mappings,
    /// What the alarms of this device are known by.
    pub(super) alarms: Mutex<Vec<u64>>,
}

impl VfioDevice {
    pub(super) fn new(
        vfio: Arc<Vfio>,
        found: HostDevice,
        opened: Opened,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, OpenError> {
        let name = found.path.to_string();
        let facts = Facts::ask(&vfio, &name, &opened)?;
        let method = vfio.reset_method(&found, facts.flags, &opened)?;
        let device = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            vfio,
            found,
            name,
            observer,
            regions: facts.regions,
            irqs: facts.irqs,
            opened: ArcSwapOption::from_pointee(opened),
            reason: ArcSwapOption::empty(),
            quiet: AtomicBool::new(false),
            closing: AtomicU32::new(0),
            method,
            mappings: Mappings::default(),
            alarms: Mutex::default(),
        });
        device.watch(&facts.alarms);
        Ok(device)
    }

    /// The functions that it is reset together with, itself included; none where it is reset by itself.
    pub fn reset_set(&self) -> Option<ResetSet> {
        self.method.set()
    }

    /// What the host says of it, when it was opened.
    pub fn host_device(&self) -> &HostDevice {
        &self.found
    }

    /// The device's file, for as long as it is used.
    pub(super) fn opened(&self) -> Result<Arc<Opened>, ClientError> {
        self.opened.load_full().ok_or_else(|| ClientError::Gone {
            device: self.name.clone(),
            reason: self.gone().unwrap_or_else(|| "it is closed".to_owned()),
        })
    }

    pub(super) fn refused(&self, doing: impl Into<String>, source: io::Error) -> ClientError {
        ClientError::Refused {
            device: self.name.clone(),
            doing: doing.into(),
            source,
        }
    }

    /// What a call failed with. Where the kernel has no device behind the file any more, that is the end of it.
    pub(super) fn failed(&self, doing: impl Into<String>, source: io::Error) -> ClientError {
        if source.raw_os_error() != Some(libc::ENODEV) {
            return self.refused(doing, source);
        }
        let doing = doing.into();
        self.leave(&format!("it is not there any more: {doing}: {source}"));
        ClientError::Gone {
            device: self.name.clone(),
            reason: self.gone().unwrap_or(doing),
        }
    }

    pub(super) fn set_irqs(&self, opened: &Opened, record: &Record) -> io::Result<()> {
        let request = Request::SetIrqs(record);
        match self.vfio.ioctls.call(opened.file.as_fd(), request)? {
            0 => Ok(()),
            vectors => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the host has {vectors} interrupt vectors for it, and it needs all of its own"
                ),
            )),
        }
    }

    /// Where a part of a region is in the device's file. All of it has to be inside.
    fn place(&self, region: u32, offset: u64, length: usize) -> io::Result<u64> {
        let placed = self.regions.get(region as usize);
        placed
            .filter(|placed| {
                let end = offset.checked_add(length as u64);
                end.is_some_and(|end| end <= placed.region.size)
            })
            .map(|placed| placed.at + offset)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}

impl Drop for VfioDevice {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a device has of a region that it does not have.
static NO_REGION: Region = Region {
    size: 0,
    readable: false,
    writable: false,
    areas: Vec::new(),
};

impl Client for VfioDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn region(&self, index: u32) -> &Region {
        let placed = self.regions.get(index as usize);
        placed.map_or(&NO_REGION, |placed| &placed.region)
    }

    fn irqs(&self, irq: IrqType) -> u32 {
        self.irqs[interrupts::index(irq) as usize]
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        let opened = self.opened()?;
        self.place(region, offset, data.len())
            .and_then(|at| self.vfio.ioctls.read(&opened.file, at, data))
            .map_err(|error| self.failed(format!("reading region {region} at {offset:#x}"), error))
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let opened = self.opened()?;
        if region == region::CONFIG && turns_bus_master_on(offset, data) {
            self.started();
        }
        self.place(region, offset, data.len())
            .and_then(|at| self.vfio.ioctls.write(&opened.file, at, data))
            .map_err(|error| self.failed(format!("writing region {region} at {offset:#x}"), error))
    }

    fn map(&self, region: u32, area: Area) -> io::Result<Arc<MmapRegion>> {
        let opened = self.opened().map_err(io::Error::other)?;
        let size = area.size as usize;
        let at = self.place(region, area.offset, size)?;
        let region = self.region(region);
        let access = (region.readable, region.writable);
        self.mappings.map(&opened.file, at, size, access)
    }

    fn connect(
        &self,
        irq: IrqType,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), ClientError> {
        let doing = || format!("connecting {irq:?} interrupts from {first} on");
        let opened = self.opened()?;
        let all = self.irqs(irq);
        let end = first.saturating_add(events.len() as u32);
        if end > all {
            let error = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(self.refused(format!("{}, of {all}", doing()), error));
        }
        let index = interrupts::index(irq);
        let mut descriptors: Vec<_> = interrupts::descriptors(events).collect();
        let record = if opened.is_on(irq) {
            interrupts::signal(index, first, &descriptors)
        } else {
            // How many there are is said once. MSI-X may have all; MSI has as many as the device is told to use.
            let count = if irq == IrqType::Msi { end } else { all };
            let mut every = vec![interrupts::NONE; count as usize];
            every[first as usize..end as usize].swap_with_slice(&mut descriptors);
            interrupts::signal(index, 0, &every)
        };
        self.set_irqs(&opened, &record)
            .map_err(|error| self.failed(doing(), error))?;
        opened.note(irq, true);
        self.started();
        Ok(())
    }

    /// The kernel masks those.
    fn holds_unconnected(&self) -> bool {
        true
    }

    fn disconnect(&self, irq: IrqType) -> Result<(), ClientError> {
        // What is closed is off.
        let opened = self.opened.load_full();
        let Some(opened) = opened.filter(|opened| opened.is_on(irq)) else {
            return Ok(());
        };
        self.set_irqs(&opened, &interrupts::off(interrupts::index(irq)))
            .map_err(|error| self.failed(format!("turning {irq:?} interrupts off"), error))?;
        opened.note(irq, false);
        Ok(())
    }

    fn set_pin_masked(&self, masked: bool) -> Result<(), ClientError> {
        let opened = self.opened()?;
        // A pin that is not connected cannot interrupt, and the kernel knows no mask of it.
        if !opened.is_on(IrqType::Intx) {
            return Ok(());
        }
        let doing = if masked {
            "masking its pin"
        } else {
            "unmasking its pin"
        };
        self.set_irqs(&opened, &interrupts::mask_pin(masked))
            .map_err(|error| self.failed(doing, error))
    }

    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        let opened = self.opened()?;
        if event.is_none() && !opened.is_on(IrqType::Intx) {
            return Ok(());
        }
        let descriptor = event.map_or(interrupts::NONE, |event| event.as_raw_fd());
        self.set_irqs(&opened, &interrupts::unmask_pin_by(descriptor))
            .map_err(|error| self.failed("having its pin unmasked by a signal", error))
    }

    fn io_events(&self, _region: u32) -> Vec<IoEvent> {
        Vec::new()
    }

    fn can_reset(&self) -> bool {
        self.method.is_own()
    }

    /// One that has none is refused when it is opened.
    fn has_reset(&self) -> bool {
        true
    }

    fn reset(&self, _by: Deadline) -> Result<(), ClientError> {
        self.reset_now()
    }

    fn revive(&self, by: Deadline) -> Result<(), ClientError> {
        self.open_anew(by)
    }

    fn gone(&self) -> Option<String> {
        self.reason.load().as_deref().cloned()
    }

    fn is_quiet(&self, quiesced: bool) -> bool {
        quiesced || self.quiet.load(Ordering::Acquire)
    }

    fn release(&self) {
        self.close();
    }
}

fn turns_bus_master_on(offset: u64, data: &[u8]) -> bool {
    let low = COMMAND
        .checked_sub(offset)
        .and_then(|at| data.get(at as usize));
    low.is_some_and(|low| u16::from(*low) & COMMAND_BUS_MASTER != 0)
}
