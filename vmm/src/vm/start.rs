//! The path that every boot takes, the first one and those after a reset, and what can go wrong on it.

use std::io;
use std::time::Instant;

use api::error::{ApiError, ErrorCode};
use api::events::EventKind;
use devices::pci::FirmwareError;

use super::chipset::KvmError;
use super::{Machine, State};
use crate::boot::PayloadError;
use crate::boot::acpi::AcpiError;
use crate::vcpu::VcpuError;

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// KVM's chips could not be reset.
    #[error(transparent)]
    Chipset(#[from] KvmError),
    /// The buses could not be numbered.
    #[error("numbering the PCI buses: {0}")]
    Buses(#[from] FirmwareError),
    /// The ACPI tables could not be written.
    #[error("writing the ACPI tables: {0}")]
    Acpi(#[from] AcpiError),
    /// The payload could not be loaded.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A vCPU could not be reset.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
}

impl Machine {
    /// Puts the machine to power-on, loads the payload and lets the vCPUs run. All vCPUs are paused, all
    /// devices shut down or never used. Returns the moment from which they may run: the guest can be ready
    /// before the last of them has been woken.
    pub(super) fn start(&mut self) -> Result<Instant, StartError> {
        self.chipset.reset()?;
        self.devices.start_hierarchy()?;
        self.acpi.write(&self.memory)?;
        let entry = self.payload.load(&self.memory, self.acpi.rsdp())?;
        self.vcpus.reset(&entry)?;
        self.boot += 1;
        self.mailbox.set_boot(self.boot);
        self.state = State::Running;
        let resumed = Instant::now();
        self.vcpus.resume();
        self.events.push(EventKind::VmBooted { boot: self.boot });
        tracing::info!(boot = self.boot, "the vCPUs run");
        Ok(resumed)
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Payload(error) => error.into(),
            error => ApiError::from_error(ErrorCode::Internal, &error),
        }
    }
}

impl From<PayloadError> for ApiError {
    fn from(error: PayloadError) -> Self {
        let (code, field) = match &error {
            PayloadError::Open { what, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                (ErrorCode::FileMissing, format!("payload.{what}"))
            }
            PayloadError::Open { what, .. } | PayloadError::Read { what, .. } => {
                (ErrorCode::BadFile, format!("payload.{what}"))
            }
            PayloadError::Kind { .. } => (ErrorCode::BadFile, "payload.kernel".to_owned()),
            PayloadError::CommandLine(_) => (ErrorCode::OutOfRange, "payload.cmdline".to_owned()),
            PayloadError::TooSmall { .. } => (ErrorCode::OutOfRange, "memory.size".to_owned()),
            PayloadError::Memory(_) => (ErrorCode::Internal, "payload".to_owned()),
        };
        ApiError::from_error(code, &error).with_field(field)
    }
}
