//! The drive: what outlives every reset of its controller. Identity, namespaces, logs, and its
//! connections to the machine.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use devices::memory::GuestMemory;
use devices::pci::EndpointConfig;
use tracing::warn;

use crate::doorbell_events::DoorbellEvents;
use crate::doorbells::PolledDoorbells;
use crate::engine::{Engine, Lane};
use crate::faults::Faults;
use crate::gate::lock;
use crate::identity::Identity;
use crate::logs::Logs;
use crate::namespace::Namespace;
use crate::namespaces::Namespaces;
use crate::sanitize::Sanitize;
use crate::selftest::SelfTest;
use crate::spec::{Status, Submission};
use crate::state::{self, Memory};
use crate::store::Store;

/// See the module's header.
pub(crate) struct Drive {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) namespaces: Namespaces,
    /// Where created namespaces are kept, where the guest may create some.
    pub(crate) store: Option<Store>,
    /// For admin commands that may block.
    pub(crate) lane: Arc<Lane>,
    /// Whether writes are cached until a flush: the configured volatile write cache.
    pub(crate) write_cache: bool,
    pub(crate) queue_limit: u16,
    /// What Identify's RTD3E says, in microseconds.
    pub(crate) shutdown_estimate: AtomicU32,
    pub(crate) logs: Logs,
    pub(crate) memory: GuestMemory,
    pub(crate) engine: Arc<Engine>,
    pub(crate) endpoint: EndpointConfig,
    pub(crate) faults: Faults,
    pub(crate) sanitize: Sanitize,
    pub(crate) self_test: SelfTest,
    /// What outlives the process.
    pub(crate) state: Memory,
    /// Its files are closed.
    pub(crate) released: AtomicBool,
    /// Tells this drive's timers from others'.
    pub(crate) number: u64,
    /// Spreads the queues of different drives over the I/O threads.
    pub(crate) first_thread: usize,
    /// INTMS.
    pub(crate) interrupt_mask: AtomicU32,
    pub(crate) doorbell_events: DoorbellEvents,
    pub(crate) polled_doorbells: OnceLock<Arc<dyn PolledDoorbells>>,
}

impl Drive {
    /// The doorbell `index` begins at 0, also where it is polled.
    pub(crate) fn clear_doorbell(&self, index: usize) {
        if let Some(doorbells) = self.polled_doorbells.get() {
            doorbells.clear(index);
        }
    }

    /// The namespace `id`, where it is attached.
    pub(crate) fn namespace(&self, id: u32) -> Result<Arc<Namespace>, Status> {
        self.namespaces.active(id)
    }

    /// Puts a command's error into the error log, with the first block that it is about.
    pub(crate) fn record_error(&self, sq_id: u16, command: &Submission, status: Status) {
        let mut first = command.starting_block();
        if sq_id != 0
            && status == Status::UNRECOVERED_READ_ERROR
            && let Ok(namespace) = self.namespace(command.nsid)
        {
            first = namespace
                .first_uncorrectable(first, command.block_count())
                .unwrap_or(first);
        }
        self.logs.record_error(sq_id, command, status, first);
    }

    /// Gives a namespace blocks of another size, and remembers that where there is a place for it.
    pub(crate) fn set_block_size(
        &self,
        namespace: &Namespace,
        block_size: u32,
    ) -> Result<(), Status> {
        if let Some(store) = &self.store {
            // It may have been deleted meanwhile, and its identifier be another one's.
            let _alone = lock(&store.managing);
            let there = self.namespaces.allocated(namespace.id)?;
            if !there.is_some_and(|there| std::ptr::eq(&*there, namespace)) {
                return Err(Status::INVALID_NAMESPACE);
            }
            store
                .set_block_size(namespace.id, block_size)
                .map_err(|failure| {
                    warn!(drive = %self.id, "a format cannot be remembered: {failure}");
                    Status::INTERNAL_ERROR
                })?;
        }
        namespace.set_block_size(block_size);
        if self.namespaces.is_configured(namespace.id) {
            let configured = namespace.configured_block_size;
            (self.state).set_block_size(namespace.id, configured, block_size);
            state::save(self);
        }
        Ok(())
    }

    /// Bytes ever written to its namespaces, by whatever command.
    pub(crate) fn written_bytes(&self) -> u64 {
        let namespaces = self.namespaces.all();
        let written = namespaces.iter().map(|namespace| namespace.written_bytes());
        written.sum()
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    pub(crate) fn vectors(&self) -> u16 {
        self.endpoint.msix().map_or(1, |msix| msix.vectors())
    }

    pub(crate) fn uses_msix(&self) -> bool {
        self.endpoint.msix().is_some_and(|msix| msix.enabled())
    }

    /// Whether INTMS masks the pin, which is vector 0.
    pub(crate) fn pin_masked(&self) -> bool {
        self.interrupt_mask.load(Ordering::Acquire) & 1 != 0
    }

    /// Flushes every namespace on its lane; the last one to end says how it went.
    pub(crate) fn flush_all(&self, then: impl FnOnce(Result<(), Status>) + Send + 'static) {
        self.flush_some(self.namespaces.all(), then);
    }

    /// Flushes the namespaces that were written to since their last flush.
    pub(crate) fn flush_unflushed(&self, then: impl FnOnce(Result<(), Status>) + Send + 'static) {
        let mut unflushed = self.namespaces.all();
        unflushed.retain(|namespace| namespace.is_unflushed());
        self.flush_some(unflushed, then);
    }

    /// How many bytes were written since the last flush, in all namespaces.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        let namespaces = self.namespaces.all();
        let bytes = namespaces
            .iter()
            .map(|namespace| namespace.unflushed_bytes());
        bytes.fold(0, u64::saturating_add)
    }

    /// A fault of flushes is one also where there is nothing to flush.
    fn flush_some(
        &self,
        namespaces: Vec<Arc<Namespace>>,
        then: impl FnOnce(Result<(), Status>) + Send + 'static,
    ) {
        self.faults.flush(move |fault| {
            Self::flush_each(namespaces, move |result| then(fault.and(result)));
        });
    }

    fn flush_each(
        namespaces: Vec<Arc<Namespace>>,
        then: impl FnOnce(Result<(), Status>) + Send + 'static,
    ) {
        if namespaces.is_empty() {
            then(Ok(()));
            return;
        }
        let left = Arc::new(AtomicUsize::new(namespaces.len()));
        let outcome = Arc::new(Mutex::new((Ok(()), Some(then))));
        for namespace in namespaces {
            let (left, outcome) = (Arc::clone(&left), Arc::clone(&outcome));
            let lane = Arc::clone(&namespace.lane);
            lane.submit(Box::new(move || {
                let result = namespace.flush();
                let mut state = lock(&outcome);
                if result.is_err() {
                    state.0 = result;
                }
                if left.fetch_sub(1, Ordering::AcqRel) > 1 {
                    return;
                }
                let (result, then) = (state.0, state.1.take());
                drop(state);
                if let Some(then) = then {
                    then(result);
                }
            }));
        }
    }
}
