//! One PCI function of the guest, over any [`Client`].
//!
//! The guest's configuration space is the function's own: made from the device's when it is opened (`physical`,
//! `layout`), then answered and changed here (`registers`). What the guest writes reaches the device in these ways
//! and no other:
//!
//! - the command register: memory decoding is always on, bus mastering and INTx disable are as the guest has them,
//!   with bus mastering off in D3hot. The device itself stays in D0.
//! - interrupts, which follow the guest's registers (`interrupts`): by MSI-X, MSI or the pin.
//! - BARs: mapped into the guest where the device allows it (`windows`), else access by access (`pci`). The MSI-X
//!   table and its pending bits are the function's own.
//! - writes that the device offers eventfds for (`io_events`): what it offers after a reset, before the guest has
//!   touched it, holds until the next one.
//! - resets, made by a thread (`guest_reset`); meanwhile, and when the device is gone, all reads are all-ones
//!   (`presence`).
//! - registers of the first 256 bytes that no capability has, and bodies of vendor-specific capabilities: some drivers
//!   need them, and the host's kernel lets through no more than it finds harmless. Those reads wait for the device.
//!
//! Locks, in their order: placement, or nothing → which reset runs → the registers, a leaf. The turn of `interrupts` →
//! the registers; `windows`; `io_events`. The turn is held over the client's calls, since interrupts must not be
//! connected in another order than the guest asked for; the latter two over the machine's, which changes its memory
//! slots and its eventfds. No other lock is held over a call.
//!
//! Not implemented: I/O BARs and the expansion ROM, which are hidden; wake-up; physical power states; SR-IOV, ATS, PRI,
//! PASID, AER, ARI, resizable BARs, VPD.

mod bars;
mod event;
mod guest_reset;
mod interrupts;
mod io_events;
mod layout;
mod lifecycle;
mod pci;
mod physical;
mod presence;
mod registers;
mod windows;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use devices::direct_map::GuestMapper;
use devices::guest_acts::ActLog;
use devices::interrupt::{MsiRouter, ResampledLine};
use devices::io_event::IoEvents;
use devices::pci::{Attachment, IntxPin};
use tracing::warn;

use crate::client::{Client, ClientError, IrqType, Observer};
use guest_reset::GuestReset;
use interrupts::{Interrupts, Pin};
use io_events::WriteEvents;
use layout::Layout;
use physical::Physical;
use presence::Presence;
use registers::Registers;
use windows::Windows;

/// What a function is told of its place in the machine.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The device's id in the configuration.
    pub id: String,
    /// What it is attached to.
    pub attachment: Attachment,
}

/// What a function asks of the machine.
pub struct Machine {
    /// Message-signalled interrupts.
    pub router: Arc<dyn MsiRouter>,
    /// The pin, and the line that it is wired to; without it the function has no pin.
    pub pin: Option<(IntxPin, Arc<dyn ResampledLine>)>,
    /// Device memory in the guest.
    pub mapper: Arc<dyn GuestMapper>,
    /// Writes that signal eventfds; without it all are trapped.
    pub io_events: Option<Arc<dyn IoEvents>>,
}

/// Why a device cannot be passed through.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// It does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody is there.
    #[error("{device}: its vendor id reads as that of no device: it is unplugged or powered down")]
    Absent {
        /// The device.
        device: String,
    },
    /// There is no configuration space to speak of.
    #[error("{device}: its configuration space has {size} bytes, and 256 are the least")]
    ConfigSpace {
        /// The device.
        device: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A bridge.
    #[error(
        "{device}: header type {header} is that of a bridge: pass through the endpoints behind it"
    )]
    NotAnEndpoint {
        /// The device.
        device: String,
        /// Its header type.
        header: u8,
    },
    /// A BAR that cannot be.
    #[error("{device}: BAR {bar} of {size:#x} bytes is larger than a BAR of its kind can be")]
    Bar {
        /// The device.
        device: String,
        /// The BAR.
        bar: u8,
        /// Its size in bytes.
        size: u64,
    },
    /// An MSI-X table or pending bits that cannot be.
    #[error(
        "{device}: its MSI-X table or pending bits end at {end:#x} of BAR {bar}, a memory BAR of {size:#x} bytes"
    )]
    Msix {
        /// The device.
        device: String,
        /// The BAR that the capability names.
        bar: u8,
        /// Where it ends.
        end: u64,
        /// The size of the BAR; 0 where there is no such memory BAR.
        size: u64,
    },
    /// The machine or the host has no more vectors.
    #[error("{device}: interrupt vectors: {source}")]
    Vectors {
        /// The device.
        device: String,
        /// The host's error.
        source: io::Error,
    },
}

/// A passed-through PCI function. See the module's header.
///
/// A device that has no reset ([`Client::has_reset`]) goes through a teardown without one: its bus mastering and its
/// interrupts are off, and all that the guest sees of its configuration is at power-on, but what is behind its BARs is
/// as the last boot's driver left it. The next driver has to bring it to a known state itself before it turns bus
/// mastering on, or the device may go on with DMA that the last one asked for. A warning says so when the function
/// is made.
pub struct Function {
    id: String,
    client: Arc<dyn Client>,
    vendor: u16,
    layout: Layout,
    registers: Mutex<Registers>,
    interrupts: Interrupts,
    windows: Windows,
    io_events: WriteEvents,
    guest_reset: GuestReset,
    presence: Presence,
    /// Bus mastering was turned off by a reset or a teardown, and read back so; the guest has not turned it on since.
    quiesced: AtomicBool,
    /// Something was refused since the last teardown, and the user told.
    warned: AtomicBool,
    observer: OnceLock<Arc<dyn Observer>>,
    acts: ActLog,
    own: Weak<Self>,
}

impl Function {
    /// Makes the function of a device that is open. Its bus mastering is off.
    ///
    /// # Errors
    /// The device cannot be passed through, and why.
    pub fn new(
        config: FunctionConfig,
        client: Arc<dyn Client>,
        machine: Machine,
    ) -> Result<Arc<Self>, FunctionError> {
        let session = client.session();
        let physical = Physical::read(&*client)?;
        let pin = machine.pin.as_ref().map(|(pin, _)| *pin);
        let (layout, space) = layout::lay_out(&*client, &physical, config.attachment, pin)?;
        let no_vectors = |source| FunctionError::Vectors {
            device: client.name().to_owned(),
            source,
        };
        let pin = match machine.pin {
            Some((_, line)) if layout.has_pin => Some(Pin::new(line).map_err(no_vectors)?),
            _ => None,
        };
        let most = |irq| client.irqs(irq).min(u16::MAX.into()) as u16;
        let msix = layout.msix.map_or(0, |msix| msix.vectors);
        let interrupts = Interrupts::new(
            Arc::clone(&client),
            machine.router,
            msix.min(most(IrqType::Msix)),
            layout.msi.map_or(0, |msi| msi.vectors),
            pin,
        )
        .map_err(no_vectors)?;
        let windows = Windows::new(machine.mapper, &*client, &layout);
        let function = Arc::new_cyclic(|own| Self {
            id: config.id,
            vendor: physical.word(0),
            registers: Mutex::new(Registers::new(space, &layout)),
            layout,
            interrupts,
            windows,
            io_events: WriteEvents::new(machine.io_events),
            guest_reset: GuestReset::default(),
            presence: Presence::new(session),
            quiesced: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            observer: OnceLock::new(),
            acts: ActLog::default(),
            own: own.clone(),
            client,
        });
        // Before the rest, which fails where nobody has answered this.
        function.io_events.ask(&*function.client, &function.layout);
        function.settle()?;
        if !function.client.has_reset() {
            warn!(
                device = %function.id,
                "{} cannot be reset: at a reboot its bus mastering and interrupts are turned off, and the rest is left \
                 to the guest's driver",
                function.client.name()
            );
        }
        Ok(function)
    }

    /// The device's id in the configuration.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The device.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// Has vCPUs that wait for the device in an access return at once, with all-ones: see [`Client::cancel_waits`]. Who
    /// pauses them for a teardown calls this again until all have stopped.
    pub fn cancel_waits(&self) {
        self.client.cancel_waits();
    }

    /// Has the device do what the registers ask for.
    fn settle(&self) -> Result<(), ClientError> {
        self.interrupts
            .settle(|| locked(&self.registers).wanted(&self.layout))
    }

    /// The same, for a thread that has nobody to tell.
    fn settle_or_warn(&self) {
        if let Err(failure) = self.settle() {
            self.note(&failure);
        }
    }
}

/// Registers of a thread that panicked are those that the guest wrote.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
