//! What the device does when it is asked.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::lifecycle::Deadline;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

use super::{Call, Played, Refusal, Resets, may_be_written, pass};
use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Region, region};

impl Client for Played {
    fn name(&self) -> &str {
        "0000:01:00.0"
    }

    fn region(&self, index: u32) -> &Region {
        &self.regions[index as usize]
    }

    fn irqs(&self, irq: IrqType) -> u32 {
        self.irqs[irq as usize]
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        self.check()?;
        self.inside(region, offset, data.len());
        self.refuse(Refusal::Read)?;
        self.refuse(Refusal::CancelledRead)?;
        self.reads
            .lock()
            .unwrap()
            .push((region, offset, data.len()));
        if region == region::CONFIG {
            let config = self.config.lock().unwrap();
            let at = offset as usize;
            data.copy_from_slice(&config[at..at + data.len()]);
            if offset == 4 && self.stays_master.load(Ordering::Relaxed) {
                data[0] |= 4;
            }
        } else {
            let bytes = data.iter_mut().zip(offset..);
            bytes.for_each(|(byte, at)| *byte = at as u8);
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        self.inside(region, offset, data.len());
        if region != region::CONFIG {
            return self.call(Call::Write(region, offset, data.to_vec()));
        }
        if let (4, Ok(command)) = (offset, data.try_into()) {
            let command = u16::from_le_bytes(command);
            assert_eq!(command & !0x406, 0, "command {command:#x}");
            assert_ne!(command & 2, 0, "memory decoding is off");
            self.call(Call::Command(command))?;
        } else {
            assert!(may_be_written(offset, data.len()), "{offset:#x}");
            self.call(Call::ConfigWrite(offset, data.to_vec()))?;
        }
        let at = offset as usize;
        self.config.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn map(&self, region: u32, area: Area) -> io::Result<Arc<MmapRegion>> {
        let inside = |named: &Area| {
            named.offset <= area.offset && area.offset + area.size <= named.offset + named.size
        };
        assert!(self.regions[region as usize].areas.iter().any(inside));
        assert!(area.offset.is_multiple_of(4096) && area.size.is_multiple_of(4096));
        if self.cannot_map.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        self.maps.fetch_add(1, Ordering::Relaxed);
        let call = Call::Map(region, area.offset, area.size);
        self.calls.lock().unwrap().push(call);
        MmapRegion::new(area.size as usize)
            .map(Arc::new)
            .map_err(io::Error::other)
    }

    fn connect(
        &self,
        irq: IrqType,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), ClientError> {
        assert!(first + events.len() as u32 <= self.irqs(irq));
        let present = events.iter().map(Option::is_some).collect();
        self.call(Call::Connect(irq, first, present))?;
        pass(&self.connect_gate);
        self.refuse(Refusal::Connect)?;
        self.refuse(Refusal::CancelledConnect)?;
        let halfway = self.refuse(Refusal::ConnectHalfway);
        let mut signals = self.signals.lock().unwrap();
        let others = signals.iter().find(|(of, ..)| *of != irq);
        assert!(others.is_none(), "two types at once");
        for (vector, event) in (first..).zip(events) {
            signals.retain(|(of, at, _)| (*of, *at) != (irq, vector));
            if let (Some(event), Ok(())) = (event, &halfway) {
                signals.push((irq, vector, event.try_clone_to_owned().unwrap()));
            }
        }
        halfway
    }

    fn holds_unconnected(&self) -> bool {
        self.holds_unconnected
    }

    fn disconnect(&self, irq: IrqType) -> Result<(), ClientError> {
        self.call(Call::Disconnect(irq))?;
        self.refuse(Refusal::Disconnect)?;
        self.signals.lock().unwrap().retain(|(of, ..)| *of != irq);
        Ok(())
    }

    fn set_pin_masked(&self, _masked: bool) -> Result<(), ClientError> {
        self.check()
    }

    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        self.call(Call::UnmaskBy(event.is_some()))?;
        if event.is_some() {
            self.refuse(Refusal::UnmaskPin)?;
        }
        *self.unmask_by.lock().unwrap() = event.cloned();
        Ok(())
    }

    fn io_events(&self, region: u32) -> Vec<IoEvent> {
        self.calls.lock().unwrap().push(Call::IoEvents(region));
        let offers = self.offers.lock().unwrap();
        let here = offers.iter().filter(|(of, _)| *of == region);
        here.map(|(_, event)| event.clone()).collect()
    }

    fn bound(&self, by: Option<Deadline>) {
        self.calls.lock().unwrap().push(Call::Bound(by.is_some()));
    }

    fn can_reset(&self) -> bool {
        matches!(self.resets, Resets::Alone | Resets::Refused)
    }

    fn has_reset(&self) -> bool {
        self.resets != Resets::Never && !self.lacks_reset.load(Ordering::Relaxed)
    }

    fn reset(&self, _by: Deadline) -> Result<(), ClientError> {
        self.call(Call::Reset)?;
        pass(&self.reset_gate);
        let mut errors = self.reset_errors.lock().unwrap();
        if self.resets == Resets::Refused {
            self.lacks_reset.store(true, Ordering::Relaxed);
            errors.push(libc::EINVAL);
        }
        if !errors.is_empty() {
            return Err(ClientError::Refused {
                device: self.name().into(),
                doing: "resetting it".into(),
                source: io::Error::from_raw_os_error(errors.remove(0)),
            });
        }
        self.config.lock().unwrap()[4..6].fill(0);
        self.check()
    }

    fn revive(&self, _by: Deadline) -> Result<(), ClientError> {
        self.calls.lock().unwrap().push(Call::Revive);
        if !self.cannot_revive.load(Ordering::Relaxed) {
            self.set_gone(false);
        }
        self.check()
    }

    fn session(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    fn gone(&self) -> Option<String> {
        self.gone.lock().unwrap().clone()
    }

    fn is_quiet(&self, quiesced: bool) -> bool {
        quiesced || self.gone().is_some()
    }

    fn release(&self) {
        self.calls.lock().unwrap().push(Call::Release);
    }
}
