//! Why the devices of a machine could not be built.

use std::io;
use std::path::PathBuf;

use api::config::{ConfigError, SerialMode};
use api::error::{ApiError, ErrorCode};
use devices::pci::TopologyError;

use crate::device_manager::drive::DriveError;
use crate::device_manager::list::ListError;
use crate::device_manager::passthrough::PassthroughError;

/// Why the devices could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A place on a bus is wrong; validation should have seen it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hierarchy does not fit together; validation should have seen it.
    #[error("building the PCI hierarchy: {0}")]
    Topology(#[from] TopologyError),
    /// The devices cannot be listed; validation should have seen it.
    #[error(transparent)]
    List(#[from] ListError),
    /// A device is in the list and was not made: the two walks over the configuration differ.
    #[error("the device `{0}` is listed and was not built")]
    NotMade(String),
    /// A device cannot be passed through.
    #[error(transparent)]
    Passthrough(#[from] PassthroughError),
    /// A drive could not be made.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The threads of the NVMe controllers could not be started.
    #[error("starting the I/O threads: {0}")]
    Engine(io::Error),
    /// The serial port's other end cannot be used.
    #[error("the serial port (mode {mode:?}{}): {source}", path.as_ref().map(|path| format!(", {}", path.display())).unwrap_or_default())]
    Serial {
        /// Its mode.
        mode: SerialMode,
        /// The file or socket.
        path: Option<PathBuf>,
        /// The host's error.
        source: io::Error,
    },
    /// Two devices claim a port.
    #[error("registering the ports from {first:#x}: {reason}")]
    Ports {
        /// The first port.
        first: u16,
        /// Why.
        reason: String,
    },
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Config(error) => error.into(),
            BuildError::List(error) => error.into(),
            BuildError::Drive(error) => error.into(),
            BuildError::Passthrough(error) => error.into(),
            BuildError::Serial { ref source, .. } => {
                let code = match source.kind() {
                    io::ErrorKind::NotFound => ErrorCode::FileMissing,
                    io::ErrorKind::AddrInUse => ErrorCode::FileLocked,
                    _ => ErrorCode::BadFile,
                };
                ApiError::from_error(code, &error).with_field("serial")
            }
            error => ApiError::from_error(ErrorCode::Internal, &error),
        }
    }
}
