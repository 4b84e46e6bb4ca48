//! What a configuration must be beyond its shape, before any file of it is looked at.

use std::ops::RangeInclusive;
use std::path::Path;

use super::machine::WORKERS_MOST;
use super::{ConfigError, SerialMode, VmConfig, devices, order};
use crate::error::ErrorCode;
use crate::json;

const MEMORY_UNIT: u64 = 2 << 20;
const MEMORY: RangeInclusive<u64> = 64 << 20..=4 << 40;

impl VmConfig {
    /// Reads a configuration from JSON and validates it.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(document: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = json::from_slice(document)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks everything that can be checked without looking at files.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_machine()?;
        let mut devices = self.devices();
        let mut places = Vec::new();
        while let Some(place) = devices.next_place() {
            places.push(place);
        }
        devices::validate(self, &places)?;
        order::validate(self, &places)
    }

    fn validate_machine(&self) -> Result<(), ConfigError> {
        in_range("cpus.boot_vcpus", "vCPUs", self.cpus.boot_vcpus, 1..=64)?;
        let size = self.memory.size;
        if !MEMORY.contains(&size) || !size.is_multiple_of(MEMORY_UNIT) {
            let message = format!(
                "{size} bytes of memory; a multiple of 2 MiB from 64 MiB to 4 TiB is allowed"
            );
            return Err(ConfigError::new(ErrorCode::OutOfRange, message).at("memory.size"));
        }
        let payload = &self.payload;
        given_path("payload.kernel", "the kernel", &payload.kernel)?;
        if let Some(initramfs) = &payload.initramfs {
            given_path("payload.initramfs", "the initramfs", initramfs)?;
        }
        if payload
            .cmdline
            .as_ref()
            .is_some_and(|cmdline| cmdline.contains('\0') || cmdline.len() > 2000)
        {
            let message = "the kernel's command line: at most 2000 bytes without NUL are allowed";
            return Err(ConfigError::new(ErrorCode::OutOfRange, message).at("payload.cmdline"));
        }
        self.validate_serial()?;
        if let Some(workers) = self.teardown.workers {
            let allowed = 1..=WORKERS_MOST;
            in_range("teardown.workers", "teardown workers", workers, allowed)?;
        }
        in_range(
            "teardown.history",
            "teardown reports kept",
            self.teardown.history,
            1..=u16::MAX,
        )
    }

    fn validate_serial(&self) -> Result<(), ConfigError> {
        let serial = &self.serial;
        let ends = [
            (SerialMode::File, "File", "serial.file", &serial.file),
            (
                SerialMode::Socket,
                "Socket",
                "serial.socket",
                &serial.socket,
            ),
        ];
        for (mode, name, field, path) in ends {
            match path {
                None if serial.mode == mode => {
                    let message = format!("the serial port: the mode `{name}` needs `{field}`");
                    return Err(ConfigError::new(ErrorCode::MissingField, message).at(field));
                }
                Some(_) if serial.mode != mode => {
                    let message = format!(
                        "the serial port: `{field}` has a meaning in the mode `{name}` only; set `serial.mode` to it, \
                         or leave the field out"
                    );
                    return Err(ConfigError::new(ErrorCode::UnexpectedField, message).at(field));
                }
                Some(path) => given_path(field, "the serial port's other end", path)?,
                None => {}
            }
        }
        Ok(())
    }
}

fn in_range<N: PartialOrd + std::fmt::Display>(
    field: &str,
    what: &str,
    value: N,
    range: RangeInclusive<N>,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!(
        "{value} {what}; {} to {} are allowed",
        range.start(),
        range.end()
    );
    Err(ConfigError::new(ErrorCode::OutOfRange, message).at(field))
}

/// Checks that a path is one.
pub(super) fn given_path(field: &str, what: &str, path: &Path) -> Result<(), ConfigError> {
    let text = path.as_os_str();
    if !text.is_empty() && !text.as_encoded_bytes().contains(&0) {
        return Ok(());
    }
    let message = format!(
        "`{field}`: the path of {what} is empty or has a NUL in it; give the path of a file"
    );
    Err(ConfigError::new(ErrorCode::MissingField, message).at(field))
}
