//! What the devices of a configuration must be: each by itself, and all of them together.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::tree::Place;
use super::{BridgePort, ConfigError, DeviceConfig, VmConfig, assign_slots, drive, passthrough};
use crate::error::ErrorCode;

/// Names that are no device's to take: those of the devices that every machine has.
pub const RESERVED_IDS: &[&str] = &[
    "host-bridge",
    "serial",
    "i8042",
    "rtc",
    "acpi",
    "reset",
    "boot-marker",
];

const DEADLINE_MS: RangeInclusive<u64> = 1..=3_600_000;
const BRIDGES: usize = 255;

/// Checks the devices; not yet the links between them.
pub(super) fn validate(config: &VmConfig, places: &[Place<'_>]) -> Result<(), ConfigError> {
    validate_ids(places)?;
    for place in places {
        validate_place(place)?;
        validate_device(place)?;
    }
    validate_buses(config, places)?;
    validate_paths(places)?;
    passthrough::validate_all(places)
}

fn validate_ids(places: &[Place<'_>]) -> Result<(), ConfigError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for place in places {
        let id = place.device.id();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
            let message = format!(
                "the name `{}` of `{}`: 1 to 64 letters, digits, `-`, `_`, `.` are allowed",
                id.escape_default(),
                place.path
            );
            return Err(ConfigError::new(ErrorCode::BadId, message).of(place, "id"));
        }
        if RESERVED_IDS.contains(&id) {
            let message = format!(
                "the name `{id}` of `{}` is that of a device every machine has",
                place.path
            );
            return Err(ConfigError::new(ErrorCode::BadId, message).of(place, "id"));
        }
        if let Some(other) = seen.insert(id, &place.path) {
            let message = format!(
                "`{other}` and `{}` are both named `{id}`; give one of them another `id`",
                place.path
            );
            return Err(ConfigError::new(ErrorCode::DuplicateId, message).of(place, "id"));
        }
    }
    Ok(())
}

/// Whether PCI Express has a device of this type here.
fn validate_place(place: &Place<'_>) -> Result<(), ConfigError> {
    let behind = place
        .parent
        .and_then(DeviceConfig::bridge)
        .map(|(port, _)| port);
    let (allowed, rule) = match place.device {
        DeviceConfig::RootPort(_) => (
            behind.is_none(),
            "a root port stands on the root bus, in `pci` itself",
        ),
        DeviceConfig::UpstreamPort(_) => (
            matches!(behind, Some(BridgePort::Root | BridgePort::Downstream)),
            "the upstream port of a switch stands behind a root port or a downstream port",
        ),
        DeviceConfig::DownstreamPort(_) => (
            matches!(behind, Some(BridgePort::Upstream)),
            "a downstream port stands behind the upstream port of its switch",
        ),
        DeviceConfig::PciBridge(_) => (
            matches!(
                behind,
                Some(BridgePort::Root | BridgePort::Downstream | BridgePort::Pci)
            ),
            "a PCI bridge stands behind a root port, a downstream port or another PCI bridge",
        ),
        DeviceConfig::Nvme(_) | DeviceConfig::Vfio(_) | DeviceConfig::VfioUser(_) => (
            !matches!(behind, Some(BridgePort::Upstream)),
            "behind the upstream port of a switch are its downstream ports only",
        ),
    };
    if allowed {
        return Ok(());
    }
    let at = match place.parent {
        Some(parent) => format!("behind `{}` ({})", parent.id(), parent.class()),
        None => "on the root bus".to_owned(),
    };
    let message = format!(
        "device `{}` ({}) is {at}: {rule}",
        place.device.id(),
        place.device.class()
    );
    Err(ConfigError::new(ErrorCode::BadPlacement, message).of(place, "type"))
}

fn validate_device(place: &Place<'_>) -> Result<(), ConfigError> {
    let id = place.device.id();
    let out_of_range = |field: &str, message: String| {
        Err(
            ConfigError::new(ErrorCode::OutOfRange, format!("device `{id}`: {message}"))
                .of(place, field),
        )
    };
    if let Some(deadline) = place.device.options().deadline_ms
        && !DEADLINE_MS.contains(&deadline)
    {
        return out_of_range(
            "deadline_ms",
            format!("a deadline of {deadline} ms; 1 ms to an hour is allowed"),
        );
    }
    place.device.check_behaviour().map_err(|error| {
        let field = error.field.clone().unwrap_or_default();
        error.of(place, &field)
    })?;
    if place.device.options().parent_lock && place.parent.is_none() {
        let message = format!(
            "device `{id}`: `parent_lock` locks the bridge that the device is behind, and on the root bus there is \
             none; put the device behind a bridge, or leave the field out"
        );
        return Err(ConfigError::new(ErrorCode::UnexpectedField, message).of(place, "parent_lock"));
    }
    match place.device {
        DeviceConfig::Nvme(nvme) => drive::validate(place, nvme),
        DeviceConfig::Vfio(vfio) => passthrough::validate_vfio(place, vfio),
        DeviceConfig::VfioUser(vfio_user) => passthrough::validate_vfio_user(place, vfio_user),
        DeviceConfig::RootPort(_)
        | DeviceConfig::UpstreamPort(_)
        | DeviceConfig::DownstreamPort(_)
        | DeviceConfig::PciBridge(_) => Ok(()),
    }
}

fn validate_buses(config: &VmConfig, places: &[Place<'_>]) -> Result<(), ConfigError> {
    let bridges = places
        .iter()
        .filter_map(|place| Some((place, place.device.bridge()?)));
    let buses = bridges.map(|(place, (port, bridge))| {
        (place.path.as_str(), Some(port), bridge.children.as_slice())
    });
    let mut count = 0;
    for (path, port, devices) in std::iter::once(("", None, config.pci.as_slice())).chain(buses) {
        count += usize::from(port.is_some());
        assign_slots(port, devices).map_err(|error| in_place(error, path, devices))?;
    }
    if count > BRIDGES {
        let message = format!(
            "{count} bridges; each needs a bus number, and a segment has {BRIDGES} beside the root bus"
        );
        return Err(ConfigError::new(ErrorCode::BusNumbersExhausted, message).at("pci"));
    }
    Ok(())
}

/// Completes the path of an error that knows its device and the device's field.
fn in_place(mut error: ConfigError, bus: &str, devices: &[DeviceConfig]) -> ConfigError {
    let at = devices
        .iter()
        .position(|device| error.device.as_deref() == Some(device.id()));
    if let (Some(at), Some(field)) = (at, &error.field) {
        let list = if bus.is_empty() {
            "pci".to_owned()
        } else {
            format!("{bus}.children")
        };
        error.field = Some(format!("{list}[{at}].{field}"));
    }
    error
}

/// No file may be written to from two places.
fn validate_paths(places: &[Place<'_>]) -> Result<(), ConfigError> {
    let mut read: HashSet<PathBuf> = HashSet::new();
    let mut written: HashSet<PathBuf> = HashSet::new();
    for place in places {
        let DeviceConfig::Nvme(nvme) = place.device else {
            continue;
        };
        if let Some(store) = &nvme.namespace_store {
            let path: PathBuf = store.path.components().collect();
            if !written.insert(path) {
                let message = format!(
                    "device `{}`: the folder `{}` is another drive's namespace store too; give each drive a folder of \
                     its own",
                    place.device.id(),
                    store.path.display()
                );
                return Err(ConfigError::new(ErrorCode::DuplicatePath, message)
                    .of(place, "namespace_store.path"));
            }
        }
        if let Some(state) = &nvme.state
            && !written.insert(state.components().collect())
        {
            let message = format!(
                "device `{}`: the file `{}` is another drive's state or storage too; give each drive a file of its own",
                place.device.id(),
                state.display()
            );
            return Err(ConfigError::new(ErrorCode::DuplicatePath, message).of(place, "state"));
        }
        for (at, namespace) in nvme.namespaces.iter().enumerate() {
            // Spelt the same way: `a//./b` is `a/b`.
            let path: PathBuf = namespace.path.components().collect();
            let clash = written.contains(&path) || (!namespace.readonly && read.contains(&path));
            if clash {
                let message = format!(
                    "device `{}`: the file `{}` is behind another namespace too; give each namespace a file of its own, \
                     or make both `readonly`",
                    place.device.id(),
                    namespace.path.display()
                );
                let field = format!("namespaces[{at}].path");
                return Err(ConfigError::new(ErrorCode::DuplicatePath, message).of(place, &field));
            }
            if namespace.readonly {
                read.insert(path)
            } else {
                written.insert(path)
            };
        }
    }
    Ok(())
}
