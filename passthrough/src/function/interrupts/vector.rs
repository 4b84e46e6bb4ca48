//! A vector of MSI or MSI-X: the eventfds that it may signal, and its place in the machine's routing.

use std::io;
use std::sync::OnceLock;

use devices::interrupt::Route;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_sys_util::eventfd::EventFd;

use super::Target;
use crate::function::event::{descriptor, new_event};

/// Whom a vector signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    #[default]
    Nobody,
    Held,
    Guest,
    /// One of these: a call that was to change it has failed.
    Unknown,
}

/// See the module's header.
pub(super) struct Vector {
    pub(super) guest: EventFd,
    /// Made when the vector is first on and masked.
    held: OnceLock<EventFd>,
    pub(super) route: Route,
}

impl Vector {
    pub(super) fn new(guest: EventFd, route: Route) -> Self {
        Self {
            guest,
            held: OnceLock::new(),
            route,
        }
    }

    /// Whom it shall signal, `is_routed` if its message is in the machine's routing. A device that holds interrupts
    /// without a signal itself is left to it.
    ///
    /// # Errors
    /// The host has no eventfd for what comes while it is masked.
    pub(super) fn link(
        &self,
        target: Target,
        is_routed: bool,
        before: Link,
        device_holds: bool,
    ) -> io::Result<Link> {
        match (target, before) {
            (Target::Open(_), _) if is_routed => Ok(Link::Guest),
            (_, Link::Nobody) if device_holds => Ok(Link::Nobody),
            // One that cannot be routed waits as well.
            _ => self.hold().map(|()| Link::Held),
        }
    }

    pub(super) fn eventfd(&self, link: Link) -> Option<&EventFd> {
        match link {
            Link::Nobody | Link::Unknown => None,
            Link::Held => self.held.get(),
            Link::Guest => Some(&self.guest),
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        let Some(held) = self.held.get() else {
            return false;
        };
        let held = descriptor(held);
        let mut polled = [PollFd::new(&held, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
    }

    /// Takes what is pending; says whether something was.
    pub(super) fn take_pending(&self) -> bool {
        self.held.get().is_some_and(|held| held.read().is_ok())
    }

    /// Interrupts the guest.
    pub(super) fn fire(&self) {
        // A full counter means that the interrupt is already on its way.
        let _ = self.guest.write(1);
    }

    fn hold(&self) -> io::Result<()> {
        if self.held.get().is_none() {
            let _ = self.held.set(new_event()?);
        }
        Ok(())
    }
}
