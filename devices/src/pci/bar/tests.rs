//! BAR sizing, bases at the ends of the address space, decoding.

use super::*;
use crate::pci::config_space::COMMAND;

fn space(bar: Bar) -> ConfigSpace {
    let mut space = ConfigSpace::express();
    space.define(COMMAND, 0, u32::MAX);
    bar.define(&mut space);
    space
}

#[test]
fn sizing_reads_back_the_size_and_the_kind() {
    let mut low = space(Bar::memory32(2, 0x1000));
    low.write(0x18, u32::MAX, u32::MAX);
    assert_eq!(low.read(0x18), 0xFFFF_F000);

    let mut high = space(Bar::memory64(0, 0x4000).prefetchable());
    assert_eq!(high.read(0x10), 0b1100);
    high.write(0x10, u32::MAX, u32::MAX);
    high.write(0x14, u32::MAX, u32::MAX);
    assert_eq!(
        (high.read(0x10), high.read(0x14)),
        (0xFFFF_C00C, 0xFFFF_FFFF)
    );

    let mut huge = space(Bar::memory64(4, 1 << 36));
    huge.write(0x20, u32::MAX, u32::MAX);
    huge.write(0x24, u32::MAX, u32::MAX);
    assert_eq!((huge.read(0x20), huge.read(0x24)), (0b100, 0xFFFF_FFF0));
}

#[test]
fn sizes_become_powers_of_two_in_range() {
    assert_eq!(Bar::memory32(0, 0).size(), 16);
    assert_eq!(Bar::memory32(0, u64::MAX).size(), 1 << 31);
    assert_eq!(Bar::memory64(0, 0x2410).size(), 0x4000);
    assert_eq!(Bar::memory64(0, u64::MAX).size(), 1 << 63);
}

#[test]
fn bases_at_the_top_do_not_overflow() {
    for (bar, base) in [
        (Bar::memory32(0, 0x1000), 0xFFFF_F000),
        (Bar::memory64(0, 0x1000), 0xFFFF_FFFF_FFFF_F000),
        (Bar::memory64(0, 1 << 63), 1 << 63),
    ] {
        let mut space = space(bar);
        space.write(0x10, u32::MAX, u32::MAX);
        space.write(0x14, u32::MAX, u32::MAX);
        assert_eq!(bar.base(&space), base);
        assert!(base.checked_add(bar.size() - 1).is_some());
    }
}

#[test]
fn nothing_is_decoded_while_memory_decoding_is_off() {
    let bar = Bar::memory64(0, 0x4000);
    let mut space = space(bar);
    space.write(0x10, 0xD000_1234, u32::MAX);
    assert_eq!(decoded(&[bar], &space), []);
    space.write(COMMAND, u32::from(COMMAND_MEMORY), u32::MAX);
    let range = BarRange {
        bar: 0,
        base: 0xD000_0000,
        size: 0x4000,
        prefetchable: false,
    };
    assert_eq!(decoded(&[bar], &space), [range]);
}
