//! Devices that are passed through: those of the host, and those of vfio-user servers.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tree::Place;
use super::validate::given_path;
use super::{ConfigError, DeviceConfig, DeviceOptions};
use crate::error::ErrorCode;

const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;
const EXPECTED_RESET_MS: RangeInclusive<u64> = 0..=3_600_000;

/// How devices of the host are passed through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PassthroughConfig {
    /// The kernel's interface to the IOMMU.
    #[serde(default)]
    pub iommu: IommuInterface,
}

/// The kernel's interface to the IOMMU, for devices of the type `vfio`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IommuInterface {
    /// iommufd where the host has it, groups otherwise.
    #[default]
    Auto,
    /// IOMMU groups in a container (`/dev/vfio/N`).
    Group,
    /// iommufd (`/dev/iommu`, `/dev/vfio/devices/vfioN`).
    Iommufd,
}

/// A device of the host, bound to `vfio-pci`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct VfioConfig {
    /// What every device has.
    #[serde(flatten)]
    pub options: DeviceOptions,
    /// The device in the host: its PCI address such as `0000:01:00.0`, the segment may be left out, or its folder in
    /// sysfs such as `/sys/bus/pci/devices/0000:01:00.0`.
    pub path: String,
    /// How long its reset is expected to take, in milliseconds, up to an hour: for `vm.plan` alone. 100 unless given,
    /// what PCI Express allows for a function-level reset.
    pub expected_reset_ms: Option<u64>,
}

impl VfioConfig {
    /// What `expected_reset_ms` is unless given.
    const EXPECTED_RESET_MS: u64 = 100;

    /// The address in the host, with its segment and in lower case; none if `path` has none.
    pub fn address(&self) -> Option<String> {
        let text = match self.path.strip_prefix('/') {
            Some(_) => Path::new(&self.path).file_name()?.to_str()?,
            None => &self.path,
        };
        canonical(text)
    }
}

/// A device of a vfio-user server, which is another process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct VfioUserConfig {
    /// What every device has.
    #[serde(flatten)]
    pub options: DeviceOptions,
    /// The Unix socket that the server listens on.
    #[schema(value_type = String)]
    pub socket: PathBuf,
    /// How long the server may take to answer a request, in milliseconds, 1 to 60,000. One that takes longer is taken
    /// for hung: the guest sees the device no more. 5,000 unless given.
    pub request_timeout_ms: Option<u64>,
    /// Whether a server is killed that has not answered in time, or whose device could not be shut down in a teardown,
    /// if only since it answered its reset with an error: it cannot write to guest memory any more then, and the machine
    /// boots without it. Off unless given: such a server keeps the machine stopped.
    #[serde(default)]
    pub fence: bool,
    /// How long its reset is expected to take, in milliseconds, up to an hour: for `vm.plan` alone. 0 unless given.
    pub expected_reset_ms: Option<u64>,
}

impl VfioUserConfig {
    /// How long the server may take to answer unless `request_timeout_ms` says otherwise, in milliseconds.
    pub const DEFAULT_REQUEST_TIMEOUT_MS: u64 = 5_000;

    /// How long the server may take to answer a request.
    pub fn request_timeout(&self) -> Duration {
        let given = self.request_timeout_ms;
        Duration::from_millis(given.unwrap_or(Self::DEFAULT_REQUEST_TIMEOUT_MS))
    }
}

impl DeviceConfig {
    /// How long the reset of a device that is passed through is expected to take; none for other devices, whose
    /// latency is modelled.
    pub fn expected_reset(&self) -> Option<Duration> {
        let ms = match self {
            Self::Vfio(vfio) => vfio
                .expected_reset_ms
                .unwrap_or(VfioConfig::EXPECTED_RESET_MS),
            Self::VfioUser(vfio_user) => vfio_user.expected_reset_ms.unwrap_or(0),
            _ => return None,
        };
        Some(Duration::from_millis(ms))
    }

    /// Whether the device is passed through.
    pub fn is_passed_through(&self) -> bool {
        matches!(self, Self::Vfio(_) | Self::VfioUser(_))
    }
}

/// Checks what a device of the host is given.
pub(super) fn validate_vfio(place: &Place<'_>, vfio: &VfioConfig) -> Result<(), ConfigError> {
    if vfio.address().is_none() {
        let message = format!(
            "device `{}`: `{}` is no device of the host; give its PCI address such as `0000:01:00.0`, or its folder in \
             sysfs such as `/sys/bus/pci/devices/0000:01:00.0`",
            place.device.id(),
            vfio.path.escape_default()
        );
        return Err(ConfigError::new(ErrorCode::BadHostDevice, message).of(place, "path"));
    }
    expected_reset(place, vfio.expected_reset_ms)
}

/// Checks what a device of a server is given.
pub(super) fn validate_vfio_user(
    place: &Place<'_>,
    vfio_user: &VfioUserConfig,
) -> Result<(), ConfigError> {
    given_path(
        &place.field("socket"),
        "the server's socket",
        &vfio_user.socket,
    )
    .map_err(|error| error.of(place, "socket"))?;
    if let Some(ms) = vfio_user.request_timeout_ms
        && !REQUEST_TIMEOUT_MS.contains(&ms)
    {
        let message = format!(
            "device `{}`: {ms} ms for an answer; 1 ms to a minute is allowed",
            place.device.id()
        );
        return Err(
            ConfigError::new(ErrorCode::OutOfRange, message).of(place, "request_timeout_ms")
        );
    }
    expected_reset(place, vfio_user.expected_reset_ms)
}

fn expected_reset(place: &Place<'_>, ms: Option<u64>) -> Result<(), ConfigError> {
    match ms {
        Some(ms) if !EXPECTED_RESET_MS.contains(&ms) => {
            let message = format!(
                "device `{}`: a reset of {ms} ms is expected; up to an hour is allowed",
                place.device.id()
            );
            Err(ConfigError::new(ErrorCode::OutOfRange, message).of(place, "expected_reset_ms"))
        }
        _ => Ok(()),
    }
}

/// No device of the host, and no server, may be passed through twice.
pub(super) fn validate_all(places: &[Place<'_>]) -> Result<(), ConfigError> {
    let mut taken: HashMap<PathBuf, &str> = HashMap::new();
    for place in places {
        let (what, field, key) = match place.device {
            DeviceConfig::Vfio(vfio) => {
                let Some(address) = vfio.address() else {
                    continue;
                };
                ("the host's device", "path", PathBuf::from(address))
            }
            // Spelt the same way: `a//./b` is `a/b`.
            DeviceConfig::VfioUser(vfio_user) => (
                "the server's socket",
                "socket",
                vfio_user.socket.components().collect(),
            ),
            _ => continue,
        };
        let shown = key.display().to_string();
        if let Some(other) = taken.insert(key, place.device.id()) {
            let message = format!(
                "devices `{other}` and `{}` are both {what} `{shown}`; pass it through once",
                place.device.id()
            );
            return Err(ConfigError::new(ErrorCode::DuplicateHostDevice, message).of(place, field));
        }
    }
    Ok(())
}

/// A PCI address with its segment and in lower case: `ssss:bb:dd.f`.
fn canonical(text: &str) -> Option<String> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.rsplit(':');
    let (device, bus, segment) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let number = |text: &str, digits: RangeInclusive<usize>, most: u32| {
        let hex = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()?;
        (value <= most).then_some(value)
    };
    // Segments made up by drivers, as those behind a volume management device, have more digits.
    let segment = number(segment.unwrap_or("0000"), 4..=8, u32::MAX)?;
    let bus = number(bus, 2..=2, 0xFF)?;
    let device = number(device, 2..=2, 0x1F)?;
    let function = number(function, 1..=1, 7)?;
    Some(format!("{segment:04x}:{bus:02x}:{device:02x}.{function}"))
}
