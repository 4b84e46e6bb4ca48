//! Eventfds of a function's own.
#![allow(
    unsafe_code,
    reason = "the crate that makes eventfds cannot lend their descriptors"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::eventfd::EventFd;

/// An eventfd that neither blocks nor is inherited.
pub(super) fn new_event() -> io::Result<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
}

/// Its descriptor.
pub(super) fn descriptor(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the eventfd is open as long as it is borrowed, and the answer does not live longer.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
