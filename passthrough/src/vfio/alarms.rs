//! What the host tells of its devices: that it wants one back, and that one has met an error. One thread of the machine
//! listens for all of them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use tracing::warn;
use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{VfioDevice, interrupts};

/// What the host may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// It wants the device back.
    Request,
    /// The device has met an error that PCIe cannot mend.
    Error,
}

impl Alarm {
    pub(super) const ALL: [Self; 2] = [Self::Request, Self::Error];

    /// VFIO's number of it among the interrupts.
    pub(super) fn index(self) -> u32 {
        match self {
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
        }
    }
}

/// The alarms of a machine's devices; their thread is there when the first one is.
#[derive(Default)]
pub(super) struct Alarms(Mutex<Option<Arc<Listener>>>);

impl Alarms {
    fn listener(&self) -> io::Result<Arc<Listener>> {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.as_ref() {
            return Ok(listener.clone());
        }
        let new = Arc::new(Listener::new()?);
        let its = new.clone();
        thread::Builder::new()
            .name("vfio-alarms".to_owned())
            .spawn(move || its.listen())?;
        *listener = Some(new.clone());
        Ok(new)
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        // The thread itself may be the one that drops the machine's last device: nobody waits for it.
        if let Some(listener) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            listener.stop.store(true, Ordering::Release);
            let _ = listener.wake.write(1);
        }
    }
}

struct Listener {
    epoll: Epoll,
    wake: EventFd,
    stop: AtomicBool,
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    entries: BTreeMap<u64, Entry>,
    last: u64,
}

struct Entry {
    event: EventFd,
    alarm: Alarm,
    device: Weak<VfioDevice>,
}

/// The number of the listener's own eventfd.
const WAKE: u64 = 0;

impl Listener {
    fn new() -> io::Result<Self> {
        let listener = Self {
            epoll: Epoll::new()?,
            wake: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
            stop: AtomicBool::new(false),
            listed: Mutex::default(),
        };
        listener.add(&listener.wake, WAKE)?;
        Ok(listener)
    }

    fn add(&self, event: &EventFd, number: u64) -> io::Result<()> {
        let entry = EpollEvent::new(EventSet::IN, number);
        self.epoll
            .ctl(ControlOperation::Add, event.as_raw_fd(), entry)
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self) {
        let mut events = [EpollEvent::default(); 16];
        while !self.stop.load(Ordering::Acquire) {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    warn!("nothing will be noticed of devices that the host takes back: {error}");
                    return;
                }
            };
            for event in &events[..count] {
                if let Some((device, alarm)) = self.heard(event.data()) {
                    device.alarmed(alarm);
                }
            }
        }
    }

    fn heard(&self, number: u64) -> Option<(Arc<VfioDevice>, Alarm)> {
        let listed = self.listed();
        let entry = listed.entries.get(&number)?;
        let _ = entry.event.read();
        Some((entry.device.upgrade()?, entry.alarm))
    }
}

impl VfioDevice {
    /// Has the host's alarms heard. Without them the device works all the same.
    pub(super) fn watch(&self, alarms: &[Alarm]) {
        for alarm in alarms {
            if let Err(error) = self.watch_one(*alarm) {
                let missed = match alarm {
                    Alarm::Request => "when the host wants it back",
                    Alarm::Error => "of its PCIe errors",
                };
                self.observer
                    .warn(&format!("nothing will be heard {missed}: {error}"));
            }
        }
    }

    fn watch_one(&self, alarm: Alarm) -> io::Result<()> {
        let listener = self.vfio.alarms.listener()?;
        let Some(opened) = self.opened.load_full() else {
            return Ok(());
        };
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let number = {
            let mut listed = listener.listed();
            listed.last += 1;
            listed.last
        };
        listener.add(&event, number)?;
        let record = interrupts::signal(alarm.index(), 0, &[event.as_raw_fd()]);
        let device = self.this.clone();
        let entry = Entry {
            event,
            alarm,
            device,
        };
        listener.listed().entries.insert(number, entry);
        self.numbers().push(number);
        self.set_irqs(&opened, &record)
    }

    /// Ends that. The eventfds go, and the listener's interest in them with them.
    pub(super) fn unwatch(&self) {
        let numbers = std::mem::take(&mut *self.numbers());
        if numbers.is_empty() {
            return;
        }
        if let Ok(listener) = self.vfio.alarms.listener() {
            let mut listed = listener.listed();
            for number in numbers {
                listed.entries.remove(&number);
            }
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Vec<u64>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alarmed(&self, alarm: Alarm) {
        match alarm {
            Alarm::Request => {
                self.leave("the host takes the device back: its driver is being unbound");
            }
            Alarm::Error => self.observer.warn(
                "the host reports a PCIe error of the device that the hardware could not mend (`dmesg` says more)",
            ),
        }
    }
}
