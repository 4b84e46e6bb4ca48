//! What the IOMMU says that it reaches, and memory beside that.

use super::*;

/// What Intel's says: all but the page range of interrupt messages.
const RANGES: [IovaRange; 2] = [
    IovaRange {
        first: 0,
        last: 0xFEDF_FFFF,
    },
    IovaRange {
        first: 0xFEF0_0000,
        last: 0x7F_FFFF_FFFF,
    },
];

#[test]
fn memory_in_one_range_is_reached_and_across_a_hole_is_not() {
    assert_eq!(reached(&RANGES, 0, 0xBFFF_FFFF), Ok(()));
    assert_eq!(reached(&RANGES, 1 << 32, 0x7F_FFFF_FFFF), Ok(()));
    assert_eq!(reached(&RANGES, 0xFE00_0000, 0xFFFF_FFFF), Err(0xFEE0_0000));
    assert_eq!(
        reached(&RANGES, 1 << 32, 0x80_0000_0000),
        Err(0x80_0000_0000)
    );
    assert_eq!(
        reached(&RANGES, 0x90_0000_0000, 0x91_0000_0000),
        Err(0x90_0000_0000)
    );
}

#[test]
fn ranges_that_touch_are_as_one() {
    let ranges = [
        IovaRange { first: 0, last: 9 },
        IovaRange {
            first: 10,
            last: u64::MAX,
        },
    ];
    assert_eq!(reached(&ranges, 5, u64::MAX), Ok(()));
}

#[test]
fn ranges_are_read_from_the_containers_capability() {
    let mut record = Record::new(24 + 16 + 32);
    record.set_u32(4, VFIO_IOMMU_INFO_CAPS);
    record.set_u32(16, 24);
    record.set_u32(24, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE | 1 << 16);
    record.set_u32(32, 2);
    for (number, range) in RANGES.iter().enumerate() {
        record.set_u64(40 + 16 * number, range.first);
        record.set_u64(48 + 16 * number, range.last);
    }
    assert_eq!(container_ranges(&record), RANGES);
    // More ranges than there is room for are none that could be read.
    record.set_u32(32, u32::MAX);
    assert_eq!(container_ranges(&record), RANGES);
    record.set_u32(4, 0);
    assert_eq!(container_ranges(&record), []);
}

#[test]
fn a_structure_that_is_larger_is_asked_for_again_as_a_whole() {
    let mut sizes = Vec::new();
    let record = whole_record(16, |record| {
        sizes.push(record.bytes().len());
        record.set_u32(0, 40);
        Ok(0)
    });
    assert_eq!(sizes, [16, 40]);
    assert_eq!(record.unwrap().bytes().len(), 40);
}
