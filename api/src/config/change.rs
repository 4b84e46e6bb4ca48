//! Devices that come to a configuration and leave it: `vm.add-device`, `vm.add-user-device`, `vm.remove-device`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ConfigError, DeviceConfig, DeviceOptions, OnTimeout, RESERVED_IDS, VfioUserConfig, VmConfig,
};
use crate::error::ErrorCode;
use crate::json;

/// The body of `vm.add-device`: a device as it stands in a configuration, and what it is put behind.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AddDevice {
    /// The bridge that it is put behind. Unless given, it comes to the root bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The device, with whatever is behind it.
    #[serde(flatten)]
    pub device: DeviceConfig,
}

impl AddDevice {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(document: &[u8]) -> Result<Self, ConfigError> {
        let mut fields: Value = json::from_slice(document)?;
        let parent = fields.as_object_mut().and_then(|all| all.remove("parent"));
        let parent = match parent {
            None | Some(Value::Null) => None,
            Some(Value::String(parent)) => Some(parent),
            Some(other) => {
                let message = format!("`parent` is {other}; the name of a bridge is allowed");
                return Err(ConfigError::new(ErrorCode::Malformed, message).at("parent"));
            }
        };
        // Read from text once more: its errors name fields.
        let device = json::from_slice(fields.to_string().as_bytes())?;
        Ok(Self { parent, device })
    }
}

/// The body of `vm.add-user-device`: a device of a vfio-user server in few words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUserDevice {
    /// Its name. Unless given, the first of `user0`, `user1`, … that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The Unix socket that the server listens on.
    #[schema(value_type = String)]
    pub socket: PathBuf,
    /// The PCI segment: there is one, 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_segment: Option<u16>,
    /// The bridge that it is put behind. Unless given, it comes to the root bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How long the server may take to answer a request, in milliseconds. 5,000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_ms: Option<u64>,
    /// Whether a server is killed that has not answered in time, or whose device could not be shut down.
    #[serde(default)]
    pub fence: bool,
    /// How long its reset is expected to take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_reset_ms: Option<u64>,
    /// How long its teardown may take, in milliseconds. 30,000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// What is done when the teardown takes longer.
    #[serde(default)]
    pub on_timeout: OnTimeout,
}

impl AddUserDevice {
    /// The device that it is short for, in the machine of `config`.
    ///
    /// # Errors
    /// A segment that the machine does not have.
    pub fn into_device(self, config: &VmConfig) -> Result<AddDevice, ConfigError> {
        if let Some(segment @ 1..) = self.pci_segment {
            let message = format!("PCI segment {segment}; the machine has one, 0");
            return Err(ConfigError::new(ErrorCode::OutOfRange, message).at("pci_segment"));
        }
        let free = |id: &String| config.device(id).is_none();
        let mut names = (0_u32..).map(|number| format!("user{number}"));
        let id = self.id.or_else(|| names.find(free)).unwrap_or_default();
        let device = VfioUserConfig {
            options: DeviceOptions {
                id,
                deadline_ms: self.deadline_ms,
                on_timeout: self.on_timeout,
                ..DeviceOptions::default()
            },
            socket: self.socket,
            request_timeout_ms: self.request_timeout_ms,
            fence: self.fence,
            expected_reset_ms: self.expected_reset_ms,
        };
        Ok(AddDevice {
            parent: self.parent,
            device: DeviceConfig::VfioUser(device),
        })
    }
}

/// The body of `vm.remove-device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveDevice {
    /// The device's name.
    pub id: String,
}

/// The answer of `vm.add-device` and `vm.add-user-device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceAdded {
    /// The device's name.
    pub id: String,
}

impl VmConfig {
    /// The configuration with one more device, the last on its bus and in a list that is given.
    ///
    /// # Errors
    /// What is wrong with it then; fields are counted from the body of the call.
    pub fn with_device(&self, added: &AddDevice) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        let id = added.device.id();
        let bus = match &added.parent {
            None => &mut config.pci,
            Some(parent) => {
                let known = config.device(parent).map(DeviceConfig::class);
                let refused = |code, reason: String| {
                    let message =
                        format!("device `{id}` cannot be put behind `{parent}`: {reason}");
                    ConfigError::new(code, message).at("parent")
                };
                let bridge = config.device_mut(parent);
                match bridge.and_then(DeviceConfig::bus_mut) {
                    Some(bus) => bus,
                    None => {
                        return Err(match known {
                            Some(class) => refused(
                                ErrorCode::BadPlacement,
                                format!("that is a {class}, and no bridge"),
                            ),
                            None => refused(
                                ErrorCode::UnknownId,
                                "no device has this name; vm.topology lists them all".to_owned(),
                            ),
                        });
                    }
                }
            }
        };
        bus.push(added.device.clone());
        if let Some(order) = &mut config.teardown.order {
            order.extend(subtree(&added.device).map(str::to_owned));
        }
        let place = config.place_of(id).unwrap_or_default();
        config
            .validate()
            .map_err(|error| from_body(error, &place))?;
        Ok(config)
    }

    /// The configuration without a device, and without the links that name it.
    ///
    /// # Errors
    /// There is no such device, others are behind it, or what is left is no machine.
    pub fn without_device(&self, id: &str) -> Result<Self, ConfigError> {
        let refused = |code, reason: &str| {
            let message = format!("device `{id}` cannot be removed: {reason}");
            ConfigError {
                device: Some(id.to_owned()),
                ..ConfigError::new(code, message).at("id")
            }
        };
        let Some(device) = self.device(id) else {
            return Err(match RESERVED_IDS.contains(&id) {
                true => refused(ErrorCode::BadId, "every machine has it"),
                false => refused(
                    ErrorCode::NotFound,
                    "there is none of this name; vm.topology lists them all",
                ),
            });
        };
        if !device.children().is_empty() {
            let reason = "devices are behind it; remove those first";
            return Err(refused(ErrorCode::BadPlacement, reason));
        }
        let mut config = self.clone();
        let mut buses = vec![&mut config.pci];
        while let Some(bus) = buses.pop() {
            bus.retain(|device| device.id() != id);
            buses.extend(bus.iter_mut().filter_map(DeviceConfig::bus_mut));
        }
        let links = &mut config.links;
        links.retain(|link| link.consumer != id && link.supplier != id);
        if let Some(order) = &mut config.teardown.order {
            order.retain(|listed| listed != id);
        }
        config.validate()?;
        Ok(config)
    }
}

/// A device and what is behind it.
fn subtree(device: &DeviceConfig) -> impl Iterator<Item = &str> {
    let mut left = vec![device];
    std::iter::from_fn(move || {
        let next = left.pop()?;
        left.extend(next.children().iter().rev());
        Some(next.id())
    })
}

/// An error about the device at `place`, as one about the body that is the device.
fn from_body(error: ConfigError, place: &str) -> ConfigError {
    let prefix = format!("{place}.");
    ConfigError {
        message: error
            .message
            .replace(&prefix, "")
            .replace(&format!("`{place}`"), "the device"),
        field: error.field.map(|field| match field.strip_prefix(&prefix) {
            Some(field) => field.to_owned(),
            None => field,
        }),
        ..error
    }
}
