//! Writes to device memory that signal an eventfd and do not reach the device: no vCPU leaves the guest for
//! longer than the host's kernel needs.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// Which addresses of guest memory space signal which eventfds. One for a machine.
///
/// The value of such a write is lost. A device asks for it where the value says nothing new, and takes it back
/// before it does again. What it asked for stays where a BAR is no longer decoded, so that it is there when
/// the BAR comes back to its place; whoever places BARs clears what another one finds in its range.
pub trait IoEvents: Send + Sync {
    /// Has writes to `address` signal `event`, in place of what they signalled before. Costs nothing where
    /// that is how it is.
    ///
    /// # Errors
    /// There are as many as the machine takes, or the host refuses: writes reach the device.
    fn connect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()>;

    /// Has writes to `address` reach the device once this returns, if they signal `event` now.
    ///
    /// # Errors
    /// The host refuses: writes still signal.
    fn disconnect(&self, address: GuestAddress, event: &Arc<EventFd>) -> io::Result<()>;

    /// Has writes to `range` reach devices once this returns.
    fn clear(&self, range: &RangeInclusive<u64>);
}
