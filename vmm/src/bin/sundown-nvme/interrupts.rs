//! A client's interrupts: eventfds that it connects to vectors and to the pin.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::interrupt::{MsiMessage, MsiRouter, Route};
use devices::pci::Msix;
use devices::shared_event::SharedEvent;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use vfio_user::protocol::{irq, irq_flag};
use vfio_user::server::{IrqAction, IrqData, IrqRequest};
use vmm_sys_util::eventfd::EventFd;

use crate::pin::Pin;

/// No interrupt routing: each vector is signalled to the eventfd that the client connects.
pub struct Unrouted;

impl MsiRouter for Unrouted {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        Ok((0..vectors.len() as u32).map(Route).collect())
    }

    fn set_messages(&self, _: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        Ok(())
    }

    fn detach(&self, _: &[(Route, &EventFd)]) {}
}

/// See the module's header.
pub struct Interrupts {
    pin: Arc<Pin>,
    msix: Arc<Msix>,
    /// Which vectors are connected.
    connected: Mutex<Vec<bool>>,
    /// Never held in a signal: whoever lets go takes it.
    notices: Mutex<Notices>,
}

#[derive(Default)]
struct Notices {
    /// What is signalled when the drive cannot be reset.
    error: Option<Arc<SharedEvent>>,
    /// What is signalled before the process closes the connection.
    request: Option<Arc<SharedEvent>>,
}

impl Interrupts {
    /// The interrupts by `pin` and `msix`.
    pub fn new(pin: Arc<Pin>, msix: Arc<Msix>) -> Self {
        let connected = vec![false; msix.vectors().into()];
        Self {
            pin,
            msix,
            connected: Mutex::new(connected),
            notices: Mutex::default(),
        }
    }

    /// Flags and number of a type's interrupts.
    pub fn count(&self, index: u32) -> (u32, u32) {
        let level = irq_flag::EVENTFD | irq_flag::MASKABLE | irq_flag::AUTOMASKED;
        match index {
            irq::INTX => (level, 1),
            irq::MSIX => (irq_flag::EVENTFD, self.msix.vectors().into()),
            irq::ERR | irq::REQ => (irq_flag::EVENTFD, 1),
            _ => (0, 0),
        }
    }

    /// Does what a client asks for.
    pub fn set(&self, request: IrqRequest) -> Result<(), Errno> {
        let request = checked(request)?;
        match request.index {
            irq::INTX => self.set_pin(request),
            irq::MSIX => self.set_vectors(request),
            irq::ERR | irq::REQ => self.set_notice(request),
            _ => Err(Errno::INVAL),
        }
    }

    /// After a reset of the function: vectors that are connected fire once MSI-X is on again.
    pub fn after_reset(&self) {
        for (vector, connected) in (0..).zip(self.connected().iter()) {
            if *connected {
                self.msix.set_masked(vector, false);
            }
        }
    }

    /// Tells the client that the drive is in an error that it cannot recover from.
    pub fn report_error(&self) {
        let error = self.notices().error.clone();
        signal(error.as_ref());
    }

    /// Tells the client that the device is about to go.
    pub fn ask_for_release(&self) {
        let request = self.notices().request.clone();
        signal(request.as_ref());
    }

    /// Lets threads go on that a client holds up in a signal to it. Waits for none of them.
    pub fn let_go(&self) {
        self.msix.let_go();
        self.pin.let_go();
        let notices = self.notices();
        for event in [&notices.error, &notices.request].into_iter().flatten() {
            event.let_go();
        }
    }

    /// Forgets all that a client connected.
    pub fn disconnect(&self) {
        self.pin.disconnect();
        let mut connected = self.connected();
        for vector in 0..self.msix.vectors() {
            self.disconnect_vector(&mut connected, vector);
        }
        *self.notices() = Notices::default();
    }

    fn set_pin(&self, request: IrqRequest) -> Result<(), Errno> {
        let chosen = request.selected().next().is_some();
        match (request.action, request.data) {
            (_, IrqData::Off) => self.pin.disconnect(),
            (IrqAction::Trigger, IrqData::Connect(events)) => {
                self.pin.connect(events.into_iter().next());
            }
            (IrqAction::Trigger, IrqData::Disconnect) => self.pin.connect(None),
            (IrqAction::Unmask, IrqData::Connect(events)) => {
                self.pin.connect_unmask(events.into_iter().next());
            }
            (IrqAction::Unmask, IrqData::Disconnect) => self.pin.connect_unmask(None),
            (IrqAction::Mask, IrqData::Connect(_) | IrqData::Disconnect) => {
                return Err(Errno::NOTSUP);
            }
            (_, _) if !chosen => {}
            (IrqAction::Mask, _) => self.pin.set_masked(true),
            (IrqAction::Unmask, _) => self.pin.set_masked(false),
            (IrqAction::Trigger, _) => self.pin.trigger(),
        }
        Ok(())
    }

    fn set_vectors(&self, request: IrqRequest) -> Result<(), Errno> {
        let chosen: Vec<_> = request.selected().map(|vector| vector as u16).collect();
        let mut connected = self.connected();
        match (request.action, request.data) {
            (_, IrqData::Off) => {
                for vector in 0..self.msix.vectors() {
                    self.disconnect_vector(&mut connected, vector);
                }
            }
            (IrqAction::Trigger, IrqData::Connect(events)) => {
                for (vector, event) in chosen.into_iter().zip(events) {
                    self.msix.connect(vector, Some(event));
                    self.msix.set_masked(vector, false);
                    if let Some(connected) = connected.get_mut(usize::from(vector)) {
                        *connected = true;
                    }
                }
            }
            (IrqAction::Trigger, IrqData::Disconnect) => {
                for vector in chosen {
                    self.disconnect_vector(&mut connected, vector);
                }
            }
            (_, IrqData::Connect(_) | IrqData::Disconnect) => return Err(Errno::NOTSUP),
            (IrqAction::Mask | IrqAction::Unmask, _) => {
                for vector in chosen {
                    let connected = connected.get(usize::from(vector));
                    let masked = request.action == IrqAction::Mask || connected != Some(&true);
                    self.msix.set_masked(vector, masked);
                }
            }
            (IrqAction::Trigger, _) => {
                for vector in chosen {
                    self.msix.signal(vector);
                }
            }
        }
        Ok(())
    }

    /// What is signalled while it is disconnected becomes pending, and fires when it is connected again.
    fn disconnect_vector(&self, connected: &mut [bool], vector: u16) {
        if let Some(connected) = connected.get_mut(usize::from(vector))
            && std::mem::take(connected)
        {
            self.msix.set_masked(vector, true);
            self.msix.connect(vector, None);
        }
    }

    fn set_notice(&self, request: IrqRequest) -> Result<(), Errno> {
        let chosen = request.selected().next().is_some();
        let mut notices = self.notices();
        let notice = match request.index {
            irq::ERR => &mut notices.error,
            _ => &mut notices.request,
        };
        match (request.action, request.data) {
            (_, IrqData::Off) | (IrqAction::Trigger, IrqData::Disconnect) => *notice = None,
            (IrqAction::Trigger, IrqData::Connect(events)) => {
                let event = events.into_iter().next().map(SharedEvent::from);
                *notice = event.map(Arc::new);
            }
            (IrqAction::Trigger, _) if chosen => {
                let event = notice.clone();
                drop(notices);
                signal(event.as_ref());
            }
            (IrqAction::Trigger, _) => {}
            _ => return Err(Errno::NOTSUP),
        }
        Ok(())
    }

    fn connected(&self) -> MutexGuard<'_, Vec<bool>> {
        let connected = self.connected.lock();
        connected.unwrap_or_else(PoisonError::into_inner)
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(event: Option<&Arc<SharedEvent>>) {
    if let Some(event) = event {
        event.signal();
    }
}

/// Refuses descriptors that are no eventfds. Writing to those that are does not block, as long as the client, whose
/// they are too, leaves them so.
fn checked(request: IrqRequest) -> Result<IrqRequest, Errno> {
    if let IrqData::Connect(events) = &request.data {
        for event in events {
            check_event(event)?;
        }
    }
    Ok(request)
}

fn check_event(event: &OwnedFd) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", event.as_raw_fd());
    let target = std::fs::read_link(path).map_err(|_| Errno::INVAL)?;
    if target.as_os_str() != "anon_inode:[eventfd]" {
        return Err(Errno::INVAL);
    }
    fcntl_setfl(event, fcntl_getfl(event)? | OFlags::NONBLOCK)
}
