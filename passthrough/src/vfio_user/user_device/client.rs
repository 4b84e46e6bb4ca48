//! The calls of [`Client`], one after another: each takes the session that is there, and what it may take in all.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};
use std::thread;

use devices::lifecycle::Deadline;
use vfio_user::protocol::command;
use vm_memory::MmapRegion;
use vmm_sys_util::eventfd::EventFd;

use super::UserDevice;
use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Region, region};
use crate::vfio_user::borrowed_event::borrow;
use crate::vfio_user::calls::Allowance;
use crate::vfio_user::irqs::{self, Call};
use crate::vfio_user::session::Signals;
use crate::vfio_user::{accesses, description, io_events, keeper};

impl UserDevice {
    /// Has the server's own register of `irq` say that it is on with so many vectors, or off.
    fn say(
        &self,
        call: &Call<'_>,
        irq: IrqType,
        vectors: Option<usize>,
    ) -> Result<(), ClientError> {
        let Some((at, byte)) = self.description.enables.byte(irq, vectors) else {
            return Ok(());
        };
        let place = (region::CONFIG, at);
        accesses::write(call.link, call.session, place, &[byte], call.allowance)
    }
}

impl Client for UserDevice {
    fn name(&self) -> &str {
        &self.link.name
    }

    fn region(&self, index: u32) -> &Region {
        let regions = &self.description.regions;
        regions.get(index as usize).unwrap_or(&self.none)
    }

    fn irqs(&self, irq: IrqType) -> u32 {
        let index = description::index(irq) as usize;
        self.description.irqs.get(index).copied().unwrap_or(0)
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), ClientError> {
        let session = self.link.session()?;
        accesses::read(&self.link, &session, (region, offset), data)
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let session = self.link.session()?;
        let allowance = self.link.allow(&session);
        accesses::write(&self.link, &session, (region, offset), data, allowance)
    }

    fn map(&self, region: u32, area: Area) -> io::Result<Arc<MmapRegion>> {
        let end = area.offset.checked_add(area.size);
        let inside = |of: &Area| {
            area.offset >= of.offset && end.is_some_and(|end| end <= of.offset + of.size)
        };
        if area.size == 0 || !self.region(region).areas.iter().any(inside) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let session = self.link.session().map_err(io::Error::other)?;
        match session.files.get(region as usize) {
            Some(Some(file)) => file.map(area).map(Arc::new),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn connect(
        &self,
        irq: IrqType,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<(), ClientError> {
        let end = u64::from(first) + events.len() as u64;
        if end > self.irqs(irq).into() {
            return Err(ClientError::Refused {
                device: self.link.name.clone(),
                doing: format!("connecting {} interrupts from {first} on", events.len()),
                source: io::ErrorKind::InvalidInput.into(),
            });
        }
        let session = self.link.session()?;
        let call = Call::new(&self.link, &session);
        irqs::connect(&call, irq, first, events, borrow(&self.unheard))?;
        if session.signals(irq) == Signals::On {
            return Ok(());
        }
        self.say(&call, irq, Some(end as usize))?;
        session.set_signals(irq, Signals::On);
        Ok(())
    }

    fn disconnect(&self, irq: IrqType) -> Result<(), ClientError> {
        let session = self.link.session()?;
        // There are servers that switch all types off with any.
        if session.signals(irq) == Signals::Off {
            return Ok(());
        }
        if irq == IrqType::Intx {
            session.set_resample(None);
        }
        let call = Call::new(&self.link, &session);
        irqs::disconnect(&call, irq, self.irqs(irq), borrow(&self.unheard))?;
        // Before the register, which says nothing of signals.
        session.set_signals(irq, Signals::Off);
        self.say(&call, irq, None)
    }

    fn set_pin_masked(&self, masked: bool) -> Result<(), ClientError> {
        let session = self.link.session()?;
        irqs::set_pin_masked(&Call::new(&self.link, &session), masked)
    }

    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        let session = self.link.session()?;
        session.set_resample(None);
        // Some servers take an eventfd for this and never look at it. One whose pin masks itself has use for it.
        let theirs = self.description.automasked && {
            let lent = event.map(|event| borrow(event));
            match irqs::unmask_by(&Call::new(&self.link, &session), lent) {
                Ok(()) => true,
                Err(ClientError::Refused { .. }) => false,
                Err(error) => return Err(error),
            }
        };
        if !theirs {
            session.set_resample(event.cloned());
        }
        // The thread looks at what it waits for anew.
        let _ = self.link.wake.write(1);
        Ok(())
    }

    fn io_events(&self, region: u32) -> Vec<IoEvent> {
        let size = self.region(region).size;
        match self.link.session() {
            Ok(session) if size > 0 => io_events::ask(&self.link, &session, region, size),
            _ => Vec::new(),
        }
    }

    fn bound(&self, by: Option<Deadline>) {
        self.link.bound(by.map(Deadline::instant));
    }

    fn cancel_waits(&self) {
        if let Ok(session) = self.link.session() {
            session.requests.cancel();
        }
    }

    fn can_reset(&self) -> bool {
        self.description.reset
    }

    /// A server that says so, and then answers that it knows no reset, has none until it comes anew: the next one may be
    /// another program.
    fn has_reset(&self) -> bool {
        let session = self.link.session();
        self.description.reset && !session.is_ok_and(|session| session.lacks_reset())
    }

    fn reset(&self, by: Deadline) -> Result<(), ClientError> {
        let link = &self.link;
        let session = link.session()?;
        let doing = "a reset";
        let request = (command::DEVICE_RESET, &[][..]);
        let allowance = Allowance::until(by.instant());
        let refused = match link.ask(&session, request, &[], allowance, doing) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let ClientError::Refused { source, .. } = &refused
            && is_unknown(source)
            && session.set_lacks_reset()
        {
            link.observer.warn(&format!(
                "the server said that it can be reset, and answers that it cannot ({source}): from now on it is not \
                 reset"
            ));
        }
        Err(refused)
    }

    fn revive(&self, by: Deadline) -> Result<(), ClientError> {
        keeper::revive(&self.link, by)
    }

    fn session(&self) -> u64 {
        self.link.sessions()
    }

    fn gone(&self) -> Option<String> {
        self.link.gone()
    }

    fn is_quiet(&self, _: bool) -> bool {
        self.link.is_quiet()
    }

    fn release(&self) {
        self.link.release();
        let keeper = (self.keeper.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(keeper) = keeper
            && keeper.thread().id() != thread::current().id()
        {
            // It has nothing to wait for any more.
            let _ = keeper.join();
        }
    }
}

/// Whether this is how a server answers a command that it does not know.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOTSUP | libc::ENOSYS | libc::ENOTTY)
    )
}
