//! The interrupt pin towards a client: a level here, an eventfd there. It masks itself with each interrupt,
//! and fires again when the client unmasks it and the level is still high.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::interrupt::IntxLine;
use devices::shared_event::SharedEvent;

/// See the module's header.
#[derive(Default)]
pub struct Pin(Mutex<State>);

#[derive(Default)]
struct State {
    asserted: bool,
    masked: bool,
    /// Signalled for an interrupt.
    trigger: Option<Arc<SharedEvent>>,
    /// Signalled by the client to unmask.
    unmask: Option<Arc<OwnedFd>>,
}

impl State {
    /// What is to be signalled now.
    fn update(&mut self) -> Interrupt {
        match self.asserted && !self.masked {
            true => self.interrupt(),
            false => Interrupt(None),
        }
    }

    fn interrupt(&mut self) -> Interrupt {
        self.masked |= self.trigger.is_some();
        Interrupt(self.trigger.clone())
    }
}

/// An eventfd to be signalled, with no lock held.
#[must_use]
struct Interrupt(Option<Arc<SharedEvent>>);

impl Interrupt {
    fn send(self) {
        if let Some(event) = self.0 {
            event.signal();
        }
    }
}

impl Pin {
    /// Has interrupts signalled to `event`, or to nobody. Whatever was masked before is not any more.
    pub fn connect(&self, event: Option<OwnedFd>) {
        let mut state = self.lock();
        state.trigger = event.map(|event| Arc::new(SharedEvent::from(event)));
        state.masked = false;
        let interrupt = state.update();
        drop(state);
        interrupt.send();
    }

    /// Has `event` unmask the pin, or nothing.
    pub fn connect_unmask(&self, event: Option<OwnedFd>) {
        self.lock().unmask = event.map(Arc::new);
    }

    /// Masks or unmasks the pin.
    pub fn set_masked(&self, masked: bool) {
        let mut state = self.lock();
        state.masked = masked;
        let interrupt = state.update();
        drop(state);
        interrupt.send();
    }

    /// Interrupts whatever the level, as a client asks for.
    pub fn trigger(&self) {
        let interrupt = self.lock().interrupt();
        interrupt.send();
    }

    /// Lets whoever interrupts go on, where the client holds it up.
    pub fn let_go(&self) {
        let trigger = self.lock().trigger.clone();
        if let Some(event) = trigger {
            event.let_go();
        }
    }

    /// Forgets all that a client connected and masked.
    pub fn disconnect(&self) {
        let mut state = self.lock();
        (state.trigger, state.unmask) = (None, None);
        state.masked = false;
    }

    /// What is to be waited for on behalf of the pin.
    pub fn waker(&self) -> Option<Arc<OwnedFd>> {
        self.lock().unmask.clone()
    }

    /// The waker can be read: the client unmasks.
    pub fn woken(&self) {
        let Some(event) = self.waker().and_then(|event| event.try_clone().ok()) else {
            return;
        };
        if SharedEvent::from(event).empty() {
            self.set_masked(false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IntxLine for Pin {
    fn set(&self, asserted: bool) {
        let mut state = self.lock();
        state.asserted = asserted;
        let interrupt = state.update();
        drop(state);
        interrupt.send();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::io::Write;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn event() -> (OwnedFd, File) {
        let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let theirs = File::from(event.try_clone().unwrap());
        (event, theirs)
    }

    /// How many interrupts came since the last call.
    fn count(mut event: &File) -> u64 {
        let mut raw = [0; 8];
        match event.read_exact(&mut raw) {
            Ok(()) => u64::from_ne_bytes(raw),
            Err(_) => 0,
        }
    }

    #[test]
    fn a_level_interrupts_once_until_it_is_unmasked() {
        let pin = Pin::default();
        let (event, theirs) = event();
        pin.connect(Some(event));
        pin.set(true);
        pin.set(true);
        assert_eq!(count(&theirs), 1);
        pin.set_masked(false);
        assert_eq!(count(&theirs), 1, "still high");
        pin.set(false);
        pin.set_masked(false);
        assert_eq!(count(&theirs), 0);
        pin.set(true);
        assert_eq!(count(&theirs), 1);
    }

    #[test]
    fn a_level_that_rose_before_the_connection_or_under_a_mask_interrupts_later() {
        let pin = Pin::default();
        let (event, theirs) = event();
        pin.set(true);
        pin.connect(Some(event));
        assert_eq!(count(&theirs), 1);
        pin.set(false);
        pin.set_masked(true);
        pin.set(true);
        assert_eq!(count(&theirs), 0);
        pin.set_masked(false);
        assert_eq!(count(&theirs), 1);
        pin.disconnect();
        pin.set_masked(false);
        assert_eq!(count(&theirs), 0);
    }

    /// A client that signals, has its eventfd block, and takes the signal back before the process reads it.
    #[test]
    fn unmasking_waits_for_no_client() {
        let pin = Arc::new(Pin::default());
        pin.connect_unmask(Some(eventfd(0, EventfdFlags::CLOEXEC).unwrap()));
        let (tell, told) = channel();
        let woken = Arc::clone(&pin);
        std::thread::spawn(move || {
            woken.woken();
            let _ = tell.send(());
        });
        told.recv_timeout(SOON).expect("nothing is waited for");
    }

    #[test]
    fn an_eventfd_of_the_client_unmasks() {
        let pin = Pin::default();
        let (trigger, interrupts) = event();
        let (unmask, mut unmasking) = event();
        assert!(pin.waker().is_none());
        pin.connect(Some(trigger));
        pin.connect_unmask(Some(unmask));
        pin.set(true);
        assert_eq!(count(&interrupts), 1);
        pin.woken();
        assert_eq!(count(&interrupts), 0, "nothing was to be read");
        unmasking.write_all(&1_u64.to_ne_bytes()).unwrap();
        pin.woken();
        assert_eq!(count(&interrupts), 1);
    }
}
