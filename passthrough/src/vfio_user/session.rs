//! One connection to a server that has guest memory and a reader, and what was said over it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfio_user::client::Requests;
use vfio_user::protocol::Capabilities;
use vmm_sys_util::eventfd::EventFd;

use super::description;
use super::lease::Lease;
use super::process::ServerProcess;
use super::shared_file::SharedFile;
use crate::client::IrqType;

/// See the module's header.
pub struct Session {
    /// Commands to the server.
    pub requests: Requests,
    /// What it stated.
    pub server: Capabilities,
    /// Files of the regions that can be mapped.
    pub files: Vec<Option<SharedFile>>,
    /// Who is behind it.
    pub process: Arc<ServerProcess>,
    /// Guest memory, by messages.
    pub lease: Arc<Lease>,
    told: Mutex<Told>,
}

/// What a server was told of interrupts, and said of its reset.
#[derive(Default)]
struct Told {
    /// By the numbers of the types.
    types: [Signals; 3],
    /// What unmasks the pin when it is signalled, where the server does not look itself.
    resample: Option<Arc<EventFd>>,
    /// The server knows no reset, whatever it said before.
    lacks_reset: bool,
}

/// Whether a type of interrupts signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signals {
    /// It does not.
    #[default]
    Off,
    /// It was told to, and not all of that has come to an end: some may.
    Perhaps,
    /// It does.
    On,
}

impl Session {
    /// A session in which the server was told nothing yet.
    pub fn new(
        requests: Requests,
        server: Capabilities,
        files: Vec<Option<SharedFile>>,
        process: Arc<ServerProcess>,
        lease: Arc<Lease>,
    ) -> Self {
        Self {
            requests,
            server,
            files,
            process,
            lease,
            told: Mutex::default(),
        }
    }

    /// Whether `irq` signals.
    pub fn signals(&self, irq: IrqType) -> Signals {
        self.told().types[description::index(irq) as usize]
    }

    /// From now on it does, or does not.
    pub fn set_signals(&self, irq: IrqType, signals: Signals) {
        self.told().types[description::index(irq) as usize] = signals;
    }

    /// What unmasks the pin here.
    pub fn resample(&self) -> Option<Arc<EventFd>> {
        self.told().resample.clone()
    }

    /// From now on it is this.
    pub fn set_resample(&self, event: Option<Arc<EventFd>>) {
        self.told().resample = event;
    }

    /// Whether the server has answered that it knows no reset.
    pub fn lacks_reset(&self) -> bool {
        self.told().lacks_reset
    }

    /// It has answered so. Says whether it is the first time.
    pub fn set_lacks_reset(&self) -> bool {
        !std::mem::replace(&mut self.told().lacks_reset, true)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
