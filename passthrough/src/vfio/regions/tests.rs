//! Which parts of a region can be mapped: what the kernel says of them, and the MSI-X table among them.

use std::io::Write;

use vfio_bindings::bindings::vfio::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;

use super::*;

const PAGE: u64 = 0x1000;
const ALL: u32 =
    VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP;

/// A region as the kernel describes it, with a capability: its number and what follows its header.
fn described(size: u64, capability: Option<(u32, &[u64])>) -> Record {
    let data = capability.map_or(0, |(_, data)| 8 + 8 * data.len());
    let mut record = Record::new(32 + data);
    let caps = if capability.is_some() {
        VFIO_REGION_INFO_FLAG_CAPS
    } else {
        0
    };
    record.set_u32(4, ALL | caps);
    record.set_u64(16, size);
    record.set_u64(24, 1 << 40);
    if let Some((id, data)) = capability {
        record.set_u32(12, 32);
        record.set_u32(32, id | 1 << 16);
        for (number, value) in data.iter().enumerate() {
            record.set_u64(40 + 8 * number, *value);
        }
    }
    record
}

fn table(offset: u64, vectors: u64) -> Option<MsixTable> {
    Some(MsixTable {
        bar: 0,
        offset,
        size: 16 * vectors,
    })
}

fn areas(placed: &Placed) -> Vec<(u64, u64)> {
    let areas = placed.region.areas.iter();
    areas.map(|area| (area.offset, area.size)).collect()
}

#[test]
fn a_region_without_more_to_say_is_mapped_as_a_whole() {
    let placed = placed(&described(0x4000, None), None, PAGE);
    assert_eq!(areas(&placed), [(0, 0x4000)]);
    assert_eq!((placed.at, placed.region.size), (1 << 40, 0x4000));
    assert!(placed.region.readable && placed.region.writable);
}

#[test]
fn the_pages_of_the_msix_table_are_left_out() {
    let whole = described(0x8000, None);
    assert_eq!(
        areas(&placed(&whole, table(0x2000, 1), PAGE)),
        [(0, 0x2000), (0x3000, 0x5000)]
    );
    // 65 vectors across a page's end.
    let across = placed(&whole, table(0x2C00, 65), PAGE);
    assert_eq!(areas(&across), [(0, 0x2000), (0x4000, 0x4000)]);
    assert_eq!(
        areas(&placed(&whole, table(0, 1), PAGE)),
        [(0x1000, 0x7000)]
    );
    let larger_pages = placed(&described(0x4_0000, None), table(0x1_2000, 1), 0x1_0000);
    assert_eq!(areas(&larger_pages), [(0, 0x1_0000), (0x2_0000, 0x2_0000)]);
    assert_eq!(
        areas(&placed(&described(0x1000, None), table(0, 8), PAGE)),
        []
    );
}

#[test]
fn the_table_is_left_out_even_where_the_host_would_let_it_be_mapped() {
    let mappable = described(0x4000, Some((VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, &[])));
    let placed = placed(&mappable, table(0x1000, 4), PAGE);
    assert_eq!(areas(&placed), [(0, 0x1000), (0x2000, 0x2000)]);
}

#[test]
fn sparse_areas_are_taken_as_whole_pages_in_order_and_inside_the_region() {
    let sparse = |data: &[u64]| described(0x8000, Some((VFIO_REGION_INFO_CAP_SPARSE_MMAP, data)));
    let record = sparse(&[3, 0x6000, 0x2000, 0, 0x1800, 0x2800, 0x1800]);
    assert_eq!(
        areas(&placed(&record, None, PAGE)),
        [(0, 0x1000), (0x3000, 0x1000), (0x6000, 0x2000)]
    );
    let hostile = sparse(&[9, 0x7000, u64::MAX, u64::MAX, u64::MAX, 0x7000, 0x1000]);
    assert_eq!(areas(&placed(&hostile, None, PAGE)), [(0x7000, 0x1000)]);
    let none = sparse(&[0]);
    assert_eq!(areas(&placed(&none, None, PAGE)), []);
    let around = placed(&sparse(&[1, 0, 0x8000]), table(0x4000, 1), PAGE);
    assert_eq!(areas(&around), [(0, 0x4000), (0x5000, 0x3000)]);
}

#[test]
fn less_than_a_page_is_not_mapped() {
    assert_eq!(areas(&placed(&described(0x800, None), None, PAGE)), []);
}

/// A file that is a configuration space with these bytes, and how the kernel describes it.
fn config(bytes: &[(usize, u8)]) -> (File, Record) {
    let mut space = [0; 0x100];
    for (at, byte) in bytes {
        space[*at] = *byte;
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&space).unwrap();
    let mut record = described(0x100, None);
    record.set_u64(24, 0);
    (file, record)
}

#[test]
fn the_table_is_found_along_the_capability_list() {
    let (file, record) = config(&[
        (0x06, 0x10),
        (0x34, 0x40),
        (0x40, 0x01),
        (0x41, 0x50),
        (0x50, 0x11),
        (0x52, 0x40),
        (0x54, 0x02),
        (0x55, 0x20),
    ]);
    let found = msix_table(&file, &record).unwrap();
    let expected = MsixTable {
        bar: 2,
        offset: 0x2000,
        size: 65 * 16,
    };
    assert_eq!(found, Some(expected));
}

#[test]
fn a_capability_list_in_a_circle_or_none_has_no_table() {
    let (file, record) = config(&[(0x06, 0x10), (0x34, 0x40), (0x40, 0x01), (0x41, 0x40)]);
    assert_eq!(msix_table(&file, &record).unwrap(), None);
    let (file, record) = config(&[(0x34, 0x40), (0x40, 0x11)]);
    assert_eq!(msix_table(&file, &record).unwrap(), None);
}
