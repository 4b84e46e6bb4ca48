//! The VFIO device interface: what the kernel offers for a device that is bound to `vfio-pci`, and a vfio-user
//! server for one that it emulates.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use devices::lifecycle::Deadline;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

/// Numbers of the regions of a PCI device, as VFIO counts them; BARs are 0 to 5.
pub mod region {
    /// The expansion ROM.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
}

/// A part of a region that can be mapped. Both are multiples of the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it begins in the region, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// A region of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its size in bytes; 0 where the device has no such region.
    pub size: u64,
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// The parts that can be mapped, in order and without overlap.
    pub areas: Vec<Area>,
}

/// How a PCI device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IrqType {
    /// By its pin. Masks itself when it is triggered.
    Intx,
    /// MSI.
    Msi,
    /// MSI-X.
    Msix,
}

/// Writes to a region that an eventfd stands for: see [`Client::io_events`].
#[derive(Clone, Debug)]
pub struct IoEvent {
    /// Where in the region, in bytes: the address of the write, which may have any width.
    pub offset: u64,
    /// What is signalled.
    pub event: Arc<EventFd>,
}

/// Why the device did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kernel or the server refused. The device goes on.
    #[error("{device}: {doing}: {source}")]
    Refused {
        /// The device, as the user named it.
        device: String,
        /// What was being done.
        doing: String,
        /// Its error.
        source: io::Error,
    },
    /// It did not answer in time. Whatever it was asked for may still happen.
    #[error("{device}: {doing}: no answer within {} ms", after.as_millis())]
    TimedOut {
        /// The device.
        device: String,
        /// What was being done.
        doing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The wait for its answer was ended by [`Client::cancel_waits`]. Whatever it was asked for may still happen.
    #[error("{device}: {doing}: its answer was not waited for")]
    Cancelled {
        /// The device.
        device: String,
        /// What was being done.
        doing: String,
    },
    /// It is gone: unplugged, or the server has died.
    #[error("{device} is gone: {reason}")]
    Gone {
        /// The device.
        device: String,
        /// How that was noticed.
        reason: String,
    },
}

/// Is told what becomes of a device, on any thread. Must not block.
pub trait Observer: Send + Sync {
    /// The device is gone or does not answer: all reads are all-ones from now on.
    fn gone(&self, reason: &str);

    /// The device is back. The guest sees it again from its next boot on.
    fn back(&self);

    /// Something that a user should know of.
    fn warn(&self, message: &str);
}

/// A device of the kernel or of a server. Guest memory is given to it when it is opened, and stays.
///
/// Methods may be called by several threads at once. None of them holds a lock over a system call that can block,
/// and all return: with an error where nobody answers in time.
pub trait Client: Send + Sync {
    /// The device as the user named it: an address in the host, or a socket.
    fn name(&self) -> &str;

    /// The region `index`; one that the device does not have is empty. Known since the device was opened.
    fn region(&self, index: u32) -> &Region;

    /// How many interrupts of this type there are. Known since the device was opened.
    fn irqs(&self, irq: IrqType) -> u32;

    /// Reads from a region. All of it is inside.
    ///
    /// # Errors
    /// `data` is undefined then: the caller makes all-ones of it.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError>;

    /// Writes to a region. All of it is inside. May return before the write has had its effect; writes and reads
    /// of one thread have theirs in order.
    ///
    /// # Errors
    /// The write may have been lost.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError>;

    /// Maps an area that [`Client::region`] names, or a part of one, aligned to pages. A device that was brought back
    /// by [`Client::revive`] has to be mapped anew. While it is gone, its mappings may read as all-ones.
    ///
    /// # Errors
    /// The host refuses: the area is reached by [`Client::read`] and [`Client::write`].
    fn map(&self, region: u32, area: Area) -> io::Result<Arc<MmapRegion>>;

    /// Has interrupts of `irq` from `first` on signal these eventfds, `None` for no signal. Turns the type on where
    /// it is off: MSI with as many vectors as there are `events`, since a device spreads its interrupts over all that
    /// are on; MSI-X with all that it has. Others of them stay as they are, or without a signal.
    ///
    /// # Errors
    /// None of them is connected anew, and those that were connected may have lost their signal.
    fn connect(
        &self,
        irq: IrqType,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), ClientError>;

    /// Whether an interrupt of MSI or MSI-X that is on and without a signal stays pending in the device until it is
    /// connected. It is lost otherwise.
    fn holds_unconnected(&self) -> bool {
        false
    }

    /// Turns a type off: nothing signals any more once this returns. Does nothing to one that is off.
    ///
    /// # Errors
    /// The device may still signal.
    fn disconnect(&self, irq: IrqType) -> Result<(), ClientError>;

    /// Masks or unmasks the pin. Masked, it stays pending in the device.
    ///
    /// # Errors
    /// It stays as it was.
    fn set_pin_masked(&self, masked: bool) -> Result<(), ClientError>;

    /// Has every signal of `event` unmask the pin, as long as the pin is connected: the guest has ended its
    /// interrupt. `None` ends that.
    ///
    /// # Errors
    /// The caller has to unmask the pin itself.
    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError>;

    /// Writes to `region` that eventfds may stand for, whatever their value, without overlap. Asked when the device
    /// was opened or reset and the guest has not touched it since: what is offered then has to hold until the next
    /// reset. None from most. Waits for whoever answers, so no vCPU asks.
    fn io_events(&self, region: u32) -> Vec<IoEvent>;

    /// Bounds what calls take from now on, on whichever thread: none waits for an answer beyond `by`. A teardown has
    /// less time than a guest's read. `None` ends that.
    fn bound(&self, by: Option<Deadline>) {
        let _ = by;
    }

    /// Has reads, writes and changes of interrupts that are under way on other threads return at once, with
    /// [`ClientError::Cancelled`] where they have no answer yet: nobody is to wait for the device, which stays as it
    /// is, and may be slow or hung. What it answers late is passed over. Calls that begin afterwards wait, so who
    /// waits for a thread that may make several asks again until it has come. For a teardown: what was cancelled of a
    /// change of interrupts is only made good by the next one. Resets and [`Client::io_events`] are not cancelled.
    ///
    /// Nothing to do where it is the kernel that answers.
    fn cancel_waits(&self) {}

    /// Whether the device can be reset by itself, so that the guest may be shown a function level reset.
    fn can_reset(&self) -> bool;

    /// Whether [`Client::reset`] resets it: by itself, or together with others of its slot or bus. It is not called
    /// for a device that has no reset. That may come out by a reset that is refused, and holds until the next session.
    fn has_reset(&self) -> bool {
        self.can_reset()
    }

    /// Resets the device to its state after power-on, and returns when that is done or has failed: at `by` at the
    /// latest where whoever answers is not the kernel, whose reset cannot be called off.
    ///
    /// # Errors
    /// The device is in no defined state. Refused with `EAGAIN`, the reset was put off, and may be asked for again.
    fn reset(&self, by: Deadline) -> Result<(), ClientError>;

    /// Brings a device back that was gone, with guest memory and all that it had when it was opened; interrupts are
    /// off. Does nothing to one that is there.
    ///
    /// # Errors
    /// It is still gone, or another one is in its place.
    fn revive(&self, by: Deadline) -> Result<(), ClientError>;

    /// Counts from 1 on how often the device has come: when it was opened, and each time that it was back after it was
    /// gone. It has forgotten by then what it was told in earlier sessions. Does not wait.
    fn session(&self) -> u64 {
        1
    }

    /// Why the device is gone; `None` if it is there.
    fn gone(&self) -> Option<String>;

    /// Whether the device can be relied on not to write to guest memory any more, given that bus mastering was
    /// turned off where `quiesced` says so.
    fn is_quiet(&self, quiesced: bool) -> bool;

    /// Gives back what the device holds of the host. It is not called again.
    fn release(&self);
}
