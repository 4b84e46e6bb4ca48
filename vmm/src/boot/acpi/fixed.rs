//! The tables with a fixed layout: FADT, FACS, MADT, MCFG, XSDT. ACPI 6.5, section 5.2.

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use devices::legacy::{
    ACPI_RESET, ACPI_RESET_VALUE, CMOS_CENTURY, PM_TIMER, PM1A_CONTROL, PM1A_EVENT, Ports, SCI_IRQ,
};

use super::{Ecam, OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes_of};

/// IA-PC boot architecture: there are devices on ISA ports, and no VGA. The flag for a keyboard
/// controller stays clear: it resets the machine, but nothing is plugged into it, and a guest need not probe.
const BOOT_ARCH: u16 = 1 << 0 | 1 << 2;
/// Latencies that say there is no C2 and no C3.
const NO_C2: u16 = 0xFFFF;
const NO_C3: u16 = 0xFFFF;

const LOCAL_APIC: u32 = 0xFEE0_0000;
const IO_APIC: u32 = 0xFEC0_0000;
/// The machine has a pair of 8259 besides.
const PCAT_COMPAT: u32 = 1;
/// Interrupt source override: as the ISA bus has it (edge, active high).
const AS_BUS: u16 = 0x0;
const LEVEL_ACTIVE_HIGH: u16 = 0xD;

/// The firmware control structure: no waking vector, no global lock held.
pub fn facs() -> Vec<u8> {
    bytes_of(&FACS::new())
}

/// The fixed description table. No SMI command port: the machine is always in ACPI mode.
pub fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // Set: there is no fixed sleep button, and the clock's alarm has no fixed wake status. Not set,
        // and so there: the fixed power button.
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    fadt.firmware_ctrl = facs.into();
    fadt.dsdt = dsdt.into();
    fadt.x_dsdt = u64::from(dsdt).into();
    fadt.sci_int = (SCI_IRQ as u16).into();

    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT.first).into();
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL.first).into();
    fadt.pm_tmr_blk = u32::from(PM_TIMER.first).into();
    fadt.pm1_evt_len = PM1A_EVENT.count as u8;
    fadt.pm1_cnt_len = PM1A_CONTROL.count as u8;
    fadt.pm_tmr_len = PM_TIMER.count as u8;
    fadt.x_pm1a_evt_blk = io(PM1A_EVENT, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = io(PM1A_CONTROL, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = io(PM_TIMER, AccessSize::DwordAccess);

    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.century = CMOS_CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.reset_reg = io(ACPI_RESET, AccessSize::ByteAccess);
    fadt.reset_value = ACPI_RESET_VALUE;
    bytes_of(&fadt.finalize())
}

fn io(ports: Ports, access: AccessSize) -> GAS {
    let bits = ports.count as u8 * 8;
    GAS::new(AddressSpace::SystemIo, bits, 0, access, ports.first.into())
}

/// The interrupt controllers: a local APIC for each of `cpus`, one I/O APIC with GSIs from 0.
pub fn madt(cpus: u8) -> Vec<u8> {
    let mut entries = Vec::new();
    entries.extend(LOCAL_APIC.to_le_bytes());
    entries.extend(PCAT_COMPAT.to_le_bytes());
    for cpu in 0..cpus {
        // Processor local APIC: UID, APIC id, enabled.
        entries.extend([0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    // I/O APIC with the id 0.
    entries.extend([1, 12, 0, 0]);
    entries.extend(IO_APIC.to_le_bytes());
    entries.extend(0u32.to_le_bytes());
    // The timer (PIT) is on pin 2; KVM routes it so.
    interrupt_override(&mut entries, 0, 2, AS_BUS);
    interrupt_override(&mut entries, SCI_IRQ as u8, SCI_IRQ, LEVEL_ACTIVE_HIGH);
    // NMI: LINT1 of all processors, polarity and trigger as the bus has them.
    entries.extend([4, 6, 0xFF, 0, 0, 1]);

    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&entries);
    madt.as_slice().to_vec()
}

fn interrupt_override(entries: &mut Vec<u8>, source: u8, gsi: u32, flags: u16) {
    entries.extend([2, 10, 0, source]);
    entries.extend(gsi.to_le_bytes());
    entries.extend(flags.to_le_bytes());
}

/// Where PCI configuration space is mapped.
pub fn mcfg(ecam: Ecam) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(ecam.base, 0, ecam.first_bus, ecam.last_bus);
    bytes_of(&mcfg)
}

/// The list of the tables at these addresses.
pub fn xsdt(tables: &[u64]) -> Vec<u8> {
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for &table in tables {
        xsdt.add_entry(table);
    }
    bytes_of(&xsdt)
}
