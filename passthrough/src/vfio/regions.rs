//! The regions of a device: their sizes, and which parts of them can be mapped.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};

use super::address_space::whole_record;
use super::ioctls::{Ioctls, Record, Request};
use crate::client::{Area, Region, region};

/// BARs, ROM and configuration space; what comes after, VGA and what vendors add, is not passed through.
pub(super) const COUNT: u32 = region::CONFIG + 1;

/// A region, and where it is in the device's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) region: Region,
    pub(super) at: u64,
}

/// The MSI-X table: which BAR, and the bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MsixTable {
    bar: u32,
    offset: u64,
    size: u64,
}

/// Asks the kernel for all regions of the device; a device has at least `count` of them.
pub(super) fn ask(ioctls: &dyn Ioctls, file: &File, count: u32) -> io::Result<Vec<Placed>> {
    let page = rustix::param::page_size() as u64;
    let mut records = Vec::new();
    for index in 0..COUNT.min(count) {
        let record = whole_record(size_of::<vfio_region_info>(), |record| {
            // `vfio_region_info`: the index is at 8.
            record.set_u32(8, index);
            ioctls.call(file.as_fd(), Request::RegionInfo(record))
        });
        records.push(match record {
            Ok(record) => record,
            // A region that the device does not have.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Record::new(size_of::<vfio_region_info>())
            }
            Err(error) => return Err(error),
        });
    }
    records.resize(COUNT as usize, Record::new(size_of::<vfio_region_info>()));
    let table = msix_table(file, &records[region::CONFIG as usize])?;
    let placed = |(index, record): (usize, &Record)| {
        let table = table.filter(|table| table.bar == index as u32);
        placed(record, table, page)
    };
    Ok(records.iter().enumerate().map(placed).collect())
}

/// `vfio_region_info`: flags at 4, where capabilities begin at 12, size at 16, place in the file at 24.
fn placed(record: &Record, table: Option<MsixTable>, page: u64) -> Placed {
    let (flags, size) = (record.u32_at(4), record.u64_at(16));
    let mut areas = Vec::new();
    if flags & VFIO_REGION_INFO_FLAG_MMAP != 0 {
        let sparse = (flags & VFIO_REGION_INFO_FLAG_CAPS != 0)
            .then(|| record.capability(record.u32_at(12), VFIO_REGION_INFO_CAP_SPARSE_MMAP))
            .flatten();
        areas = match sparse {
            Some(capability) => sparse_areas(record, capability.start, capability.end),
            None => vec![Area { offset: 0, size }],
        };
        // The guest never reaches the true table, not even where the host could bear it: its vectors are the host's.
        if let Some(table) = table {
            areas = areas
                .iter()
                .flat_map(|area| around(*area, table, page))
                .collect();
        }
        areas = whole_pages(areas, size, page);
    }
    Placed {
        region: Region {
            size,
            readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
            writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
            areas,
        },
        at: record.u64_at(24),
    }
}

/// `vfio_region_info_cap_sparse_mmap`: the number of areas at 8, the areas from 16 on.
fn sparse_areas(record: &Record, start: usize, end: usize) -> Vec<Area> {
    let count = record.u32_at(start + 8) as usize;
    let area = |offset: usize| Area {
        offset: record.u64_at(offset),
        size: record.u64_at(offset + 8),
    };
    let offsets = (start + 16..end).step_by(16);
    offsets.take(count).map(area).collect()
}

/// What is left of `area` without the pages that the table touches.
fn around(area: Area, table: MsixTable, page: u64) -> impl Iterator<Item = Area> {
    let end = area.offset.saturating_add(area.size);
    let hole = (
        table.offset / page * page,
        (table.offset + table.size).next_multiple_of(page),
    );
    let parts = [
        (area.offset, end.min(hole.0)),
        (area.offset.max(hole.1), end),
    ];
    parts
        .into_iter()
        .filter(|(from, to)| from < to)
        .map(|(from, to)| Area {
            offset: from,
            size: to - from,
        })
}

/// Those pages that areas have wholly, inside a region of `size` bytes, in order and without overlap.
fn whole_pages(mut areas: Vec<Area>, size: u64, page: u64) -> Vec<Area> {
    areas.sort_by_key(|area| area.offset);
    let mut from = 0;
    let mut whole = Vec::new();
    for area in areas {
        let end = area.offset.saturating_add(area.size).min(size) / page * page;
        let start = area.offset.checked_next_multiple_of(page).unwrap_or(end);
        let start = start.max(from);
        if start < end {
            whole.push(Area {
                offset: start,
                size: end - start,
            });
            from = end;
        }
    }
    whole
}

/// Capability pointer and status of configuration space (PCI 3.0, 6.2.3 and 6.7).
const STATUS: u64 = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAPABILITIES: u64 = 0x34;
const MSIX: u8 = 0x11;

/// Finds the MSI-X capability (PCI 3.0, 6.8.2) in the device's configuration space.
fn msix_table(file: &File, config: &Record) -> io::Result<Option<MsixTable>> {
    let (size, base) = (config.u64_at(16), config.u64_at(24));
    if size < 0x100 {
        return Ok(None);
    }
    let byte = |offset: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, base + offset)
            .map(|()| byte[0])
    };
    let word =
        |offset: u64| Ok::<_, io::Error>(u16::from_le_bytes([byte(offset)?, byte(offset + 1)?]));
    if word(STATUS)? & STATUS_CAPABILITIES == 0 {
        return Ok(None);
    }
    let mut at = byte(CAPABILITIES)? & !3;
    // There is room for 48 capabilities: a list that is longer goes round in circles.
    for _ in 0..48 {
        if at < 0x40 {
            break;
        }
        let here = u64::from(at);
        if byte(here)? == MSIX && here + 8 <= 0x100 {
            let vectors = u64::from(word(here + 2)? & 0x7FF) + 1;
            let table = u32::from(word(here + 4)?) | u32::from(word(here + 6)?) << 16;
            return Ok(Some(MsixTable {
                bar: table & 7,
                offset: u64::from(table & !7),
                size: vectors * 16,
            }));
        }
        at = byte(here + 1)? & !3;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
