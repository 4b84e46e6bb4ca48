//! MSI-X and the pin, as a guest's driver turns them on and off.

use devices::interrupt::MsiMessage;
use devices::pci::{Attachment, PciFunction};

use super::device::*;
use super::{Bench, COMMAND, INTX_DISABLE, MASTER, MEMORY};
use crate::client::IrqType::{Intx, Msix as MsixIrq};

pub(super) const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;

pub(super) fn message(vector: u32) -> MsiMessage {
    MsiMessage {
        address: 0x1_FEE0_0000,
        data: 0x40 + vector,
    }
}

/// Fills a table entry, and unmasks it.
pub(super) fn fill(bench: &Bench, vector: u32) {
    let at = TABLE + u64::from(vector) * 16;
    bench.write_bar32(0, at, 0xFEE0_0000);
    bench.write_bar32(0, at + 4, 1);
    bench.write_bar32(0, at + 8, 0x40 + vector);
    bench.write_bar32(0, at + 12, 0);
}

pub(super) fn set_masked(bench: &Bench, vector: u32, masked: bool) {
    let at = TABLE + u64::from(vector) * 16 + 12;
    bench.write_bar32(0, at, masked.into());
}

/// With bus mastering, and no pin in the way.
pub(super) fn ready() -> Bench {
    ready_with(Played::drive())
}

pub(super) fn ready_with(device: Played) -> Bench {
    let bench = Bench::of(device, Attachment::Express);
    bench.write16(COMMAND, (MEMORY | MASTER | INTX_DISABLE) as u16);
    bench.device.take_calls();
    bench
}

#[test]
fn msix_is_turned_on_by_one_call_for_the_vectors_that_are_unmasked() {
    let bench = ready();
    fill(&bench, 0);
    fill(&bench, 2);
    assert_eq!(bench.device.take_calls(), [], "MSI-X is off");
    bench.write(MSIX, ENABLE);
    let mut present = vec![false; VECTORS.into()];
    (present[0], present[2]) = (true, true);
    assert_eq!(
        bench.device.take_calls(),
        [Call::Connect(MsixIrq, 0, present)]
    );
    assert_eq!(bench.router.message(2), Some(message(2)));
    assert_eq!(bench.router.message(1), None);
    assert!(bench.device.signal(MsixIrq, 2));
    assert!(!bench.device.signal(MsixIrq, 1), "never unmasked");
    assert_eq!((bench.router.taken(2), bench.router.taken(0)), (1, 0));
    assert_eq!(
        bench.read(MSIX),
        ENABLE | 7 << 16 | 0x11 | u32::from(VENDOR_SPECIFIC) << 8
    );
    bench.write(MSIX, 0);
    assert_eq!(bench.device.take_calls(), [Call::Disconnect(MsixIrq)]);
    assert!(!bench.device.signal(MsixIrq, 2));
}

#[test]
fn as_linux_does_it() {
    let bench = ready();
    bench.write(MSIX, ENABLE | MASK_ALL);
    let none = vec![false; VECTORS.into()];
    assert_eq!(bench.device.take_calls(), [Call::Connect(MsixIrq, 0, none)]);
    for vector in 0..u32::from(VECTORS) {
        set_masked(&bench, vector, true);
    }
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.take_calls(), []);
    fill(&bench, 1);
    let one = Call::Connect(MsixIrq, 1, vec![true]);
    assert_eq!(bench.device.take_calls(), [one]);
    fill(&bench, 0);
    let first = Call::Connect(MsixIrq, 0, vec![true]);
    assert_eq!(bench.device.take_calls(), [first]);
}

#[test]
fn an_interrupt_that_comes_while_its_vector_is_masked_is_pending_and_fires_once() {
    let bench = ready();
    fill(&bench, 3);
    bench.write(MSIX, ENABLE);
    bench.device.take_calls();
    set_masked(&bench, 3, true);
    assert_eq!(
        bench.device.take_calls(),
        [Call::Connect(MsixIrq, 3, vec![true])]
    );
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    assert!(bench.device.signal(MsixIrq, 3));
    assert!(bench.device.signal(MsixIrq, 3));
    assert_eq!(bench.router.taken(3), 0);
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 3);
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 3, "read twice");
    set_masked(&bench, 3, false);
    assert_eq!(bench.router.taken(3), 1);
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    assert!(bench.device.signal(MsixIrq, 3));
    assert_eq!(bench.router.taken(3), 1);
    // Nothing came while it was masked: nothing fires.
    set_masked(&bench, 3, true);
    set_masked(&bench, 3, false);
    assert_eq!(bench.router.taken(3), 0);
}

#[test]
fn what_was_pending_is_forgotten_where_the_type_is_turned_off() {
    let bench = ready();
    fill(&bench, 3);
    bench.write(MSIX, ENABLE);
    set_masked(&bench, 3, true);
    bench.device.signal(MsixIrq, 3);
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 3);
    bench.write(MSIX, 0);
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    bench.write(MSIX, ENABLE);
    assert_eq!(
        bench.device.connected(),
        0,
        "masked, and not in use any more"
    );
    set_masked(&bench, 3, false);
    assert_eq!(bench.router.taken(3), 0);
}

#[test]
fn the_whole_function_is_masked_and_unmasked_by_a_call_each() {
    let bench = ready();
    for vector in [0, 1, 2, 3, 6] {
        fill(&bench, vector);
    }
    bench.write(MSIX, ENABLE);
    set_masked(&bench, 1, true);
    bench.device.take_calls();
    bench.write(MSIX, ENABLE | MASK_ALL);
    // Vector 1 is held already and is left alone; 4 and 5 have nobody.
    let calls = [
        Call::Connect(MsixIrq, 0, vec![true]),
        Call::Connect(MsixIrq, 2, vec![true, true, false, false, true]),
    ];
    assert_eq!(bench.device.take_calls(), calls);
    bench.device.signal(MsixIrq, 2);
    bench.device.signal(MsixIrq, 1);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.take_calls(), calls);
    assert_eq!((bench.router.taken(2), bench.router.taken(1)), (1, 0));
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 1);
}

#[test]
fn a_message_that_changes_is_routed_before_its_vector_is_open() {
    let bench = ready();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    let changes = bench
        .router
        .changes
        .load(std::sync::atomic::Ordering::Relaxed);
    set_masked(&bench, 0, true);
    bench.write_bar32(0, TABLE + 8, 0x77);
    assert_eq!(bench.router.message(0), Some(message(0)), "still masked");
    set_masked(&bench, 0, false);
    assert_eq!(bench.router.message(0).unwrap().data, 0x77);
    let now = bench
        .router
        .changes
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(now, changes + 1);
}

#[test]
fn the_table_and_the_pending_bits_never_reach_the_device() {
    let bench = ready();
    bench.function.write_bar(0, PENDING, &[0xFF; 8]);
    bench.function.write_bar(0, TABLE - 4, &[0xFF; 8]);
    bench.function.write_bar(0, TABLE, &[0xFF; 8]);
    assert_eq!(bench.device.take_calls(), []);
    let mut across = [0; 8];
    bench.function.read_bar(0, TABLE - 4, &mut across);
    assert_eq!(across, [0xFF; 8]);
    assert_eq!(bench.read_bar32(0, TABLE), 0xFFFF_FFFC);
    assert_eq!(bench.read_bar32(0, TABLE + 12), 1, "masked at power-on");
    let mut reads = bench.device.reads.lock().unwrap().clone();
    reads.retain(|(region, ..)| *region == 0);
    assert_eq!(reads, []);
}

#[test]
fn the_pin_asserts_its_line_until_the_guest_ends_the_interrupt() {
    let bench = Bench::new();
    assert!(!bench.line.is_connected(), "no driver yet");
    bench.device.take_calls();
    bench.enable();
    assert!(bench.line.is_connected());
    let calls = [
        Call::Command((MEMORY | MASTER) as u16),
        Call::Connect(Intx, 0, vec![true]),
        Call::UnmaskBy(true),
    ];
    assert_eq!(bench.device.take_calls(), calls);
    assert!(bench.device.signal(Intx, 0));
    assert!(bench.line.taken());
    bench.line.end();
    let unmask = bench.device.unmask_by.lock().unwrap().clone().unwrap();
    assert_eq!(unmask.read().unwrap(), 1);

    bench.write16(COMMAND, (MEMORY | MASTER | INTX_DISABLE) as u16);
    assert!(!bench.line.is_connected());
    assert!(!bench.device.signal(Intx, 0));
    bench.enable();
    assert!(bench.line.is_connected());
    // The device has one kind of interrupt at a time.
    bench.write(MSIX, ENABLE);
    assert!(!bench.line.is_connected());
    bench.write(MSIX, 0);
    assert!(bench.line.is_connected());
}

/// Interrupts of the pin are no transactions of the function's own (PCI local bus 3.0, 6.2.2).
#[test]
fn the_pin_needs_no_bus_mastering() {
    let bench = Bench::new();
    bench.write16(COMMAND, MEMORY as u16);
    assert!(bench.line.is_connected());
    assert!(bench.device.signal(Intx, 0));
    assert!(bench.line.taken());
    bench.write16(COMMAND, (MEMORY | INTX_DISABLE) as u16);
    assert!(!bench.line.is_connected());
    bench.write16(COMMAND, MASTER as u16);
    assert!(bench.line.is_connected());
    // Nor is there one in D3hot, or while the function decodes nothing and masters nothing.
    bench.write(POWER + 4, 3);
    assert!(!bench.line.is_connected());
    bench.write(POWER + 4, 0);
    assert!(bench.line.is_connected());
    bench.write16(COMMAND, 0);
    assert!(!bench.line.is_connected());
}

#[test]
fn nobody_waits_for_a_call_but_those_who_change_interrupts() {
    let bench = ready();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    bench.device.take_calls();
    let (begun, go_on) = bench.device.hold_connect();
    std::thread::scope(|scope| {
        scope.spawn(|| fill(&bench, 1));
        begun.recv().unwrap();
        assert_eq!(bench.read(0), 0xA808_144D);
        assert_eq!(bench.read(MSIX) & ENABLE, ENABLE);
        assert_eq!(bench.read_bar32(0, PENDING), 0);
        assert_eq!(bench.read_bar32(0, TABLE + 16 + 12), 0);
        bench.write_bar32(0, 0, 7);
        assert!(bench.device.signal(MsixIrq, 0));
        assert_eq!(bench.router.taken(0), 1);
        // Two more change, and are settled after it.
        scope.spawn(|| fill(&bench, 2));
        scope.spawn(|| set_masked(&bench, 0, true));
        go_on.send(()).unwrap();
    });
    for (vector, arrives) in [(0, 0), (1, 1), (2, 1)] {
        assert!(bench.device.signal(MsixIrq, vector));
        assert_eq!(bench.router.taken(vector as usize), arrives);
    }
    assert_eq!(bench.read_bar32(0, PENDING), 1);
}

#[test]
fn vectors_that_the_host_does_not_have_stay_without_a_signal() {
    let device = Played::drive().with_irqs([0, 0, 2]);
    let bench = Bench::of(device, Attachment::Express);
    bench.enable();
    assert!(!bench.line.is_connected());
    assert_eq!(bench.read(0x3C), 0, "no pin");
    for vector in 0..4 {
        fill(&bench, vector);
    }
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.connected(), 2);
    assert_eq!(bench.router.attached(), 2);
    assert_eq!(bench.read_bar32(0, TABLE + 3 * 16 + 8), 0x43);
    assert_eq!(bench.read(MSI), 0, "no MSI");
}
