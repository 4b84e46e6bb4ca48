//! BARs: sized, moved, mapped into the guest, and accessed where they are not.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::{Address, Attachment, Bus, DevFn, Node, PciFunction, RootComplex};
use vm_memory::GuestAddress;

use super::device::*;
use super::machine::Mapped;
use super::{Bench, COMMAND, MASTER, MEMORY};
use crate::client::Area;
use crate::function::windows::pieces;

const PLACE: u8 = 1;
const BAR0: u64 = 0x80_0000_0000;
const BAR3: u64 = 0xC010_0000;

fn root(bench: &Bench) -> RootComplex {
    let devfn = DevFn::new(PLACE, 0).unwrap();
    let node = Node::endpoint("drive0", devfn, bench.function.clone());
    let windows: Vec<RangeInclusive<u64>> =
        vec![0xC000_0000..=0xDFFF_FFFF, 0x80_0000_0000..=0xFF_FFFF_FFFF];
    RootComplex::new(Arc::new(Bus::root(vec![node]).unwrap()), windows)
}

fn write(root: &RootComplex, offset: u16, value: u32) {
    let devfn = DevFn::new(PLACE, 0).unwrap();
    root.write_config(Address { bus: 0, devfn }, offset, value, u32::MAX);
}

/// What a driver's kernel does: addresses, then decoding and mastering.
fn program(root: &RootComplex, bar0: u64) {
    write(root, COMMAND, 0);
    write(root, 0x10, bar0 as u32);
    write(root, 0x14, (bar0 >> 32) as u32);
    write(root, 0x1C, BAR3 as u32);
    write(root, 0x20, 0xC020_0000);
    write(root, COMMAND, MEMORY | MASTER);
}

#[test]
fn bars_are_sized_as_the_devices_are() {
    let bench = Bench::new();
    let size = |at| {
        bench.write(at, u32::MAX);
        bench.read(at)
    };
    assert_eq!((size(0x10), size(0x14)), (0xFFFF_C004, u32::MAX));
    assert_eq!(size(0x18), 0, "an I/O BAR is hidden");
    assert_eq!(size(0x1C), 0xFFFF_0008, "prefetchable");
    assert_eq!(size(0x20), 0xFFFF_FF00);
    assert_eq!(size(0x24), 0);
    assert_eq!(size(0x30), 0, "no expansion ROM");
}

#[test]
fn parts_that_can_be_mapped_are_where_the_guest_has_their_bar() {
    let bench = Bench::new();
    let root = root(&bench);
    assert_eq!(bench.device.maps.load(Ordering::Relaxed), 2);
    program(&root, BAR0);
    // Without the pages of the MSI-X table and the pending bits.
    assert_eq!(bench.mapper.now(), [(BAR3, 0x1_0000), (BAR0, 0x2000)]);
    bench.mapper.take_calls();
    program(&root, BAR0 + 0x10_0000);
    let moved = bench.mapper.take_calls();
    let away = |call: &Mapped| matches!(call, Mapped::Gone(..));
    assert!(moved[..2].iter().all(away), "{moved:?}");
    assert!(!moved[2..].iter().any(away), "{moved:?}");
    assert_eq!(
        bench.mapper.now(),
        [(BAR3, 0x1_0000), (BAR0 + 0x10_0000, 0x2000)]
    );
    write(&root, COMMAND, MASTER);
    assert_eq!(bench.mapper.now(), []);
    assert_eq!(bench.device.maps.load(Ordering::Relaxed), 2, "mapped once");
}

#[test]
fn a_teardown_takes_them_out_and_the_next_boot_puts_them_elsewhere() {
    let bench = Bench::new();
    let root = root(&bench);
    program(&root, BAR0);
    let by = Deadline::after(std::time::Duration::from_secs(20));
    bench
        .function
        .shut_down(by, &mut Phases::default())
        .unwrap();
    assert_eq!(bench.mapper.now(), []);
    bench.mapper.take_calls();
    root.reset();
    assert_eq!(root.placed(), []);
    assert_eq!(bench.mapper.take_calls(), []);
    program(&root, BAR0 + 0x4000);
    assert_eq!(
        bench.mapper.now(),
        [(BAR3, 0x1_0000), (BAR0 + 0x4000, 0x2000)]
    );
    assert_eq!(bench.device.maps.load(Ordering::Relaxed), 2);
}

#[test]
fn a_device_that_goes_leaves_the_guest_when_bars_are_placed_anew() {
    let bench = Bench::new();
    let root = root(&bench);
    program(&root, BAR0);
    bench.function.lose();
    root.place();
    assert_eq!(bench.mapper.now(), []);
    let mut data = [0; 4];
    assert!(!root.read(GuestAddress(BAR0), &mut data));
    assert_eq!(data, [0xFF; 4]);
}

#[test]
fn what_cannot_be_mapped_is_accessed_as_wide_as_the_guest_does() {
    let device = Played::drive();
    device.cannot_map.store(true, Ordering::Relaxed);
    let bench = Bench::of(device, Attachment::Express);
    let root = root(&bench);
    program(&root, BAR0);
    assert_eq!(bench.mapper.now(), []);
    bench.device.take_calls();
    bench.device.reads.lock().unwrap().clear();
    let mut eight = [0; 8];
    assert!(root.read(GuestAddress(BAR0 + 0x10), &mut eight));
    assert_eq!(u64::from_le_bytes(eight), 0x1716_1514_1312_1110);
    let mut two = [0; 2];
    root.read(GuestAddress(BAR3 + 6), &mut two);
    // Not aligned: by the parts that are.
    let mut four = [0; 4];
    root.read(GuestAddress(BAR0 + 0x21), &mut four);
    assert_eq!(four, [0x21, 0x22, 0x23, 0x24]);
    let reads = bench.device.reads.lock().unwrap().clone();
    let expected = [
        (0, 0x10, 8),
        (3, 6, 2),
        (0, 0x21, 1),
        (0, 0x22, 2),
        (0, 0x24, 1),
    ];
    assert_eq!(reads, expected);
    root.write(GuestAddress(BAR0 + 0x1000), &[1, 0, 0, 0]);
    root.write(GuestAddress(BAR3 + 9), &[7]);
    let expected = [
        Call::Write(0, 0x1000, vec![1, 0, 0, 0]),
        Call::Write(3, 9, vec![7]),
    ];
    assert_eq!(bench.device.take_calls(), expected);
}

#[test]
fn a_machine_without_room_for_a_mapping_leaves_the_bar_to_exits() {
    let bench = Bench::new();
    let root = root(&bench);
    bench.mapper.refuses.store(true, Ordering::Relaxed);
    program(&root, BAR0);
    let mut data = [0; 4];
    assert!(root.read(GuestAddress(BAR0 + 4), &mut data));
    assert_eq!(data, [4, 5, 6, 7]);
    write(&root, COMMAND, 0);
    assert_eq!(bench.mapper.take_calls(), []);
}

#[test]
fn pages_are_cut_out_of_areas() {
    let area = |offset, size| Area { offset, size };
    let cut = |areas: &[Area], cut| pieces(areas, &[cut], 0x1_0000);
    let whole = [area(0, 0x1_0000)];
    assert_eq!(
        cut(&whole, 0x2000..0x3000),
        [area(0, 0x2000), area(0x3000, 0xD000)]
    );
    assert_eq!(cut(&whole, 0..0x1000), [area(0x1000, 0xF000)]);
    assert_eq!(cut(&whole, 0..0x1_0000), []);
    assert_eq!(
        cut(&[area(0x4000, 0x1000)], 0..0x1000),
        [area(0x4000, 0x1000)]
    );
    // What a server says that does not know how large its BAR is.
    let lies = [
        area(0x800, 0x1000),
        area(0x8000, 0x1_0000),
        area(!0xFFF_u64, 0x2000),
    ];
    assert_eq!(cut(&lies, 0..0x1000), []);
}

#[test]
fn a_read_that_nobody_answers_ends_the_device_for_this_boot() {
    let bench = Bench::new();
    bench.enable();
    bench.device.refuses.lock().unwrap().push(Refusal::Read);
    assert_eq!(bench.read_bar32(0, 0x10), u32::MAX);
    assert_eq!(bench.read(0), u32::MAX);
    assert_eq!(bench.function.decoded_bars(), []);
}

#[test]
fn a_mapping_that_the_machine_does_not_take_away_stays_the_only_one() {
    let bench = Bench::new();
    let root = root(&bench);
    program(&root, BAR0);
    bench.mapper.keeps.store(true, Ordering::Relaxed);
    program(&root, BAR0 + 0x10_0000);
    assert_eq!(bench.mapper.now(), [(BAR3, 0x1_0000), (BAR0, 0x2000)]);
    // Accesses at the new place reach the device.
    let mut data = [0; 2];
    assert!(root.read(GuestAddress(BAR0 + 0x10_0002), &mut data));
    assert_eq!(data, [2, 3]);
    bench.function.release();
    assert_eq!(bench.mapper.now().len(), 2);
    bench.mapper.keeps.store(false, Ordering::Relaxed);
    bench.function.release();
    assert_eq!(bench.mapper.now(), []);
}

/// What is mapped of a device that was gone is nothing by now.
#[test]
fn a_mapping_that_was_given_up_is_never_put_into_the_guest_again() {
    let bench = Bench::new();
    let root = root(&bench);
    program(&root, BAR0);
    bench.mapper.keeps.store(true, Ordering::Relaxed);
    bench.device.set_gone(true);
    let by = Deadline::after(std::time::Duration::from_secs(20));
    let ended = bench.function.shut_down(by, &mut Phases::default());
    ended.unwrap();
    root.reset();
    assert_eq!(bench.mapper.now(), [(BAR3, 0x1_0000), (BAR0, 0x2000)]);
    bench.mapper.keeps.store(false, Ordering::Relaxed);
    program(&root, BAR0);
    let anew = [(BAR3, 0x1_0000), (BAR0, 0x2000)];
    assert_eq!(bench.mapper.now(), anew);
    let calls = bench.mapper.take_calls();
    let puts = calls.iter().filter(|call| matches!(call, Mapped::At(..)));
    assert_eq!(puts.count(), 4, "each once of either device: {calls:x?}");
    assert_eq!(bench.device.maps.load(Ordering::Relaxed), 4);
}
