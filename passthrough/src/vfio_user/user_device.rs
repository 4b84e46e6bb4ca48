//! [`Client`] over the connection to a server.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, mem};

use devices::lifecycle::Deadline;
use vfio_user::protocol::{DEFAULT_TRANSFER, RegionAccess, command};
use vm_memory::{GuestMemoryMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromBytes, IntoBytes};

use super::borrowed_event::borrow;
use super::candidate::Candidate;
use super::description::{self, Description};
use super::guest_memory::ServedMemory;
use super::io_events;
use super::link::Link;
use super::session::Session;
use super::{OpenError, UserOptions, irqs, keeper};
use crate::client::{Area, Client, ClientError, IoEvent, IrqType, Observer, Region, region};

/// Most bytes of a thread's name in the kernel.
const NAME: usize = 15;

/// See the module's header. What a server is made to do is in the messages of its errors.
pub struct UserDevice {
    link: Arc<Link>,
    description: Arc<Description>,
    /// Stands in for vectors without a signal.
    unheard: EventFd,
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// What a region without size stands for.
    none: Region,
}

impl UserDevice {
    pub(super) fn open(
        socket: &Path,
        options: UserOptions,
        memory: &GuestMemoryMmap<()>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, OpenError> {
        let host = |what| {
            move |source| OpenError::Host {
                socket: socket.to_owned(),
                what,
                source,
            }
        };
        let memory = ServedMemory::new(memory);
        memory.seal();
        let candidate = Candidate::connect(socket, options.request_timeout, drop)?;
        let found = candidate.find()?;
        let unheard = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let unheard = unheard.map_err(host("eventfd"))?;
        let link = Link::new(socket.to_owned(), options, memory.clone(), observer);
        let link = Arc::new(link.map_err(host("eventfd"))?);
        for warning in found.warnings() {
            link.observer.warn(warning);
        }
        if options.fence && !found.process().is_known() {
            // A service manager listens for it, or it is in another container.
            let warning =
                "it is not known which process the server is: it will not be ended where it hangs";
            link.observer.warn(warning);
        }
        let description = Arc::new(found.description.clone());
        link.lock().holders.add(found.process());
        let (session, reader) = found.give(&memory)?;
        let session = Arc::new(session);
        link.begin(Arc::clone(&session));
        let theirs = (Arc::clone(&link), Arc::clone(&description));
        let keeper = thread::Builder::new()
            .name(thread_name(socket))
            .spawn(move || keeper::run(&theirs.0, &theirs.1, session, reader))
            .map_err(host("thread"))?;
        Ok(Arc::new(Self {
            link,
            description,
            unheard,
            keeper: Mutex::new(Some(keeper)),
            none: Region::default(),
        }))
    }

    /// Has the server's own register of `irq` say that it is on with so many vectors, or off.
    fn turn(&self, irq: IrqType, vectors: Option<usize>) -> Result<(), ClientError> {
        match self.description.enables.byte(irq, vectors) {
            Some((at, byte)) => self.write(region::CONFIG, at, &[byte]),
            None => Ok(()),
        }
    }

    /// Most bytes of one access.
    fn step(session: &Session) -> usize {
        session.server.transfer().min(DEFAULT_TRANSFER) as usize
    }
}

/// `vfio-user` and the socket's name, as much as fits.
fn thread_name(socket: &Path) -> String {
    let stem = socket.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = String::from("vfio-user ");
    for letter in stem.chars() {
        if name.len() + letter.len_utf8() > NAME {
            break;
        }
        name.push(letter);
    }
    name
}

/// An access as an error names it.
struct Access(&'static str, u32, u64);

impl std::fmt::Display for Access {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(what, region, offset) = self;
        write!(
            to,
            "a {what} of {} at {offset:#x}",
            description::name(*region)
        )
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
        let mut at = offset;
        for piece in data.chunks_mut(Self::step(&session)) {
            let doing = Access("read", region, at);
            let access = RegionAccess {
                offset: at,
                region,
                count: piece.len() as u32,
            };
            let request = (command::REGION_READ, &[access.as_bytes()][..]);
            let link = &self.link;
            let reply = link.ask(&session, request, &[], link.due(), &doing)?;
            match RegionAccess::read_from_prefix(&reply.payload) {
                Ok((theirs, found)) if theirs == access && found.len() == piece.len() => {
                    piece.copy_from_slice(found);
                }
                _ => return Err(link.nonsense(&session, doing)),
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let session = self.link.session()?;
        let mut at = offset;
        for piece in data.chunks(Self::step(&session)) {
            let access = RegionAccess {
                offset: at,
                region,
                count: piece.len() as u32,
            };
            let payload = [access.as_bytes(), piece];
            let request = (command::REGION_WRITE, &payload[..]);
            (self.link).post(&session, request, Access("write", region, at))?;
            at += piece.len() as u64;
        }
        Ok(())
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
        let index = description::index(irq) as usize;
        let was_on = mem::replace(&mut self.link.lock().connected[index], true);
        let unheard = borrow(&self.unheard);
        irqs::connect(&self.link, &session, irq, first, events, unheard)?;
        if was_on {
            return Ok(());
        }
        self.turn(irq, Some(end as usize))
    }

    fn disconnect(&self, irq: IrqType) -> Result<(), ClientError> {
        let session = self.link.session()?;
        let index = description::index(irq) as usize;
        {
            let mut state = self.link.lock();
            // There are servers that switch all types off with any.
            if !state.connected[index] {
                return Ok(());
            }
            if irq == IrqType::Intx {
                state.resample = None;
            }
        }
        let unheard = borrow(&self.unheard);
        irqs::disconnect(&self.link, &session, irq, self.irqs(irq), unheard)?;
        self.link.lock().connected[index] = false;
        self.turn(irq, None)
    }

    fn set_pin_masked(&self, masked: bool) -> Result<(), ClientError> {
        let session = self.link.session()?;
        irqs::set_pin_masked(&self.link, &session, masked)
    }

    fn unmask_pin_by(&self, event: Option<&Arc<EventFd>>) -> Result<(), ClientError> {
        let link = &self.link;
        let session = link.session()?;
        link.lock().resample = None;
        // Some servers take an eventfd for this and never look at it. One whose pin masks itself has use for it.
        let theirs = self.description.automasked && {
            let lent = event.map(|event| borrow(event));
            match irqs::unmask_by(link, &session, lent) {
                Ok(()) => true,
                Err(ClientError::Refused { .. }) => false,
                Err(error) => return Err(error),
            }
        };
        if !theirs {
            let mut state = link.lock();
            if state.has(&session) {
                state.resample = event.cloned();
            }
        }
        // The thread looks at what it waits for anew.
        let _ = link.wake.write(1);
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

    fn can_reset(&self) -> bool {
        self.description.reset
    }

    fn reset(&self, by: Deadline) -> Result<(), ClientError> {
        let link = &self.link;
        let session = link.session()?;
        let doing = "a reset";
        let request = (command::DEVICE_RESET, &[][..]);
        link.ask(&session, request, &[], by.instant(), doing)?;
        Ok(())
    }

    fn revive(&self, by: Deadline) -> Result<(), ClientError> {
        keeper::revive(&self.link, by)
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

impl Drop for UserDevice {
    fn drop(&mut self) {
        self.release();
    }
}
