//! What a device is asked for: the interface of VFIO devices, by the kernel's calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::lifecycle::Deadline;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

use super::super::interrupts;
use super::{COMMAND, COMMAND_BUS_MASTER, VfioDevice};
use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Region, region};

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
            .map_err(|error| self.refused(doing(), error))?;
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
            .map_err(|error| self.refused(format!("turning {irq:?} interrupts off"), error))?;
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
            .map_err(|error| self.refused(doing, error))
    }

    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        let opened = self.opened()?;
        if event.is_none() && !opened.is_on(IrqType::Intx) {
            return Ok(());
        }
        let descriptor = event.map_or(interrupts::NONE, |event| event.as_raw_fd());
        self.set_irqs(&opened, &interrupts::unmask_pin_by(descriptor))
            .map_err(|error| self.refused("having its pin unmasked by a signal", error))
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

    fn session(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
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
