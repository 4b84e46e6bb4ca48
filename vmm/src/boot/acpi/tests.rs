//! Walks the tables as a guest does, from the RSDP on.

use super::*;

const GIB: u64 = 1 << 30;

fn platform(cpus: u8) -> AcpiPlatform<'static> {
    AcpiPlatform {
        cpus,
        ecam: Ecam {
            base: 0xE000_0000,
            first_bus: 0,
            last_bus: 255,
        },
        io_windows: vec![0..=0xCF7, 0xD00..=0xFFFF],
        mmio32: 0xC000_0000..=0xDFFF_FFFF,
        mmio64: Some(64 * GIB..=128 * GIB - 1),
        intx_gsi: &|device, pin| 16 + u32::from((device + pin) % 8),
    }
}

struct Walk(AcpiTables);

impl Walk {
    fn new(platform: &AcpiPlatform) -> Self {
        Self(AcpiTables::build(platform, AREA_START).unwrap())
    }

    fn at(&self, address: u64) -> &[u8] {
        &self.0.bytes()[(address - self.0.rsdp().0) as usize..]
    }

    /// The table at `address`, its checksum checked.
    fn table(&self, address: u64) -> &[u8] {
        let length = u32_at(self.at(address), 4) as usize;
        let table = &self.at(address)[..length];
        assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
        table
    }

    fn listed(&self) -> Vec<&[u8]> {
        let rsdp = self.at(self.0.rsdp().0);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp[..36])), (0, 0));
        let xsdt = self.table(u64_at(rsdp, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        xsdt[36..]
            .chunks(8)
            .map(|entry| self.table(u64_at(entry, 0)))
            .collect()
    }

    fn named(&self, signature: &[u8]) -> &[u8] {
        self.listed()
            .into_iter()
            .find(|table| table.starts_with(signature))
            .unwrap()
    }

    fn dsdt(&self) -> &[u8] {
        self.table(u32_at(self.named(b"FACP"), 40).into())
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// How often `needle` occurs in `bytes`.
fn count(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|w| *w == needle).count()
}

#[test]
fn every_table_is_listed_and_sums_to_zero() {
    for cpus in [1, 2, 64, 255] {
        let walk = Walk::new(&platform(cpus));
        let signatures: Vec<&[u8]> = walk.listed().iter().map(|table| &table[..4]).collect();
        assert_eq!(signatures, [b"FACP", b"APIC", b"MCFG"]);
        assert_eq!(&walk.dsdt()[..4], b"DSDT");
        assert_eq!(walk.dsdt()[8], 2, "64-bit integers");
    }
}

#[test]
fn the_fadt_names_the_registers() {
    let walk = Walk::new(&platform(2));
    let fadt = walk.named(b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    let facs = u32_at(fadt, 36);
    assert_eq!(facs % 64, 0);
    assert_eq!(&walk.at(facs.into())[..4], b"FACS");
    assert_eq!(u64_at(fadt, 140), u64::from(u32_at(fadt, 40)), "DSDT");
    assert_eq!(u16_at(fadt, 46), 9, "SCI");
    assert_eq!(u32_at(fadt, 48), 0, "no SMI command port");
    assert_eq!(u32_at(fadt, 56), 0x600);
    assert_eq!(u32_at(fadt, 64), 0x604);
    assert_eq!(u32_at(fadt, 76), 0x608);
    assert_eq!((fadt[88], fadt[89], fadt[91]), (4, 2, 4));
    assert_eq!(fadt[108], 0x32, "century");
    assert_eq!(u16_at(fadt, 109), 0x5, "boot architecture");
    let flags = u32_at(fadt, 112);
    assert_eq!(flags, 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10);
    // Reset register: I/O space, 8 bits, byte access.
    assert_eq!(fadt[116..120], [1, 8, 0, 1]);
    assert_eq!(u64_at(fadt, 120), 0x60C);
    assert_eq!(fadt[128], 1, "reset value");
    for (at, bits, port) in [(148, 32, 0x600), (172, 16, 0x604), (208, 32, 0x608)] {
        assert_eq!(fadt[at..at + 2], [1, bits]);
        assert_eq!(u64_at(fadt, at + 4), port);
    }
}

#[test]
fn the_madt_lists_processors_and_overrides() {
    let walk = Walk::new(&platform(3));
    let madt = walk.named(b"APIC");
    assert_eq!(u32_at(madt, 36), 0xFEE0_0000);
    assert_eq!(u32_at(madt, 40), 1);
    let mut entries = Vec::new();
    let mut rest = &madt[44..];
    while !rest.is_empty() {
        let (entry, after) = rest.split_at(rest[1].into());
        entries.push(entry);
        rest = after;
    }
    let expected: [&[u8]; 7] = [
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[0, 8, 2, 2, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0],
        &[4, 6, 0xFF, 0, 0, 1],
    ];
    assert_eq!(entries, expected);
}

#[test]
fn configuration_space_is_mapped_and_reserved() {
    let walk = Walk::new(&platform(1));
    let mcfg = walk.named(b"MCFG");
    assert_eq!(mcfg.len(), 60);
    assert_eq!(u64_at(mcfg, 44), 0xE000_0000);
    assert_eq!(mcfg[52..56], [0, 0, 0, 255]);
    // Memory32Fixed, read-write, 256 MiB.
    let reserved = [0x86, 9, 0, 1, 0, 0, 0, 0xE0, 0, 0, 0, 0x10];
    assert_eq!(count(walk.dsdt(), &reserved), 1);
}

#[test]
fn every_pin_is_routed() {
    let walk = Walk::new(&platform(1));
    let dsdt = walk.dsdt();
    let at = dsdt.windows(4).position(|name| name == b"_PRT").unwrap();
    // PackageOp, a two-byte length, 128 elements.
    assert_eq!(dsdt[at + 4], 0x12);
    assert_eq!((dsdt[at + 5] >> 6, dsdt[at + 7]), (1, 128));
    let mut rest = &dsdt[at + 8..];
    for device in 0..32u8 {
        for pin in 0..4u8 {
            let length = usize::from(rest[1]);
            let (route, after) = rest[1..].split_at(length);
            assert_eq!((rest[0], route[1]), (0x12, 4));
            let mut integers = Integers(&route[2..]);
            assert_eq!(integers.next(), Some(u64::from(device) << 16 | 0xFFFF));
            assert_eq!(integers.next(), Some(pin.into()));
            assert_eq!(integers.next(), Some(0));
            assert_eq!(integers.next(), Some(16 + u64::from((device + pin) % 8)));
            assert_eq!(integers.next(), None);
            rest = after;
        }
    }
}

/// AML integers, one after another.
struct Integers<'a>(&'a [u8]);

impl Iterator for Integers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (&prefix, rest) = self.0.split_first()?;
        let bytes = match prefix {
            0x00 | 0x01 => {
                self.0 = rest;
                return Some(prefix.into());
            }
            0x0A => 1,
            0x0B => 2,
            0x0C => 4,
            0x0E => 8,
            other => panic!("no integer: {other:#x}"),
        };
        let (value, rest) = rest.split_at(bytes);
        self.0 = rest;
        Some(
            value
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }
}

#[test]
fn windows_and_devices_are_in_the_dsdt() {
    let walk = Walk::new(&platform(5));
    let dsdt = walk.dsdt();
    assert_eq!(count(dsdt, b"ACPI0007"), 5);
    assert_eq!(count(dsdt, b"C004"), 1);
    for name in [b"PCI0", b"_OSC", b"COM1", b"RTC_", b"_S5_"] {
        assert_eq!(count(dsdt, name), 1, "{name:?}");
    }
    let mut mmio64 = Vec::new();
    for value in [64 * GIB, 128 * GIB - 1, 0, 64 * GIB] {
        mmio64.extend(value.to_le_bytes());
    }
    assert_eq!(count(dsdt, &mmio64), 1);
    let mut mmio32 = Vec::new();
    for value in [0xC000_0000u32, 0xDFFF_FFFF, 0, 0x2000_0000] {
        mmio32.extend(value.to_le_bytes());
    }
    assert_eq!(count(dsdt, &mmio32), 1);
    // COM1: eight ports from 0x3F8, interrupt 4.
    assert_eq!(count(dsdt, &[0x47, 1, 0xF8, 3, 0xF8, 3, 1, 8]), 1);
    assert_eq!(count(dsdt, &[0x89, 6, 0, 3, 1, 4, 0, 0, 0]), 1);
    // The UUID of _OSC as a buffer: its first three groups little-endian.
    let uuid = [0x5B, 0x4D, 0xDB, 0x33, 0xF7, 0x1F, 0x1C, 0x40, 0x96, 0x57];
    assert_eq!(count(dsdt, &uuid), 1);
}

#[test]
fn tables_land_in_guest_memory() {
    let tables = AcpiTables::build(&platform(2), AREA_START).unwrap();
    let memory = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    tables.write(&memory).unwrap();
    let mut found = vec![0; tables.bytes().len()];
    memory.read_slice(&mut found, tables.rsdp()).unwrap();
    assert_eq!(found, tables.bytes());
    let small = GuestRam::from_ranges(&[(GuestAddress(0), 0xE_0000)]).unwrap();
    assert!(matches!(tables.write(&small), Err(AcpiError::Memory(_))));
}

#[test]
fn what_cannot_be_described_is_refused() {
    let build = |platform: &AcpiPlatform, at| AcpiTables::build(platform, GuestAddress(at));
    assert!(matches!(
        build(&platform(0), 0xE_0000),
        Err(AcpiError::NoCpu)
    ));
    for at in [0xE_0010, 0xFFFF_0000, 1 << 40, !63] {
        assert!(matches!(
            build(&platform(1), at),
            Err(AcpiError::Address(_))
        ));
    }
    let mut empty = platform(1);
    (empty.ecam.first_bus, empty.ecam.last_bus) = (2, 1);
    assert!(matches!(
        build(&empty, 0xE_0000),
        Err(AcpiError::Window("bus range"))
    ));
}

#[test]
fn windows_at_the_limits_are_described() {
    let mut wide = platform(1);
    wide.ecam.base = 1 << 40;
    wide.io_windows = vec![0..=0xFFFF];
    wide.mmio64 = None;
    AcpiTables::build(&wide, AREA_START).unwrap();
    wide.mmio64 = Some(0..=u64::MAX);
    assert!(AcpiTables::build(&wide, AREA_START).is_err());
    wide.mmio64 = None;
    wide.mmio32 = 0..=u32::MAX;
    assert!(AcpiTables::build(&wide, AREA_START).is_err());
}
