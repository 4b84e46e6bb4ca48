//! The device's interrupts: brought to what the guest's registers ask for.
//!
//! Whoever changes a register lets go of it and then settles: takes the turn, looks at the registers as they are by
//! then, and has the device do what differs from what it was told before. Changes that come while another thread has
//! the turn are settled by it or after it, several at once. The turn is held while the device is called, since calls
//! of two threads would overtake each other; nothing else waits for it but those who change interrupts of the same
//! function. A guest's write to such a register thus waits for the device: once it is done, the interrupt arrives.

mod pin;
mod vector;
mod vectors;

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use devices::interrupt::{MsiMessage, MsiRouter};
use devices::pci::config_space::COMMAND;
use tracing::warn;

use crate::client::{Client, ClientError, IrqType, region};
use crate::function::locked;
pub(super) use pin::Pin;
use vectors::{Applied, Vectors};

/// What a vector shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Stay pending in the function.
    Masked,
    /// Interrupt the guest.
    Open(MsiMessage),
}

/// What the device shall have and do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its command register.
    pub(super) command: u16,
    /// The vectors of MSI-X, where it is on.
    pub(super) msix: Option<Vec<Target>>,
    /// The vectors of MSI, where it is on. One of the three at most is.
    pub(super) msi: Option<Vec<Target>>,
    /// Whether its pin interrupts.
    pub(super) pin: bool,
}

/// See the module's header.
pub(super) struct Interrupts {
    client: Arc<dyn Client>,
    router: Arc<dyn MsiRouter>,
    msix: Option<Vectors>,
    /// Made when MSI is first turned on, which it rarely is where there is MSI-X.
    msi: OnceLock<Vectors>,
    msi_count: u16,
    pin: Option<Pin>,
    turn: Mutex<Turn>,
}

/// What the device was told.
#[derive(Default)]
struct Turn {
    command: Option<u16>,
    msix: Applied,
    msi: Applied,
    pin: PinLink,
    released: bool,
}

/// Whether the device's pin asserts its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PinLink {
    #[default]
    Off,
    On,
    /// It was to be turned on, which has failed, and could not be turned off again.
    Unknown,
}

impl Interrupts {
    /// Interrupts of a device with so many vectors. Those of MSI-X are attached to the machine.
    pub(super) fn new(
        client: Arc<dyn Client>,
        router: Arc<dyn MsiRouter>,
        msix: u16,
        msi: u16,
        pin: Option<Pin>,
    ) -> io::Result<Self> {
        let msix = match msix {
            0 => None,
            count => Some(Vectors::attach(IrqType::Msix, count, &router)?),
        };
        Ok(Self {
            client,
            router,
            msix,
            msi: OnceLock::new(),
            msi_count: msi,
            pin,
            turn: Mutex::default(),
        })
    }

    /// Brings the device to what `wanted` says by the time it is this thread's turn.
    ///
    /// # Errors
    /// The first of what failed; the rest was done. What failed is tried again the next time.
    pub(super) fn settle(&self, wanted: impl FnOnce() -> Wanted) -> Result<(), ClientError> {
        let mut turn = locked(&self.turn);
        let turn = &mut *turn;
        if turn.released {
            return Ok(());
        }
        let wanted = wanted();
        let mut result = self.set_command(turn, wanted.command);
        let mut keep_first = |next: Result<(), ClientError>| {
            if result.is_ok() {
                result = next;
            }
        };
        // A device has one type of interrupt at a time.
        if wanted.msix.is_none() {
            keep_first(self.turn_off(self.msix.as_ref(), &mut turn.msix));
        }
        if wanted.msi.is_none() {
            keep_first(self.turn_off(self.msi.get(), &mut turn.msi));
        }
        if !wanted.pin {
            keep_first(self.set_pin(turn, false));
        }
        if let (Some(vectors), Some(targets)) = (&self.msix, &wanted.msix) {
            keep_first(vectors.settle(&*self.client, &*self.router, &mut turn.msix, targets));
        }
        if let Some(targets) = &wanted.msi {
            let settled = self.make_msi().and_then(|vectors| {
                vectors.settle(&*self.client, &*self.router, &mut turn.msi, targets)
            });
            keep_first(settled);
        }
        if wanted.pin {
            keep_first(self.set_pin(turn, true));
        }
        result
    }

    /// Forgets what the device's command register was told: it was reset, or is another one.
    pub(super) fn forget_command(&self) {
        locked(&self.turn).command = None;
    }

    /// Takes messages of the boot that has ended out of the machine's routing, and forgets what is pending.
    ///
    /// # Errors
    /// The first of what failed.
    pub(super) fn clear_messages(&self) -> io::Result<()> {
        let mut turn = locked(&self.turn);
        let turn = &mut *turn;
        let clear = |vectors: Option<&Vectors>, applied: &mut Applied| {
            vectors.map_or(Ok(()), |vectors| {
                vectors.clear_messages(&*self.router, applied)
            })
        };
        let msix = clear(self.msix.as_ref(), &mut turn.msix);
        let msi = clear(self.msi.get(), &mut turn.msi);
        msix.and(msi)
    }

    /// The pending bits of the 32 vectors of MSI-X from `first` on.
    pub(super) fn pending_msix(&self, first: usize) -> u32 {
        let vectors = self.msix.as_ref();
        vectors.map_or(0, |vectors| vectors.pending(first))
    }

    /// The pending bits of MSI.
    pub(super) fn pending_msi(&self) -> u32 {
        self.msi.get().map_or(0, |vectors| vectors.pending(0))
    }

    /// Turns everything off and gives vectors back to the machine, once.
    pub(super) fn release(&self, command: u16) {
        let off = Wanted {
            command,
            msix: None,
            msi: None,
            pin: false,
        };
        if let Err(failure) = self.settle(|| off) {
            warn!("its interrupts are not turned off: {failure}");
        }
        let mut turn = locked(&self.turn);
        if std::mem::replace(&mut turn.released, true) {
            return;
        }
        for vectors in self.msix.iter().chain(self.msi.get()) {
            vectors.detach(&*self.router);
        }
    }

    fn set_command(&self, turn: &mut Turn, command: u16) -> Result<(), ClientError> {
        if turn.command == Some(command) {
            return Ok(());
        }
        turn.command = None;
        let bytes = command.to_le_bytes();
        self.client.write(region::CONFIG, COMMAND.into(), &bytes)?;
        turn.command = Some(command);
        Ok(())
    }

    fn turn_off(
        &self,
        vectors: Option<&Vectors>,
        applied: &mut Applied,
    ) -> Result<(), ClientError> {
        vectors.map_or(Ok(()), |vectors| vectors.turn_off(&*self.client, applied))
    }

    fn set_pin(&self, turn: &mut Turn, on: bool) -> Result<(), ClientError> {
        let wanted = if on { PinLink::On } else { PinLink::Off };
        let Some(pin) = self.pin.as_ref().filter(|_| turn.pin != wanted) else {
            return Ok(());
        };
        if turn.pin != PinLink::Off {
            pin.disconnect(&*self.client)?;
            turn.pin = PinLink::Off;
        }
        if on {
            let connected = pin.connect(&*self.client);
            turn.pin = match connected {
                Ok(()) => PinLink::On,
                Err((_, false)) => PinLink::Off,
                Err((_, true)) => PinLink::Unknown,
            };
            connected.map_err(|(failure, _)| failure)?;
        }
        Ok(())
    }

    /// Called with the turn: no other thread makes them meanwhile.
    fn make_msi(&self) -> Result<&Vectors, ClientError> {
        if let Some(made) = self.msi.get() {
            return Ok(made);
        }
        let made = Vectors::attach(IrqType::Msi, self.msi_count, &self.router);
        let made = made.map_err(|source| ClientError::Refused {
            device: self.client.name().to_owned(),
            doing: format!("attaching {} vectors for MSI", self.msi_count),
            source,
        })?;
        Ok(self.msi.get_or_init(|| made))
    }
}

impl Drop for Interrupts {
    /// For a function that was not made after all: there is no device to tell.
    fn drop(&mut self) {
        if !locked(&self.turn).released {
            for vectors in self.msix.iter().chain(self.msi.get()) {
                vectors.detach(&*self.router);
            }
        }
    }
}
