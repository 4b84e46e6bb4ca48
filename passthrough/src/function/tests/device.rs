//! A device behind its client, played: keeps what it was asked for, and asserts that nothing reaches a register of its
//! configuration space that no guest may reach.

mod drive;
mod faults;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::lifecycle::Deadline;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Region, region};

pub(super) use drive::*;
pub(super) use faults::*;

/// A call that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Command(u16),
    ConfigWrite(u64, Vec<u8>),
    Write(u32, u64, Vec<u8>),
    Map(u32, u64, u64),
    /// First vector, and which of them have a signal.
    Connect(IrqType, u32, Vec<bool>),
    Disconnect(IrqType),
    UnmaskBy(bool),
    Reset,
    Revive,
    Release,
    Bound(bool),
}

/// See the module's header.
pub(super) struct Played {
    pub(super) config: Mutex<Vec<u8>>,
    regions: Vec<Region>,
    irqs: [u32; 3],
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) reads: Mutex<Vec<(u32, u64, usize)>>,
    /// Eventfds by type and vector.
    signals: Mutex<Vec<(IrqType, u32, OwnedFd)>>,
    pub(super) unmask_by: Mutex<Option<Arc<EventFd>>>,
    gone: Mutex<Option<String>>,
    /// Errors of resets to come, in their order.
    pub(super) reset_errors: Mutex<Vec<i32>>,
    pub(super) refuses: Mutex<Vec<Refusal>>,
    /// A reset says that it has begun, and waits to be let go on.
    reset_gate: Mutex<Option<Gate>>,
    /// The same of a call that connects interrupts.
    connect_gate: Mutex<Option<Gate>>,
    pub(super) cannot_map: AtomicBool,
    pub(super) cannot_revive: AtomicBool,
    pub(super) stays_master: AtomicBool,
    pub(super) maps: AtomicUsize,
}

impl Played {
    /// An NVMe drive with every kind of interrupt and BAR.
    pub(super) fn drive() -> Self {
        Self {
            config: Mutex::new(config()),
            regions: regions(),
            irqs: [1, 32, VECTORS.into()],
            calls: Mutex::default(),
            reads: Mutex::default(),
            signals: Mutex::default(),
            unmask_by: Mutex::default(),
            gone: Mutex::default(),
            reset_errors: Mutex::default(),
            refuses: Mutex::default(),
            reset_gate: Mutex::default(),
            connect_gate: Mutex::default(),
            cannot_map: AtomicBool::new(false),
            cannot_revive: AtomicBool::new(false),
            stays_master: AtomicBool::new(false),
            maps: AtomicUsize::new(0),
        }
    }

    /// The same with other bytes somewhere.
    pub(super) fn with(self, at: u16, bytes: &[u8]) -> Self {
        let at = usize::from(at);
        self.config.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn with_region(mut self, index: u32, region: Region) -> Self {
        self.regions[index as usize] = region;
        self
    }

    /// Has the next reset say that it has begun, and wait.
    pub(super) fn hold_reset(&self) -> (Receiver<()>, Sender<()>) {
        hold(&self.reset_gate)
    }

    /// The same with the next call that connects interrupts.
    pub(super) fn hold_connect(&self) -> (Receiver<()>, Sender<()>) {
        hold(&self.connect_gate)
    }

    pub(super) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    pub(super) fn command(&self) -> u16 {
        let config = self.config.lock().unwrap();
        u16::from_le_bytes([config[4], config[5]])
    }

    pub(super) fn with_irqs(mut self, irqs: [u32; 3]) -> Self {
        self.irqs = irqs;
        self
    }

    /// Interrupts, as far as somebody is connected.
    pub(super) fn signal(&self, irq: IrqType, vector: u32) -> bool {
        let signals = self.signals.lock().unwrap();
        let mut to = signals
            .iter()
            .filter(|(of, at, _)| (*of, *at) == (irq, vector));
        let found = to.next();
        found.is_some_and(|(_, _, event)| {
            rustix::io::write(event, &1_u64.to_ne_bytes()).is_ok_and(|length| length == 8)
        })
    }

    pub(super) fn connected(&self) -> usize {
        self.signals.lock().unwrap().len()
    }

    /// Goes, or comes back.
    pub(super) fn set_gone(&self, gone: bool) {
        *self.gone.lock().unwrap() = gone.then(|| "unplugged".to_owned());
        if gone {
            self.signals.lock().unwrap().clear();
        }
    }

    fn call(&self, call: Call) -> Result<(), ClientError> {
        self.calls.lock().unwrap().push(call);
        self.check()
    }

    fn check(&self) -> Result<(), ClientError> {
        match self.gone() {
            None => Ok(()),
            Some(reason) => Err(ClientError::Gone {
                device: self.name().into(),
                reason,
            }),
        }
    }

    /// Fails if this call was to fail.
    fn refuse(&self, refusal: Refusal) -> Result<(), ClientError> {
        let mut refuses = self.refuses.lock().unwrap();
        let Some(found) = refuses.iter().position(|each| *each == refusal) else {
            return Ok(());
        };
        let device = self.name().into();
        let doing = format!("{:?}", refuses.remove(found));
        Err(match refusal {
            Refusal::Read => ClientError::TimedOut {
                device,
                doing,
                after: Duration::from_secs(5),
            },
            _ => ClientError::Refused {
                device,
                doing,
                source: io::Error::from_raw_os_error(libc::EINVAL),
            },
        })
    }

    fn inside(&self, region: u32, offset: u64, length: usize) {
        let size = self.regions[region as usize].size;
        assert!(offset + length as u64 <= size, "{region} at {offset:#x}");
        let natural = matches!(length, 1 | 2 | 4 | 8) && offset.is_multiple_of(length as u64);
        assert!(natural || region == region::CONFIG && length == 256);
    }
}

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
        let mut signals = self.signals.lock().unwrap();
        let others = signals.iter().find(|(of, ..)| *of != irq);
        assert!(others.is_none(), "two types at once");
        for (vector, event) in (first..).zip(events) {
            signals.retain(|(of, at, _)| (*of, *at) != (irq, vector));
            if let Some(event) = event {
                signals.push((irq, vector, event.try_clone_to_owned().unwrap()));
            }
        }
        Ok(())
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
        *self.unmask_by.lock().unwrap() = event.cloned();
        Ok(())
    }

    fn io_events(&self, _region: u32) -> Vec<IoEvent> {
        Vec::new()
    }

    fn bound(&self, by: Option<Deadline>) {
        self.calls.lock().unwrap().push(Call::Bound(by.is_some()));
    }

    fn can_reset(&self) -> bool {
        true
    }

    fn reset(&self, _by: Deadline) -> Result<(), ClientError> {
        self.call(Call::Reset)?;
        pass(&self.reset_gate);
        let mut errors = self.reset_errors.lock().unwrap();
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
