//! What an NVMe drive of a configuration must be.

use std::ops::RangeInclusive;

use super::tree::Place;
use super::validate::given_path;
use super::{ConfigError, DeviceConfig, NvmeConfig, VmConfig};
use crate::error::ErrorCode;
use crate::json;

pub(super) const NAMESPACES: usize = 256;
const CAPACITY_UNIT: u64 = 4096;
const BLOCK_SIZES: [u32; 2] = [512, 4096];
const IO_QUEUES: RangeInclusive<u16> = 1..=64;
const VECTORS: RangeInclusive<u16> = 1..=65;

/// Where the drive stands in the machine that it is checked in.
const ALONE: &str = "pci[0].";
const ITSELF: &str = "`pci[0]`";

impl NvmeConfig {
    /// Reads a drive that stands alone in its document, for a device process, and validates it as one of a
    /// machine. Its place on a bus and its part in a teardown have no meaning there and are not refused.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(document: &[u8]) -> Result<Self, ConfigError> {
        let device: DeviceConfig = json::from_slice(document)?;
        let mut machine: VmConfig = json::from_slice(br#"{ "payload": { "kernel": "/" } }"#)?;
        machine.pci.push(device);
        machine.validate().map_err(|error| ConfigError {
            message: (error.message.replace(ALONE, "")).replace(ITSELF, "the drive"),
            field: error.field.map(|field| field.replace(ALONE, "")),
            ..error
        })?;
        match machine.pci.pop() {
            Some(DeviceConfig::Nvme(drive)) => Ok(drive),
            other => {
                let class = other.as_ref().map_or("nothing", DeviceConfig::class);
                let message = format!(
                    "`type` is `{class}`: a device process serves one drive, of the type `nvme`"
                );
                Err(ConfigError::new(ErrorCode::OutOfRange, message).at("type"))
            }
        }
    }
}

/// Checks identity and namespaces.
pub(super) fn validate(place: &Place<'_>, drive: &NvmeConfig) -> Result<(), ConfigError> {
    let refuse = |field: &str, message: String| {
        let message = format!("device `{}`: {message}", place.device.id());
        Err(ConfigError::new(ErrorCode::OutOfRange, message).of(place, field))
    };
    for (field, what, text, limit) in [
        ("serial", "the serial number", &drive.serial, 20),
        ("model", "the model name", &drive.model, 40),
        ("firmware", "the firmware revision", &drive.firmware, 8),
    ] {
        let Some(text) = text else { continue };
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !(1..=limit).contains(&text.len()) || !printable {
            let message = format!("{what}: 1 to {limit} printable ASCII characters are allowed");
            return refuse(field, message);
        }
    }
    for (field, what, count, possible) in [
        ("io_queues", "I/O queues", drive.io_queues, IO_QUEUES),
        (
            "interrupt_vectors",
            "vectors",
            drive.interrupt_vectors,
            VECTORS,
        ),
    ] {
        if let Some(count) = count
            && !possible.contains(&count)
        {
            let (least, most) = possible.into_inner();
            let message = format!("{count} {what}; {least} to {most} are possible");
            return refuse(field, message);
        }
    }
    let count = drive.namespaces.len();
    // Where the guest can create some, there may be none to begin with.
    let fewest = usize::from(drive.namespace_store.is_none());
    if !(fewest..=NAMESPACES).contains(&count) {
        let message = format!("{count} namespaces; {fewest} to {NAMESPACES} are allowed");
        return refuse("namespaces", message);
    }
    if let Some(store) = &drive.namespace_store {
        let field = "namespace_store.path";
        given_path(&place.field(field), "the namespace store", &store.path)
            .map_err(|error| error.of(place, field))?;
        if store.capacity == 0 || !store.capacity.is_multiple_of(CAPACITY_UNIT) {
            let message = format!(
                "a namespace store of {} bytes; a multiple of 4096 bytes is allowed, and not 0",
                store.capacity
            );
            return refuse("namespace_store.capacity", message);
        }
    }
    if let Some(state) = &drive.state {
        given_path(&place.field("state"), "the drive's state file", state)
            .map_err(|error| error.of(place, "state"))?;
    }
    for (at, namespace) in drive.namespaces.iter().enumerate() {
        let field = format!("namespaces[{at}].path");
        let path = given_path(
            &place.field(&field),
            "the namespace's file",
            &namespace.path,
        );
        path.map_err(|error| error.of(place, &field))?;
        if let Some(size) = namespace.block_size
            && !BLOCK_SIZES.contains(&size)
        {
            let message = format!("blocks of {size} bytes; 512 and 4096 are possible");
            return refuse(&format!("namespaces[{at}].block_size"), message);
        }
    }
    Ok(())
}
