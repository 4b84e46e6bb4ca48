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
