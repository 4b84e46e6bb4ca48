//! The controller: registers and the state machine behind CC and CSTS (base 2.0, sections 3.1.3, 3.5, 3.7).
//!
//! ```text
//!            EN=1, CC good                    EN=0, FLR, bus reset, teardown
//!    Idle ──────────────────▶ Ready(session) ───────────────────────────────▶ Draining(session)
//!     │ ▲ ▲                                      (nothing in flight: Idle at once)    │
//!     │ │ └───────────────── the last command in flight ended ───────────────────────┘
//!     │ └──────── EN=0                                              (EN=1 meanwhile: then enable)
//!     └─────────▶ Refused: EN=1 with a bad CC or admin queues outside memory
//! ```
//!
//! A vCPU takes the registers' lock for the length of a register access and never waits for a device.
//! Locks are taken in this order: registers, then gates, queues, control thread. The last one out of a
//! gate takes the registers with no other lock held.

mod behaviour;
mod config;
mod handshake;
mod registers;
mod session;
mod subsystem;
mod teardown;

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use devices::pci::Msix;
use vmm_sys_util::eventfd::EventFd;

pub use config::{
    Connections, ControllerConfig, ControllerError, MAX_IO_QUEUES, MAX_NAMESPACES, NamespaceConfig,
};

use crate::doorbell_events::{DoorbellCounts, DoorbellEvents};
use crate::doorbells::PolledDoorbells;
use crate::drive::Drive;
use crate::engine::{Lane, TimerKey, TimerKind};
use crate::faults::Faults;
use crate::identity::{Identity, digest};
use crate::logs::Logs;
use crate::namespaces::Namespaces;
use crate::pci;
use crate::sanitize::{self, Sanitize};
use crate::selftest::SelfTest;
use crate::session::Session;
use crate::state::{self, Memory};
use registers::Registers;

/// One NVMe controller. Its PCI side is in [`PciFunction`](devices::pci::PciFunction), its host side in
/// [`Device`](devices::lifecycle::Device).
pub struct Controller {
    pub(crate) drive: Arc<Drive>,
    /// The session that doorbells ring, for readers without a lock: there in the state Ready alone.
    pub(crate) session: ArcSwapOption<Session>,
    registers: Mutex<Registers>,
    /// What latencies that vary are drawn from.
    seed: u64,
    me: Weak<Self>,
}

impl Controller {
    /// Makes a controller, powered on and disabled.
    ///
    /// # Errors
    /// Names what is wrong in `config`, or says what the host refused.
    pub fn new(
        config: ControllerConfig,
        connections: Connections,
    ) -> Result<Arc<Self>, ControllerError> {
        config.check()?;
        let endpoint = pci::endpoint(&config, &connections)?;
        let number = connections.engine.next_number();
        let ControllerConfig {
            id,
            serial,
            model,
            firmware,
            namespaces,
            write_cache,
            namespace_store,
            state,
            behaviour,
            seed,
            queue_limit,
            vectors: _,
            attachment: _,
        } = config;
        let unique = digest(&[id.as_bytes(), serial.as_bytes(), model.as_bytes()]);
        let faults = Faults::new(seed);
        let identity = Identity {
            vendor: pci::VENDOR,
            subsystem_vendor: pci::VENDOR,
            serial,
            model,
            firmware,
            unique,
        };
        let (namespaces, store) = Namespaces::open(&identity, namespaces, namespace_store.as_ref())
            .map_err(|source| ControllerError::Store {
                id: id.clone(),
                source,
            })?;
        let (memory, past) =
            Memory::open(state.as_deref()).map_err(|source| ControllerError::State {
                id: id.clone(),
                source,
            })?;
        namespaces.recall(&memory);
        let drive = Arc::new(Drive {
            id,
            identity,
            namespaces,
            store,
            lane: Lane::new(2),
            write_cache,
            queue_limit,
            shutdown_estimate: AtomicU32::new(0),
            logs: Logs::new(&past.life),
            self_test: SelfTest::new(&past.self_tests),
            state: memory,
            memory: connections.memory,
            engine: connections.engine,
            endpoint,
            faults,
            sanitize: Sanitize::new(&past.sanitize),
            released: AtomicBool::new(false),
            number,
            first_thread: number as usize,
            interrupt_mask: AtomicU32::new(0),
            doorbell_events: DoorbellEvents::new(connections.io_events, queue_limit),
            polled_doorbells: OnceLock::new(),
        });
        state::begin_minutes(&drive);
        state::schedule(&drive);
        sanitize::resume(&drive, &past.sanitize);
        let controller = Arc::new_cyclic(|me| Self {
            drive,
            session: ArcSwapOption::empty(),
            registers: Mutex::default(),
            seed,
            me: Weak::clone(me),
        });
        controller.set_behaviour(&behaviour);
        Ok(controller)
    }

    /// The drive's name.
    pub fn id(&self) -> &str {
        &self.drive.id
    }

    /// Sizes of the namespaces in bytes, in the order of their identifiers.
    pub fn namespace_sizes(&self) -> Vec<u64> {
        let namespaces = self.drive.namespaces.all();
        namespaces
            .iter()
            .map(|namespace| namespace.backend().size())
            .collect()
    }

    /// Says that doorbells are polled elsewhere too, for the controller's life. Only the first call counts.
    pub fn poll_doorbells(&self, doorbells: Arc<dyn PolledDoorbells>) {
        let _ = self.drive.polled_doorbells.set(doorbells);
    }

    /// How doorbells of I/O queues came.
    pub fn doorbell_counts(&self) -> DoorbellCounts {
        self.drive.doorbell_events.counts()
    }

    /// The eventfds of doorbells that do not need their values now: guest addresses of the doorbells, 4 bytes
    /// each. Until the controller is reset.
    pub fn doorbell_events(&self) -> Vec<(u64, Arc<EventFd>)> {
        let session = self.session.load_full();
        session.map_or_else(Vec::new, |session| {
            self.drive.doorbell_events.connected(&session)
        })
    }

    /// The function's MSI-X, for whoever has its vectors beyond this process.
    pub fn msix(&self) -> Option<&Arc<Msix>> {
        self.drive.endpoint.msix()
    }

    fn timer(&self, kind: TimerKind) -> TimerKey {
        TimerKey {
            owner: self.drive.number,
            kind,
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        for kind in [TimerKind::Shutdown, TimerKind::Drain, TimerKind::Minute] {
            self.drive.engine.disarm(self.timer(kind));
        }
    }
}
