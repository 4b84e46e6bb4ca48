//! Header masks, capability lists, and accesses of any kind.

use proptest::prelude::*;

use super::*;

const IDENTITY: Identity = Identity {
    vendor: 0x1B36,
    device: 0x0010,
    class: 0x01_08_02,
    revision: 2,
    subsystem_vendor: 0x1AF4,
    subsystem: 0x1100,
};

/// What stays of all-ones, and of zeros, written to a register.
fn writable(space: &mut ConfigSpace, offset: u16) -> (u32, u32) {
    space.write(offset, u32::MAX, u32::MAX);
    let ones = space.read(offset);
    space.write(offset, 0, u32::MAX);
    (ones, space.read(offset))
}

#[test]
fn a_type_0_header_says_who_it_is_and_takes_only_what_is_writable() {
    let mut space = ConfigSpace::express();
    space.define_type0(&IDENTITY, 1);
    assert_eq!(writable(&mut space, 0x00), (0x0010_1B36, 0x0010_1B36));
    assert_eq!(writable(&mut space, 0x04), (0x0000_0546, 0));
    assert_eq!(writable(&mut space, 0x08), (0x0108_0202, 0x0108_0202));
    assert_eq!(writable(&mut space, 0x0C), (0x0000_00FF, 0));
    for bar in 0..6 {
        assert_eq!(writable(&mut space, 0x10 + 4 * bar), (0, 0));
    }
    assert_eq!(writable(&mut space, 0x2C), (0x1100_1AF4, 0x1100_1AF4));
    assert_eq!(writable(&mut space, 0x30), (0, 0), "no expansion ROM");
    assert_eq!(writable(&mut space, 0x3C), (0x0000_01FF, 0x0000_0100));
}

#[test]
fn a_type_1_header_has_closed_windows_and_none_for_ports() {
    let mut space = ConfigSpace::express();
    space.define_type1(&IDENTITY, 0, false);
    assert_eq!(space.read(0x0C), 0x0001_0000);
    assert_eq!(space.read(0x20), 0x0000_FFF0, "base above limit");
    assert_eq!(
        space.read(0x24),
        0x0001_FFF1,
        "base above limit, 64 bits wide"
    );
    assert_eq!(writable(&mut space, 0x18), (0x00FF_FFFF, 0));
    assert_eq!(writable(&mut space, 0x1C), (0, 0), "no I/O window");
    assert_eq!(writable(&mut space, 0x20), (0xFFF0_FFF0, 0));
    assert_eq!(writable(&mut space, 0x24), (0xFFF1_FFF1, 0x0001_0001));
    assert_eq!(writable(&mut space, 0x28), (u32::MAX, 0));
    assert_eq!(writable(&mut space, 0x2C), (u32::MAX, 0));
    assert_eq!(writable(&mut space, 0x30), (0, 0), "no upper I/O window");
    assert_eq!(writable(&mut space, 0x38), (0, 0), "no expansion ROM");
    assert_eq!(writable(&mut space, 0x3C), (0x0043_00FF, 0));
}

#[test]
fn conventional_functions_have_latency_timers_and_256_bytes() {
    let mut space = ConfigSpace::conventional();
    space.define_type1(&IDENTITY, 0, true);
    assert_eq!(writable(&mut space, 0x0C), (0x0001_F8FF, 0x0001_0000));
    assert_eq!(writable(&mut space, 0x18), (0xF8FF_FFFF, 0));
    assert_eq!(space.read(0xFC), 0);
    assert_eq!(space.read(0x100), u32::MAX);
    assert_eq!(
        ConfigSpace::express().read(0x100),
        0,
        "no extended capabilities"
    );
}

#[test]
fn written_ones_clear_and_masks_select_bytes() {
    let mut space = ConfigSpace::express();
    space.define(0x40, 0xFFFF_0000, 0x0000_FFFF);
    space.define_clearable(0x40, 0xFF00_0000);
    space.write(0x40, 0x8100_1234, 0xFF00_00FF);
    assert_eq!(space.read(0x40), 0x7EFF_0034);
    space.write(0x40, u32::MAX, 0x00FF_FF00);
    assert_eq!(space.read(0x40), 0x7EFF_FF34);
    space.reset();
    assert_eq!(space.read(0x40), 0xFFFF_0000);
}

#[test]
fn capabilities_are_chained_in_the_order_in_which_they_were_added() {
    let mut space = ConfigSpace::express();
    space.define_type0(&IDENTITY, 0);
    assert_eq!(space.read(4), 0, "no list yet");
    assert_eq!(space.add_capability(1, 0xABCD, 8), 0x40);
    assert_eq!(space.add_capability(5, 0, 14), 0x48);
    assert_eq!(space.add_capability(0x11, 0, 12), 0x58);
    assert_eq!(space.add_extended_capability(3, 1, 12), 0x100);
    assert_eq!(space.add_extended_capability(0x19, 1, 16), 0x10C);
    space.reset();
    assert_eq!(space.read(4), 0x0010_0000);
    assert_eq!(space.read(0x34), 0x40);
    assert_eq!(space.read(0x40), 0xABCD_4801);
    assert_eq!(space.read(0x48), 0x0000_5805);
    assert_eq!(space.read(0x58), 0x0000_0011);
    assert_eq!(space.read(0x100), 0x10C1_0003);
    assert_eq!(space.read(0x10C), 0x0001_0019);
}

proptest! {
    #[test]
    fn no_write_changes_what_is_neither_writable_nor_clearable(
        writes in prop::collection::vec((0u16..8192, any::<u32>(), any::<u32>()), 0..64),
    ) {
        let mut space = ConfigSpace::express();
        space.define_type1(&IDENTITY, 1, false);
        let fresh = space.clone();
        for (offset, value, mask) in writes {
            space.write(offset, value, mask);
        }
        for (index, register) in space.registers.iter().enumerate() {
            let fixed = !(register.writable | register.clearable);
            prop_assert_eq!(register.value & fixed, fresh.registers[index].value & fixed);
        }
        space.reset();
        for offset in (0..4096).step_by(4) {
            prop_assert_eq!(space.read(offset), fresh.read(offset));
        }
    }
}
