//! The ACPI tables of the machine: what they describe, and where they lie. A pure function from the
//! platform to bytes; the DSDT and the fixed tables are built in the two modules below.

mod dsdt;
mod fixed;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestRam;

/// Where guests look for the RSDP and where firmware would put the tables.
pub const AREA_START: GuestAddress = GuestAddress(0xE_0000);
/// Bytes from [`AREA_START`] to 1 MiB. Tables never take more.
pub const AREA_SIZE: u64 = 0x2_0000;

const OEM_ID: [u8; 6] = *b"SUNDWN";
const OEM_TABLE_ID: [u8; 8] = *b"SUNDOWN ";
const OEM_REVISION: u32 = 1;
/// Buses of a segment.
const BUSES: u64 = 256;

/// What the tables say about the machine, besides the ports and interrupts of `devices::legacy`.
pub struct AcpiPlatform<'a> {
    /// vCPUs; the local APIC id and the processor's UID are the vCPU's index.
    pub cpus: u8,
    /// PCI configuration space.
    pub ecam: Ecam,
    /// I/O ports for PCI devices, without the configuration ports 0xCF8 to 0xCFF.
    pub io_windows: Vec<RangeInclusive<u16>>,
    /// Addresses below 4 GiB for PCI devices.
    pub mmio32: RangeInclusive<u32>,
    /// Addresses above 4 GiB for PCI devices.
    pub mmio64: Option<RangeInclusive<u64>>,
    /// The interrupt (GSI, level-triggered) of a pin of a device on the root bus: devices 0 to 31,
    /// pins 0 (INTA) to 3 (INTD).
    pub intx_gsi: &'a dyn Fn(u8, u8) -> u32,
}

/// The memory-mapped configuration space of the buses that the host bridge decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Address of bus 0's configuration space, whether or not the buses begin there.
    pub base: u64,
    /// The root bus.
    pub first_bus: u8,
    /// The last bus.
    pub last_bus: u8,
}

impl Ecam {
    /// Address of the first bus's configuration space.
    fn start(self) -> u64 {
        self.base + (u64::from(self.first_bus) << 20)
    }

    /// Bytes of all buses: 1 MiB each.
    fn size(self) -> u64 {
        (u64::from(self.last_bus - self.first_bus) + 1) << 20
    }
}

/// Why no tables were built or written.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// A machine has a processor.
    #[error("the ACPI tables need at least one vCPU")]
    NoCpu,
    /// A range of the host bridge is empty, or reaches to the end of all addresses.
    #[error("the {0} of the PCI host bridge is empty or too large")]
    Window(&'static str),
    /// The tables lie where 32-bit pointers do not reach, or off their alignment.
    #[error("ACPI tables cannot lie at {0:#x}: it must be a multiple of 64 below 4 GiB")]
    Address(u64),
    /// There is no room for the tables.
    #[error("the ACPI tables take {0} bytes and {AREA_SIZE} are free")]
    TooLarge(u64),
    /// Guest memory has a hole where the tables go.
    #[error("writing the ACPI tables to guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// The tables, ready to be written to where they were built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTables {
    start: GuestAddress,
    bytes: Vec<u8>,
}

impl AcpiTables {
    /// Builds the tables of `platform` to lie at `start`, which is [`AREA_START`] or another multiple
    /// of 64 below 4 GiB.
    pub fn build(platform: &AcpiPlatform, start: GuestAddress) -> Result<Self, AcpiError> {
        platform.check()?;
        if !start.0.is_multiple_of(64) || start.0 > (1 << 32) - AREA_SIZE {
            return Err(AcpiError::Address(start.0));
        }
        let mut area = Area {
            start: start.0,
            bytes: vec![0; Rsdp::len()],
        };
        let facs = area.place(&fixed::facs());
        let dsdt = area.place(&dsdt::build(platform));
        let tables = [
            area.place(&fixed::fadt(facs as u32, dsdt as u32)),
            area.place(&fixed::madt(platform.cpus)),
            area.place(&fixed::mcfg(platform.ecam)),
        ];
        let xsdt = area.place(&fixed::xsdt(&tables));
        let rsdp = bytes_of(&Rsdp::new(OEM_ID, xsdt));
        area.bytes[..rsdp.len()].copy_from_slice(&rsdp);
        let size = area.bytes.len() as u64;
        if size > AREA_SIZE {
            return Err(AcpiError::TooLarge(size));
        }
        Ok(Self {
            start,
            bytes: area.bytes,
        })
    }

    /// Address of the RSDP.
    pub fn rsdp(&self) -> GuestAddress {
        self.start
    }

    /// All tables: what lies from [`rsdp`](Self::rsdp) on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the tables to guest memory. To be done before every boot: a guest may have written there.
    pub fn write(&self, memory: &GuestRam) -> Result<(), AcpiError> {
        Ok(memory.write_slice(&self.bytes, self.start)?)
    }
}

impl AcpiPlatform<'_> {
    fn check(&self) -> Result<(), AcpiError> {
        if self.cpus == 0 {
            return Err(AcpiError::NoCpu);
        }
        let windows = [
            (
                "bus range",
                self.ecam.first_bus <= self.ecam.last_bus
                    && self.ecam.base.checked_add(BUSES << 20).is_some(),
            ),
            (
                "I/O window",
                !self.io_windows.iter().any(RangeInclusive::is_empty),
            ),
            (
                "32-bit memory window",
                !self.mmio32.is_empty() && *self.mmio32.end() < u32::MAX,
            ),
            (
                "64-bit memory window",
                self.mmio64
                    .as_ref()
                    .is_none_or(|window| !window.is_empty() && *window.end() < u64::MAX),
            ),
        ];
        match windows.into_iter().find(|&(_, sound)| !sound) {
            Some((window, _)) => Err(AcpiError::Window(window)),
            None => Ok(()),
        }
    }
}

/// Tables side by side, each aligned as the FACS must be.
struct Area {
    start: u64,
    bytes: Vec<u8>,
}

impl Area {
    fn place(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let at = self.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        at
    }
}

fn bytes_of(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}
