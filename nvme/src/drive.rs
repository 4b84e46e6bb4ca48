//! The drive: what outlives every reset of its controller. Identity, namespaces, logs, and its
//! connections to the machine.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::memory::GuestMemory;
use devices::pci::EndpointConfig;

use crate::engine::Engine;
use crate::faults::Faults;
use crate::gate::lock;
use crate::logs::Logs;
use crate::namespace::Namespace;
use crate::spec::Status;

/// See the module's header.
pub(crate) struct Drive {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) namespaces: Vec<Arc<Namespace>>,
    pub(crate) queue_limit: u16,
    /// What Identify's RTD3E says.
    pub(crate) shutdown_estimate: Duration,
    pub(crate) logs: Logs,
    pub(crate) memory: GuestMemory,
    pub(crate) engine: Arc<Engine>,
    pub(crate) endpoint: EndpointConfig,
    pub(crate) faults: Faults,
    /// Tells this drive's timers from others'.
    pub(crate) number: u64,
    /// Spreads the queues of different drives over the I/O threads.
    pub(crate) first_thread: usize,
    /// INTMS.
    pub(crate) interrupt_mask: AtomicU32,
}

/// Who the drive says it is.
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) subsystem_vendor: u16,
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    /// Distinguishes this drive from every other of the machine, the same at every start.
    pub(crate) unique: u128,
}

impl Identity {
    /// A UUID (RFC 9562, version 8: of our own making) of the drive (`of` 0) or of a namespace.
    pub(crate) fn uuid(&self, of: u32) -> [u8; 16] {
        let spread = digest(&[&self.unique.to_be_bytes(), &of.to_be_bytes()]);
        let mut uuid = spread.to_be_bytes();
        uuid[6] = uuid[6] & 0x0F | 0x80;
        uuid[8] = uuid[8] & 0x3F | 0x80;
        uuid
    }

    /// The subsystem's qualified name (base 2.0, section 4.5).
    pub(crate) fn qualified_name(&self) -> String {
        let hex: String = self
            .uuid(0)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!(
            "nqn.2014-08.org.nvmexpress:uuid:{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

/// 128 bits FNV-1a over parts that cannot run into each other.
pub(crate) fn digest(parts: &[&[u8]]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mut state = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D_u128;
    for part in parts {
        for byte in (part.len() as u64).to_be_bytes().iter().chain(*part) {
            state = (state ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    state
}

impl Drive {
    /// The namespace `id`.
    pub(crate) fn namespace(&self, id: u32) -> Result<&Arc<Namespace>, Status> {
        let index = (id as usize).checked_sub(1);
        index
            .and_then(|index| self.namespaces.get(index))
            .ok_or(Status::INVALID_NAMESPACE)
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
        self.flush_some(self.namespaces.iter().collect(), then);
    }

    /// Flushes the namespaces that were written to since their last flush.
    pub(crate) fn flush_unflushed(&self, then: impl FnOnce(Result<(), Status>) + Send + 'static) {
        let unflushed = self
            .namespaces
            .iter()
            .filter(|namespace| namespace.is_unflushed());
        self.flush_some(unflushed.collect(), then);
    }

    /// A fault of flushes is one also where there is nothing to flush.
    fn flush_some(
        &self,
        namespaces: Vec<&Arc<Namespace>>,
        then: impl FnOnce(Result<(), Status>) + Send + 'static,
    ) {
        let namespaces: Vec<_> = namespaces.into_iter().map(Arc::clone).collect();
        self.faults.flush(move |fault| {
            Self::flush_each(&namespaces, move |result| then(fault.and(result)));
        });
    }

    fn flush_each(
        namespaces: &[Arc<Namespace>],
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
            let flushed = Arc::clone(namespace);
            namespace.lane.submit(Box::new(move || {
                let result = flushed.flush();
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
