//! Interrupts of vectors that are on and were never unmasked: pending until they are (PCI local bus 3.0, 6.8.3.4).

use devices::lifecycle::{Device, Phases};

use super::Bench;
use super::device::*;
use super::interrupts::{ENABLE, fill, ready, ready_with, set_masked};
use super::resets::soon;
use crate::client::IrqType::{Msi as MsiIrq, Msix as MsixIrq};

const MASK_ALL: u32 = 1 << 30;

fn of_a_server() -> Bench {
    ready_with(Played::drive().of_a_server())
}

#[test]
fn what_comes_before_a_vector_was_ever_unmasked_is_pending() {
    let bench = of_a_server();
    bench.write(MSIX, ENABLE | MASK_ALL);
    assert!(bench.device.signal(MsixIrq, 5));
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 5);
    fill(&bench, 5);
    assert_eq!(bench.router.taken(5), 0, "the function is masked");
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.router.taken(5), 1);
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    for other in [0, 7] {
        fill(&bench, other);
        assert_eq!(bench.router.taken(other as usize), 0, "nothing came");
    }
}

#[test]
fn the_same_of_msi() {
    let bench = of_a_server();
    bench.write(MSI + 4, 0xFEE0_0000);
    bench.write(MSI + 16, 0b10);
    bench.write(MSI, 1 << 16 | 1 << 20);
    assert!(bench.device.signal(MsiIrq, 1));
    assert_eq!(bench.read(MSI + 20), 0b10);
    bench.write(MSI + 16, 0);
    assert_eq!(bench.router.taken(usize::from(VECTORS) + 1), 1);
    assert_eq!(bench.read(MSI + 20), 0);
}

/// Its kernel keeps them, and has no vector of the host for those that nobody uses.
#[test]
fn a_device_that_holds_them_itself_is_left_to_it() {
    let bench = ready();
    bench.write(MSIX, ENABLE | MASK_ALL);
    assert_eq!(bench.device.connected(), 0);
    fill(&bench, 2);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.connected(), 1);
}

#[test]
fn what_is_pending_ends_with_the_boot() {
    let bench = of_a_server();
    bench.write(MSIX, ENABLE);
    assert!(bench.device.signal(MsixIrq, 3));
    let ended = bench.function.shut_down(soon(), &mut Phases::default());
    ended.unwrap();
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    bench.enable();
    fill(&bench, 3);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.router.taken(3), 0);
}

/// A server may signal what it was told to forget.
#[test]
fn what_comes_after_the_type_was_turned_off_is_nobodys() {
    let bench = of_a_server();
    bench.write(MSIX, ENABLE);
    let late = bench.device.keep_signals();
    bench.write(MSIX, 0);
    late(3);
    set_masked(&bench, 3, true);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    fill(&bench, 3);
    assert_eq!(bench.router.taken(3), 0);
}

/// A vCPU waits for one answer.
#[test]
fn vectors_apart_are_one_request_to_a_server() {
    let bench = of_a_server();
    for vector in 0..u32::from(VECTORS) {
        fill(&bench, vector);
    }
    bench.write(MSIX, ENABLE);
    set_masked(&bench, 4, true);
    bench.device.take_calls();
    let all = [Call::Connect(MsixIrq, 0, vec![true; VECTORS.into()])];
    bench.write(MSIX, ENABLE | MASK_ALL);
    assert_eq!(bench.device.take_calls(), all);
    assert!(bench.device.signal(MsixIrq, 4) && bench.device.signal(MsixIrq, 6));
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.take_calls(), all);
    let taken = [3, 4, 6].map(|vector| bench.router.taken(vector));
    assert_eq!(taken, [0, 0, 1]);
    assert_eq!(bench.read_bar32(0, PENDING), 1 << 4);
    // Those that are untouched at the ends are left out.
    bench.device.take_calls();
    set_masked(&bench, 4, false);
    assert_eq!(
        bench.device.take_calls(),
        [Call::Connect(MsixIrq, 4, vec![true])]
    );
    assert_eq!(bench.router.taken(4), 1);
}
