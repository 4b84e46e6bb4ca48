//! What firmware and boot loader do on a real machine: vCPU set-up, ACPI tables, the kernel.

pub mod acpi;
pub mod cpu;
mod entry;
mod kernel;

pub use kernel::{Payload, PayloadError};
