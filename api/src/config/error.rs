//! Why a configuration was refused: with a code for machines, and the field and the device named.

use super::DeviceConfig;
use super::tree::Place;
use crate::error::ErrorCode;
use crate::json;

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong, for machines.
    pub code: ErrorCode,
    /// What is wrong with what, and what can be done.
    pub message: String,
    /// The field, such as `pci[1].children[0].namespaces[0].path`.
    pub field: Option<String>,
    /// The device.
    pub device: Option<String>,
}

impl ConfigError {
    /// An error about no field and no device.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            device: None,
        }
    }

    /// Names the field, from the top of the configuration.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// Names the device and one of its fields.
    #[must_use]
    pub(super) fn about(self, device: &DeviceConfig, field: &str) -> Self {
        Self {
            device: Some(device.id().to_owned()),
            field: Some(field.to_owned()),
            ..self
        }
    }

    /// Names the device and the place of one of its fields.
    pub(super) fn of(self, place: &Place<'_>, field: &str) -> Self {
        Self {
            device: Some(place.device.id().to_owned()),
            field: Some(place.field(field)),
            ..self
        }
    }
}

impl From<json::JsonError> for ConfigError {
    fn from(error: json::JsonError) -> Self {
        let json::JsonError {
            message,
            field,
            device,
        } = error;
        Self {
            code: ErrorCode::Malformed,
            message: format!("reading the configuration: {message}"),
            field,
            device,
        }
    }
}
