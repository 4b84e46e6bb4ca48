//! The legacy devices of a PC that stock Linux expects, and where they stand.
//!
//! | ports            | device                                             | interrupt            |
//! |------------------|----------------------------------------------------|----------------------|
//! | 0x060, 0x064     | [`I8042`]: keyboard controller, reset by 0xFE      | none                 |
//! | 0x070 – 0x071    | [`Cmos`]: real-time clock and CMOS memory          | none (8 in ACPI)     |
//! | 0x3F0            | [`BootMarker`]                                     | none                 |
//! | 0x3F8 – 0x3FF    | [`Serial`]: COM1, a 16550A                         | 4, edge              |
//! | 0x600 – 0x60B    | [`AcpiPm`]: PM1a events and control, PM timer      | 9, level (the SCI)   |
//! | 0x60C            | [`AcpiReset`]: the reset register of the FADT      | none                 |
//! | 0xCF9            | [`ResetControl`], amid the PCI configuration ports | none                 |
//!
//! Not implemented: a keyboard or mouse, interrupts of the real-time clock (alarm, periodic, update),
//! general-purpose events, sleep states other than S5.

pub mod acpi_pm;
pub mod boot_marker;
pub mod cmos;
pub mod i8042;
pub mod reset_control;
pub mod serial;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use acpi_pm::AcpiPm;
pub use boot_marker::BootMarker;
pub use cmos::Cmos;
pub use i8042::I8042;
pub use reset_control::{AcpiReset, ResetControl};
pub use serial::{ConsoleOutput, RawTerminal, Serial, SerialSocket};

/// A run of I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// How many there are.
    pub count: u16,
}

const fn ports(first: u16, count: u16) -> Ports {
    Ports { first, count }
}

/// Data port of the keyboard controller.
pub const I8042_DATA: Ports = ports(0x60, 1);
/// Status and command port of the keyboard controller.
pub const I8042_COMMAND: Ports = ports(0x64, 1);
/// Index and data port of the CMOS memory.
pub const CMOS: Ports = ports(0x70, 2);
/// The boot marker.
pub const BOOT_MARKER: Ports = ports(0x3F0, 1);
/// The serial port.
pub const COM1: Ports = ports(0x3F8, 8);
/// All registers of [`AcpiPm`].
pub const ACPI_PM: Ports = ports(0x600, 12);
/// PM1a event block: status, then enable.
pub const PM1A_EVENT: Ports = ports(0x600, 4);
/// PM1a control block.
pub const PM1A_CONTROL: Ports = ports(0x604, 2);
/// The PM timer.
pub const PM_TIMER: Ports = ports(0x608, 4);
/// The reset register named by the FADT.
pub const ACPI_RESET: Ports = ports(0x60C, 1);
/// The PCI reset control register.
pub const RESET_CONTROL: Ports = ports(0xCF9, 1);

/// What a write to [`ACPI_RESET`] must hold to reset the machine.
pub const ACPI_RESET_VALUE: u8 = 0x01;
/// SLP_TYP of the sleep state S5 (soft off), as `\_S5` names it.
pub const SLP_TYP_S5: u8 = 5;
/// The CMOS cell with the century.
pub const CMOS_CENTURY: u8 = 0x32;

/// Interrupt of the serial port: edge-triggered.
pub const COM1_IRQ: u32 = 4;
/// Interrupt that belongs to the real-time clock. Never raised.
pub const RTC_IRQ: u32 = 8;
/// ACPI's system control interrupt: level-triggered, active high.
pub const SCI_IRQ: u32 = 9;

/// Locks `mutex`; a panic elsewhere leaves register state usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod recorder;
