//! Doorbells as eventfds that a client connects, if it asks for them.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use devices::io_event::IoEvents;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// Nothing is connected here: a client that asks what can be is told by the controller, and connects it itself.
pub struct ClientEvents;

/// A descriptor of `event` for the client.
#[allow(
    unsafe_code,
    reason = "the crate of `EventFd` gives its descriptor as a number"
)]
pub fn descriptor(event: &EventFd) -> io::Result<OwnedFd> {
    let own = event.try_clone()?.into_raw_fd();
    // SAFETY: nobody else has the copy's number.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

impl IoEvents for ClientEvents {
    fn connect(&self, _: GuestAddress, _: &Arc<EventFd>) -> io::Result<()> {
        Ok(())
    }

    fn disconnect(&self, _: GuestAddress, _: &Arc<EventFd>) -> io::Result<()> {
        Ok(())
    }

    fn clear(&self, _: &RangeInclusive<u64>) {}
}
