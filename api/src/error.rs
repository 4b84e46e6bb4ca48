//! The error every call of the interface answers with, and the one place where an error becomes an
//! HTTP status.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::ConfigError;

/// What went wrong, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// A body or a query that does not have the shape asked for: bad JSON, an unknown field, a wrong type.
    Malformed,
    /// A field that is needed here was not given.
    MissingField,
    /// A field was given that has no meaning beside the others.
    UnexpectedField,
    /// A value outside its range.
    OutOfRange,
    /// A name with characters it may not have, or a reserved one.
    BadId,
    /// Two devices of one name.
    DuplicateId,
    /// A link to a device, or a place in the list order, that is not in the configuration.
    UnknownId,
    /// A list order that names a device twice or not at all.
    BadOrder,
    /// A link from a device to itself.
    SelfLink,
    /// Devices that would each have to be shut down before the other.
    Cycle,
    /// A device or function number that the bus does not have.
    BadAddress,
    /// Two devices at one place of a bus, or no place left.
    AddressInUse,
    /// A device where PCI Express does not allow one of its type.
    BadPlacement,
    /// More bridges than there are bus numbers.
    BusNumbersExhausted,
    /// A file that would be written to from two places.
    DuplicatePath,
    /// A device of the host or a server that would be passed through twice.
    DuplicateHostDevice,
    /// A device of the host that is none, or that cannot be passed through as it is.
    BadHostDevice,
    /// A device of the host that is used by another driver or another process.
    HostDeviceBusy,
    /// A file that is not there or cannot be opened.
    FileMissing,
    /// A file that is there but cannot be used as what it is configured for.
    BadFile,
    /// A file that another process holds.
    FileLocked,
    /// A call that the machine's state does not allow now.
    WrongState,
    /// A call that another call, still running, excludes.
    Busy,
    /// Nothing of this name or number.
    NotFound,
    /// No such route.
    UnknownRoute,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// A body over the limit.
    BodyTooLarge,
    /// The server has as many clients as it takes, or is going down.
    Unavailable,
    /// The host refused something that the machine needs, or a defect of the VMM.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed
            | Self::MissingField
            | Self::UnexpectedField
            | Self::OutOfRange
            | Self::BadId
            | Self::DuplicateId
            | Self::UnknownId
            | Self::BadOrder
            | Self::SelfLink
            | Self::Cycle
            | Self::BadAddress
            | Self::AddressInUse
            | Self::BadPlacement
            | Self::BusNumbersExhausted
            | Self::DuplicatePath
            | Self::DuplicateHostDevice
            | Self::BadHostDevice
            | Self::FileMissing
            | Self::BadFile => 400,
            Self::NotFound | Self::UnknownRoute => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::HostDeviceBusy | Self::FileLocked | Self::WrongState | Self::Busy => 409,
            Self::BodyTooLarge => 413,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What went wrong, for machines.
    pub code: ErrorCode,
    /// What was being done, to what, and what can be done about it.
    pub message: String,
    /// What led to it, nearest first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// The device it is about.
    #[serde(default)]
    pub device: Option<String>,
    /// The field of the request it is about, such as `pci[1].children[0].namespaces[0].path`.
    #[serde(default)]
    pub field: Option<String>,
}

impl ApiError {
    /// An error about no device and no field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            device: None,
            field: None,
        }
    }

    /// An error that says what `error` says, and what its sources say as causes.
    pub fn from_error(code: ErrorCode, error: &dyn Error) -> Self {
        Self::new(code, error.to_string()).with_sources(error)
    }

    /// Names the device.
    #[must_use]
    pub fn with_device(self, id: impl Into<String>) -> Self {
        Self {
            device: Some(id.into()),
            ..self
        }
    }

    /// Names the field.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// Adds a cause behind the others.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds the sources of `error` as causes; not `error` itself.
    #[must_use]
    pub fn with_sources(mut self, error: &dyn Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            self.causes.push(cause.to_string());
            source = cause.source();
        }
        self
    }

    /// The HTTP status that the error is answered with.
    pub fn status(&self) -> u16 {
        self.code.status()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ApiError {}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        Self {
            code: error.code,
            message: error.to_string(),
            causes: Vec::new(),
            device: error.device,
            field: error.field,
        }
    }
}
