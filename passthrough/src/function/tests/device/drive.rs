//! An NVMe drive with every kind of interrupt and BAR.

use crate::client::{Area, Region, region};

pub(in super::super) const VENDOR: u16 = 0x144D;
pub(in super::super) const TABLE: u64 = 0x3000;
pub(in super::super) const PENDING: u64 = 0x2000;
pub(in super::super) const VECTORS: u16 = 8;
pub(in super::super) const POWER: u16 = 0x40;
pub(in super::super) const MSI: u16 = 0x50;
pub(in super::super) const EXPRESS: u16 = 0x70;
pub(in super::super) const MSIX: u16 = 0xB0;
pub(in super::super) const VENDOR_SPECIFIC: u16 = 0xC0;
pub(in super::super) const SERIAL: u16 = 0x148;
pub(in super::super) const VSEC: u16 = 0x1B0;

/// Its configuration space.
pub(super) fn config() -> Vec<u8> {
    let mut config = vec![0; 4096];
    let mut put = |at: u16, value: u32| {
        let at = usize::from(at);
        config[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(0x00, 0xA808_0000 | u32::from(VENDOR));
    put(0x04, 0x0010_0000);
    put(0x08, 0x0108_0203);
    put(0x10, 0xF000_0004);
    put(0x18, 0x0000_0001);
    put(0x1C, 0xE000_0008);
    put(0x20, 0xD000_0000);
    put(0x2C, 0xA801_144D);
    put(0x34, POWER.into());
    put(0x3C, 0x0000_010B);
    put(POWER, 0xFFC3_0001 | u32::from(MSI) << 8);
    put(POWER + 4, 0x0000_0008);
    // 64 bits, maskable, 32 vectors.
    put(MSI, 0x018A_0005 | u32::from(EXPRESS) << 8);
    put(EXPRESS, 0x0002_0010 | u32::from(MSIX) << 8);
    put(EXPRESS + 4, 0x1000_8FE2);
    put(EXPRESS + 0x0C, 0x0047_D043);
    put(
        MSIX,
        u32::from(VECTORS - 1) << 16 | 0x11 | u32::from(VENDOR_SPECIFIC) << 8,
    );
    put(MSIX + 4, TABLE as u32);
    put(MSIX + 8, PENDING as u32);
    put(VENDOR_SPECIFIC, 0x0010_D009);
    put(VENDOR_SPECIFIC + 4, 0x1111_1111);
    // Vital product data, which is hidden.
    put(0xD0, 0x0000_0003);
    put(0xD4, 0x2222_2222);
    put(0x100, 0x1482_0001);
    put(0x104, 0x3333_3333);
    put(SERIAL, 0x1581_0003);
    put(SERIAL + 4, 0x89AB_CDEF);
    put(SERIAL + 8, 0x0123_4567);
    put(0x158, 0x1B01_0010);
    put(VSEC, 0x1E01_000B);
    put(VSEC + 4, 0x0101_0042);
    put(VSEC + 8, 0x4444_4444);
    put(0x1E0, 0x0001_000F);
    config
}

/// Its regions.
pub(super) fn regions() -> Vec<Region> {
    let bar = |size, areas: &[Area]| Region {
        size,
        readable: true,
        writable: true,
        areas: areas.to_vec(),
    };
    let whole = |size| bar(size, &[Area { offset: 0, size }]);
    let mut regions = vec![Region::default(); 9];
    regions[0] = whole(0x4000);
    regions[2] = bar(0x20, &[]);
    regions[3] = whole(0x1_0000);
    regions[4] = bar(0x100, &[]);
    regions[region::CONFIG as usize] = bar(4096, &[]);
    regions
}

/// What of configuration space a guest may change: the command register aside, vendor-specific bodies and what no
/// capability has.
pub(super) fn may_be_written(at: u64, length: usize) -> bool {
    let end = at + length as u64;
    let free = [
        (u64::from(POWER) + 8, u64::from(MSI)),
        (u64::from(MSI) + 24, u64::from(EXPRESS)),
        (u64::from(EXPRESS) + 0x3C, u64::from(MSIX)),
        (u64::from(MSIX) + 12, u64::from(VENDOR_SPECIFIC)),
        (u64::from(VENDOR_SPECIFIC) + 4, 0xD0),
    ];
    free.iter()
        .any(|(start, limit)| *start <= at && end <= *limit)
}
