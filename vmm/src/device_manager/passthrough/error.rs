//! Why a device cannot be passed through, as a client of the API is told.

use std::io;

use api::error::{ApiError, ErrorCode};
use passthrough::FunctionError;
use passthrough::vfio::{HostPathError, OpenError};
use passthrough::vfio_user;

/// Why a device cannot be passed through.
#[derive(Debug, thiserror::Error)]
pub enum PassthroughError {
    /// Its path is none; validation should have seen it.
    #[error("device `{id}`: {source}")]
    Path {
        /// The device.
        id: String,
        /// Where its path is configured.
        field: String,
        /// Why.
        source: HostPathError,
    },
    /// The host does not hand it out.
    #[error("device `{id}`: {source}")]
    Vfio {
        /// The device.
        id: String,
        /// Where its path is configured.
        field: String,
        /// Why.
        source: Box<OpenError>,
    },
    /// Its server does not hand it out.
    #[error("device `{id}`: {source}")]
    VfioUser {
        /// The device.
        id: String,
        /// Where its socket is configured.
        field: String,
        /// Why.
        source: Box<vfio_user::OpenError>,
    },
    /// A device is reset together with others that are not the machine's.
    #[error(transparent)]
    ResetSet(Box<OpenError>),
    /// It is no function that a guest can have.
    #[error("device `{id}`: {source}")]
    Function {
        /// The device.
        id: String,
        /// Where its path or socket is configured.
        field: String,
        /// Why.
        source: Box<FunctionError>,
    },
    /// It is no device that is passed through; a defect.
    #[error("device `{0}` is not of a type that is passed through")]
    NotPassedThrough(String),
    /// The host has no thread to spare.
    #[error("device `{id}`: starting a thread to open it on: {source}")]
    Thread {
        /// The device.
        id: String,
        /// The host's error.
        source: io::Error,
    },
}

impl From<PassthroughError> for ApiError {
    fn from(error: PassthroughError) -> Self {
        use PassthroughError::{
            Function, NotPassedThrough, Path, ResetSet, Thread, Vfio, VfioUser,
        };
        let code = match &error {
            Path { .. } | ResetSet(_) => ErrorCode::BadHostDevice,
            Vfio { source, .. } => code_of(source),
            VfioUser { source, .. } => code_of_server(source),
            Function { source, .. } => match &**source {
                FunctionError::Client(_) | FunctionError::Vectors { .. } => ErrorCode::Internal,
                _ => ErrorCode::BadHostDevice,
            },
            NotPassedThrough(_) | Thread { .. } => ErrorCode::Internal,
        };
        let told = ApiError::from_error(code, &error);
        match &error {
            Path { id, field, .. }
            | Vfio { id, field, .. }
            | VfioUser { id, field, .. }
            | Function { id, field, .. } => told.with_device(id).with_field(field),
            NotPassedThrough(id) | Thread { id, .. } => told.with_device(id),
            ResetSet(_) => told,
        }
    }
}

fn code_of(error: &OpenError) -> ErrorCode {
    match error {
        OpenError::NotBound { .. } | OpenError::NotViable { .. } | OpenError::Busy { .. } => {
            ErrorCode::HostDeviceBusy
        }
        OpenError::Refused { .. } => ErrorCode::Internal,
        _ => ErrorCode::BadHostDevice,
    }
}

fn code_of_server(error: &vfio_user::OpenError) -> ErrorCode {
    use vfio_user::OpenError::{Absent, Crowded, Host, Left, NobodyListens, Silent};
    match error {
        Absent(_) | NobodyListens(_) => ErrorCode::FileMissing,
        Crowded(_) | Left { .. } | Silent { .. } => ErrorCode::HostDeviceBusy,
        Host { .. } => ErrorCode::Internal,
        _ => ErrorCode::BadHostDevice,
    }
}
