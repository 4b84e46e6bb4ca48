//! How a device interrupts its guest: vectors that are eventfds, and INTx lines.

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// The message of one message-signalled interrupt, as the guest wrote it to the MSI-X table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where the message is written.
    pub address: u64,
    /// What is written there.
    pub data: u32,
}

/// A place in the machine's interrupt routing, held by one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route(pub u32);

/// Connects vectors to the guest's interrupt controller. A vector is an eventfd: once it is attached
/// and has a message, a write to the eventfd interrupts the guest.
pub trait MsiRouter: Send + Sync {
    /// Attaches `vectors`, in order. They stay attached, without a message, over guest resets.
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>>;

    /// Gives each route its message, or takes it away. One batch is one change of the machine's routing.
    fn set_messages(&self, changes: &[(Route, Option<MsiMessage>)]) -> io::Result<()>;

    /// Detaches the vectors of `routes`. For device release only.
    fn detach(&self, routes: &[(Route, &EventFd)]);
}

/// One function's connection to a level-triggered, shared interrupt line.
pub trait IntxLine: Send + Sync {
    /// Says whether this function asserts the line. The line is high while any function asserts it.
    fn set(&self, asserted: bool);
}

/// A level-triggered line that an eventfd asserts, until the guest ends the interrupt. For devices that are not in
/// this process; those share lines with devices that are.
pub trait ResampledLine: Send + Sync {
    /// Has a signal of `trigger` assert the line. When the guest ends the interrupt, the line is deasserted and
    /// `resample` signalled: whoever still has a reason to interrupt signals `trigger` again.
    ///
    /// # Errors
    /// The host refuses.
    fn connect(&self, trigger: &EventFd, resample: &EventFd) -> io::Result<()>;

    /// Ends that, and deasserts the line.
    ///
    /// # Errors
    /// The host refuses.
    fn disconnect(&self, trigger: &EventFd) -> io::Result<()>;
}
