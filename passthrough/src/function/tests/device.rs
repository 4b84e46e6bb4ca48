//! A device behind its client, played: keeps what it was asked for, and asserts that nothing reaches a register of its
//! configuration space that no guest may reach.

mod answers;
mod drive;
mod faults;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::client::{Client, ClientError, IoEvent, IrqType, Region, region};

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
    IoEvents(u32),
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
    sessions: AtomicU64,
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
    /// Eventfds for writes, by region.
    offers: Mutex<Vec<(u32, IoEvent)>>,
    resets: Resets,
    /// It has answered in this session that it knows no reset.
    lacks_reset: AtomicBool,
    /// Keeps interrupts without a signal, as the kernel does. Servers lose them.
    pub(super) holds_unconnected: bool,
}

/// How the device can be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resets {
    Alone,
    WithOthers,
    /// By itself, it says; and answers that it knows no reset.
    Refused,
    Never,
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
            sessions: AtomicU64::new(1),
            reset_errors: Mutex::default(),
            refuses: Mutex::default(),
            reset_gate: Mutex::default(),
            connect_gate: Mutex::default(),
            cannot_map: AtomicBool::new(false),
            cannot_revive: AtomicBool::new(false),
            stays_master: AtomicBool::new(false),
            maps: AtomicUsize::new(0),
            offers: Mutex::default(),
            resets: Resets::Alone,
            lacks_reset: AtomicBool::new(false),
            holds_unconnected: true,
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

    pub(super) fn with_resets(self, resets: Resets) -> Self {
        Self { resets, ..self }
    }

    /// As one that a server emulates.
    pub(super) fn of_a_server(self) -> Self {
        Self {
            holds_unconnected: false,
            ..self
        }
    }

    /// Offers new eventfds for writes to these regions and offsets, and no others from now on.
    pub(super) fn offer(&self, places: &[(u32, u64)]) {
        let event = |offset| IoEvent {
            offset,
            event: Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap()),
        };
        let offers = places.iter().map(|(region, at)| (*region, event(*at)));
        *self.offers.lock().unwrap() = offers.collect();
    }

    /// The eventfd that is offered now for that place.
    pub(super) fn offered(&self, region: u32, offset: u64) -> Arc<EventFd> {
        let offers = self.offers.lock().unwrap();
        let mut here = offers
            .iter()
            .filter(|(of, event)| (*of, event.offset) == (region, offset));
        Arc::clone(&here.next().unwrap().1.event)
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

    /// Signals whom its vectors of MSI-X signal now, whatever it is told later.
    pub(super) fn keep_signals(&self) -> impl Fn(u32) + use<> {
        let signals = self.signals.lock().unwrap();
        let kept: Vec<_> = signals
            .iter()
            .filter(|(of, ..)| *of == IrqType::Msix)
            .map(|(_, vector, event)| (*vector, event.try_clone().unwrap()))
            .collect();
        move |vector| {
            let mut to = kept.iter().filter(|(at, _)| *at == vector);
            let (_, event) = to.next().unwrap();
            rustix::io::write(event, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    pub(super) fn connected(&self) -> usize {
        self.signals.lock().unwrap().len()
    }

    /// Goes, or comes back.
    pub(super) fn set_gone(&self, gone: bool) {
        let reason = gone.then(|| "unplugged".to_owned());
        let was_gone = std::mem::replace(&mut *self.gone.lock().unwrap(), reason).is_some();
        if was_gone && !gone {
            self.sessions.fetch_add(1, Ordering::Relaxed);
            self.lacks_reset.store(false, Ordering::Relaxed);
        }
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
            Refusal::CancelledRead | Refusal::CancelledConnect => {
                ClientError::Cancelled { device, doing }
            }
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
