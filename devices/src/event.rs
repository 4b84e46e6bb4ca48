//! What a guest tells its machine through a device: a reset, a power-off, a boot marker.

use std::time::Instant;

/// Why the guest is being reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// Command 0xFE to the keyboard controller (port 0x64).
    I8042,
    /// A write to the PCI reset control register (port 0xCF9).
    PciReset,
    /// A write to the reset register that the ACPI FADT names.
    AcpiReset,
    /// A vCPU met a triple fault.
    TripleFault,
    /// `vm.reboot` over the API.
    Api,
}

/// A guest's request to its machine, stamped when the guest made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEvent {
    /// The guest asks to be reset.
    Reset(ResetCause),
    /// The guest entered the ACPI sleep state S5.
    PowerOff,
    /// The guest wrote this value to the boot-marker port.
    BootMarker(u8),
}

/// Where devices send the guest's requests. Called on a vCPU thread: it must not block.
pub trait EventSink: Send + Sync {
    /// Hands `event`, seen at `at`, to the machine.
    fn send(&self, event: GuestEvent, at: Instant);
}
