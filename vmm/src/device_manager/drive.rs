//! From a drive's configuration to its controller, for a machine and for a device process.

use std::sync::Arc;

use api::config::NvmeConfig;
use api::error::{ApiError, ErrorCode};
use devices::latency::seed_of;
use devices::pci::Attachment;
use nvme::{
    BackendError, Connections, Controller, ControllerConfig, ControllerError, FileBackend,
    NamespaceConfig, NamespaceStore, StoreError,
};

use super::behaviour::behaviour;

/// Why a drive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// A namespace's file cannot be used.
    #[error("device `{id}`, namespace {number}: {source}")]
    Backend {
        /// The device.
        id: String,
        /// The namespace, from 1.
        number: usize,
        /// Where its file is configured.
        field: String,
        /// Why.
        source: BackendError,
    },
    /// A controller could not be made.
    #[error("device `{id}`: {source}")]
    Controller {
        /// The device.
        id: String,
        /// Why.
        source: ControllerError,
    },
}

impl From<DriveError> for ApiError {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Backend {
                ref id,
                ref field,
                ref source,
                ..
            } => {
                let code = match source {
                    BackendError::Locked { .. } => ErrorCode::FileLocked,
                    BackendError::Missing { .. } => ErrorCode::FileMissing,
                    _ => ErrorCode::BadFile,
                };
                ApiError::from_error(code, &error)
                    .with_device(id)
                    .with_field(field)
            }
            DriveError::Controller {
                ref id,
                source: ControllerError::Store { ref source, .. },
            } => {
                let code = match source {
                    StoreError::Locked { .. } => ErrorCode::FileLocked,
                    _ => ErrorCode::BadFile,
                };
                ApiError::from_error(code, &error)
                    .with_device(id)
                    .with_field("namespace_store")
            }
            DriveError::Controller {
                ref id,
                source: ControllerError::State { .. },
            } => ApiError::from_error(ErrorCode::BadFile, &error)
                .with_device(id)
                .with_field("state"),
            DriveError::Controller { ref id, .. } => {
                ApiError::from_error(ErrorCode::Internal, &error).with_device(id)
            }
        }
    }
}

/// Makes the controller of `config`, which stands at `place` in its document (empty where it is the whole
/// of it), with `queues` I/O queue pairs where it says nothing of them, attached as given.
///
/// # Errors
/// Names the file that cannot be used, or what the controller cannot be made of.
pub fn controller(
    config: &NvmeConfig,
    place: &str,
    (queues, attachment): (u16, Attachment),
    connections: Connections,
) -> Result<Arc<Controller>, DriveError> {
    let id = &config.options.id;
    let before = if place.is_empty() { "" } else { "." };
    let mut namespaces = Vec::with_capacity(config.namespaces.len());
    for (index, namespace) in config.namespaces.iter().enumerate() {
        let open = if namespace.direct {
            FileBackend::open_direct
        } else {
            FileBackend::open
        };
        let backend = open(&namespace.path, namespace.readonly).map_err(|source| {
            let key = match source {
                BackendError::NoDirect { .. } => "direct",
                _ => "path",
            };
            DriveError::Backend {
                id: id.clone(),
                number: index + 1,
                field: format!("{place}{before}namespaces[{index}].{key}"),
                source,
            }
        })?;
        namespaces.push(NamespaceConfig {
            backend: Arc::new(backend),
            block_size: namespace.block_size.unwrap_or(512),
            eui64: namespace.eui64.map(|id| id.0),
            nguid: namespace.nguid.map(|id| id.0),
            uuid: namespace.uuid.map(|id| id.0),
        });
    }
    let controller = ControllerConfig {
        id: id.clone(),
        serial: config.serial.clone().unwrap_or_else(|| serial_of(id)),
        model: text(&config.model, "Sundown NVMe"),
        firmware: text(&config.firmware, env!("CARGO_PKG_VERSION")),
        namespaces,
        write_cache: config.volatile_write_cache.unwrap_or(true),
        namespace_store: config.namespace_store.as_ref().map(|store| NamespaceStore {
            path: store.path.clone(),
            capacity: store.capacity,
        }),
        state: config.state.clone(),
        behaviour: behaviour(config),
        seed: config.options.seed.unwrap_or_else(|| seed_of(id)),
        queue_limit: config.io_queues.unwrap_or(queues),
        vectors: config.interrupt_vectors,
        attachment,
    };
    Controller::new(controller, connections).map_err(|source| DriveError::Controller {
        id: id.clone(),
        source,
    })
}

/// The serial number of a drive that was given none: its id, or, where that is longer than the 20
/// characters there are, its beginning and a checksum.
fn serial_of(id: &str) -> String {
    const LONGEST: usize = 20;
    if id.len() <= LONGEST {
        return id.to_owned();
    }
    let hash = id.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{}-{hash:08x}", &id[..LONGEST - 9])
}

fn text(given: &Option<String>, otherwise: &str) -> String {
    given.clone().unwrap_or_else(|| otherwise.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_fits_and_long_ids_stay_distinct() {
        assert_eq!(serial_of("drive0"), "drive0");
        let long = |end: &str| serial_of(&format!("a-drive-with-a-rather-long-name-{end}"));
        assert_eq!(long("1").len(), 20);
        assert_ne!(long("1"), long("2"));
    }
}
