//! What a controller is made of, and why it cannot be made.

use std::path::PathBuf;
use std::sync::Arc;

use devices::interrupt::{IntxLine, MsiRouter};
use devices::io_event::IoEvents;
use devices::memory::GuestMemory;
use devices::pci::{Attachment, EndpointError, IntxPin};

use crate::backend::Backend;
use crate::engine::Engine;
use crate::shutdown::Behaviour;
use crate::spec::BLOCK_SIZES;
use crate::state::StateError;
use crate::store::{NamespaceStore, StoreError};

/// Most I/O queue pairs of a controller.
pub const MAX_IO_QUEUES: u16 = 64;
/// Most namespaces of a controller.
pub const MAX_NAMESPACES: usize = 1024;

/// What a controller is, apart from its connections. Plain data.
pub struct ControllerConfig {
    /// Names the drive in logs and makes its identifiers distinct: unique in the machine.
    pub id: String,
    /// Serial number, at most 20 characters of ASCII.
    pub serial: String,
    /// Model name, at most 40 characters of ASCII.
    pub model: String,
    /// Firmware revision, at most 8 characters of ASCII.
    pub firmware: String,
    /// The namespaces 1, 2, …
    pub namespaces: Vec<NamespaceConfig>,
    /// Whether the drive has a volatile write cache. Without one, every write is on stable storage when it
    /// completes.
    pub write_cache: bool,
    /// Where namespaces are kept that the guest creates. Without it the guest cannot manage namespaces.
    pub namespace_store: Option<NamespaceStore>,
    /// A file for what the drive remembers over restarts. Without it, its life begins anew with the process.
    pub state: Option<PathBuf>,
    /// How it behaves when it is shut down, and what is wrong with it.
    pub behaviour: Behaviour,
    /// What latencies that vary are drawn from.
    pub seed: u64,
    /// I/O queue pairs, 1 to 64: as many as the machine has vCPUs.
    pub queue_limit: u16,
    /// MSI-X vectors, 1 to 65. One more than I/O queue pairs unless given.
    pub vectors: Option<u16>,
    /// Where the function sits, and so which capabilities it shows.
    pub attachment: Attachment,
}

/// A namespace's storage and names.
pub struct NamespaceConfig {
    /// Its storage.
    pub backend: Arc<dyn Backend>,
    /// Bytes of a block: 512 or 4096. Format NVM may change it.
    pub block_size: u32,
    /// IEEE extended unique identifier; derived from the drive's identity where `None`.
    pub eui64: Option<[u8; 8]>,
    /// Globally unique identifier; derived from the drive's identity where `None`.
    pub nguid: Option<[u8; 16]>,
    /// UUID; derived from the drive's identity where `None`.
    pub uuid: Option<[u8; 16]>,
}

impl NamespaceConfig {
    /// A namespace of blocks of 512 bytes with derived identifiers.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            block_size: 512,
            eui64: None,
            nguid: None,
            uuid: None,
        }
    }
}

/// What a controller uses of the machine.
pub struct Connections {
    /// The threads.
    pub engine: Arc<Engine>,
    /// Guest memory.
    pub memory: GuestMemory,
    /// Where vectors are attached.
    pub router: Arc<dyn MsiRouter>,
    /// The interrupt pin and its line.
    pub intx: Option<(IntxPin, Arc<dyn IntxLine>)>,
    /// Where doorbells may be eventfds, if they may.
    pub io_events: Option<Arc<dyn IoEvents>>,
}

/// Why a controller cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A string that Identify has no room for.
    #[error(
        "{field} of drive {id} is `{value}`: it must be 1 to {limit} characters of printable ASCII"
    )]
    Text {
        /// The drive.
        id: String,
        /// Which of its strings.
        field: &'static str,
        /// What was given.
        value: String,
        /// Most characters.
        limit: usize,
    },
    /// No queue, or too many.
    #[error("drive {id} cannot have {count} I/O queues: 1 to {MAX_IO_QUEUES} are possible")]
    Queues {
        /// The drive.
        id: String,
        /// What was asked for.
        count: u16,
    },
    /// No vector, or more than queues can use.
    #[error("drive {id} cannot have {count} interrupt vectors: 1 to {} are possible", MAX_IO_QUEUES + 1)]
    VectorCount {
        /// The drive.
        id: String,
        /// What was asked for.
        count: u16,
    },
    /// No namespace, or too many.
    #[error("drive {id} cannot have {count} namespaces: 1 to {MAX_NAMESPACES} are possible")]
    Namespaces {
        /// The drive.
        id: String,
        /// What was asked for.
        count: usize,
    },
    /// No block size that there is, or no whole number of blocks.
    #[error(
        "namespace {number} of drive {id} has {size} bytes and blocks of {block_size}: blocks of 512 and of 4096 \
         bytes are possible, and a whole number of them"
    )]
    Blocks {
        /// The drive.
        id: String,
        /// The namespace, from 1.
        number: usize,
        /// Its size in bytes.
        size: u64,
        /// What was asked for.
        block_size: u32,
    },
    /// The store of created namespaces cannot be used.
    #[error("drive {id}: {source}")]
    Store {
        /// The drive.
        id: String,
        /// Why.
        source: StoreError,
    },
    /// What it remembers cannot be read.
    #[error("drive {id}: {source}")]
    State {
        /// The drive.
        id: String,
        /// Why.
        source: StateError,
    },
    /// The host gives no interrupt vectors.
    #[error("no interrupt vectors for drive {id}: {source}")]
    Vectors {
        /// The drive.
        id: String,
        /// The host's error.
        source: std::io::Error,
    },
    /// The configuration space does not come together.
    #[error("configuration space of drive {id}: {source}")]
    Endpoint {
        /// The drive.
        id: String,
        /// Why.
        source: EndpointError,
    },
}

impl ControllerConfig {
    pub(super) fn check(&self) -> Result<(), ControllerError> {
        let texts = [
            ("serial", &self.serial, 20),
            ("model", &self.model, 40),
            ("firmware", &self.firmware, 8),
        ];
        for (field, value, limit) in texts {
            let printable = value
                .chars()
                .all(|character| matches!(character, ' '..='~'));
            if value.is_empty() || value.len() > limit || !printable {
                return Err(ControllerError::Text {
                    id: self.id.clone(),
                    field,
                    value: value.clone(),
                    limit,
                });
            }
        }
        if !(1..=MAX_IO_QUEUES).contains(&self.queue_limit) {
            return Err(ControllerError::Queues {
                id: self.id.clone(),
                count: self.queue_limit,
            });
        }
        if let Some(count) = self.vectors
            && !(1..=MAX_IO_QUEUES + 1).contains(&count)
        {
            return Err(ControllerError::VectorCount {
                id: self.id.clone(),
                count,
            });
        }
        // A drive with a store may begin with none.
        let fewest = usize::from(self.namespace_store.is_none());
        if !(fewest..=MAX_NAMESPACES).contains(&self.namespaces.len()) {
            return Err(ControllerError::Namespaces {
                id: self.id.clone(),
                count: self.namespaces.len(),
            });
        }
        for (number, namespace) in (1..).zip(&self.namespaces) {
            let (size, block_size) = (namespace.backend.size(), namespace.block_size);
            if !BLOCK_SIZES.contains(&block_size) || !size.is_multiple_of(block_size.into()) {
                return Err(ControllerError::Blocks {
                    id: self.id.clone(),
                    number,
                    size,
                    block_size,
                });
            }
        }
        Ok(())
    }
}
