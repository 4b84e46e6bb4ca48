//! A server's device: opened, and given back.

mod client;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::candidate::Candidate;
use super::description::Description;
use super::guest_memory::ServedMemory;
use super::holder::Holder;
use super::lease::Lease;
use super::link::Link;
use super::{OpenError, UserOptions, keeper};
use crate::client::{Client, Observer, Region};

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
        let is_sealed = memory.seal();
        let candidate = Candidate::connect(socket, options.request_timeout, drop)?;
        let found = candidate.find()?;
        let unheard = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let unheard = unheard.map_err(host("eventfd"))?;
        let link = Link::new(socket.to_owned(), options, memory.clone(), observer);
        let link = Arc::new(link.map_err(host("eventfd"))?);
        for warning in found.warnings() {
            link.observer.warn(warning);
        }
        if !is_sealed {
            let warning = "guest memory is in a file that the server could cut short, which would end the machine: \
                           have it in a memfd that takes seals";
            link.observer.warn(warning);
        }
        if options.fence && !found.process().is_known() {
            // A service manager listens for it, or it is in another container.
            let warning =
                "it is not known which process the server is: it will not be ended where it hangs";
            link.observer.warn(warning);
        }
        if found.process().pid() == 0 && memory.is_shared() {
            let warning = "the server is in no process namespace that is seen here: once it is gone, neither it nor \
                           another in its place is given the guest's memory again, since nobody knows whether it has \
                           ended; run it where its processes are seen";
            link.observer.warn(warning);
        }
        let description = Arc::new(found.description.clone());
        let lease = Arc::new(Lease::new(&memory));
        link.lock().holder = Some(Holder::new(found.process(), &lease));
        let (session, reader) = found.give(lease)?;
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

impl Drop for UserDevice {
    fn drop(&mut self) {
        self.release();
    }
}
