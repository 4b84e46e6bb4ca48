//! MSI: as many vectors as the guest turns on.

use std::sync::atomic::Ordering;

use devices::interrupt::MsiMessage;
use devices::lifecycle::{Device, Phases};
use devices::pci::Attachment;

use super::device::*;
use super::interrupts::{fill, ready, ready_with};
use super::resets::{soon, wait};
use super::{Bench, COMMAND, INTX_DISABLE, MASTER, MEMORY};
use crate::client::IrqType::{Intx, Msi as MsiIrq, Msix as MsixIrq};

const ENABLE: u32 = 1 << 16;
/// The first route of MSI: those of MSI-X are attached with the device.
const ROUTE: usize = VECTORS as usize;

/// A drive for which the host has no MSI-X.
fn without_msix() -> Played {
    Played::drive().with_irqs([1, 32, 0])
}

/// As Linux writes one message: masked and off, then the message, then on.
fn turn_on(bench: &Bench, data: u32) {
    bench.write(MSI, 0);
    bench.write(MSI + 16, u32::MAX);
    bench.write(MSI + 4, 0xFEE0_1000);
    bench.write(MSI + 8, 0);
    bench.write(MSI + 12, data);
    bench.write16(COMMAND, (MEMORY | MASTER | INTX_DISABLE) as u16);
    bench.write(MSI, ENABLE);
    bench.write(MSI + 16, 0);
}

#[test]
fn msi_has_as_many_vectors_as_the_guest_turns_on() {
    let bench = ready();
    assert_eq!(bench.router.attached(), usize::from(VECTORS));
    bench.write(MSI + 4, 0xFEE0_1000);
    bench.write(MSI + 8, 2);
    bench.write(MSI + 12, 0x61);
    // Of four vectors the last is masked.
    bench.write(MSI + 16, 1 << 3);
    assert_eq!(bench.device.take_calls(), []);
    bench.write(MSI, 1 << 16 | 2 << 20);
    let four = vec![true, true, true, false];
    assert_eq!(bench.device.take_calls(), [Call::Connect(MsiIrq, 0, four)]);
    let route = usize::from(VECTORS);
    let expected = MsiMessage {
        address: 0x2_FEE0_1000,
        data: 0x62,
    };
    assert_eq!(bench.router.message(route + 2), Some(expected));
    assert!(bench.device.signal(MsiIrq, 2));
    assert_eq!(bench.router.taken(route + 2), 1);

    bench.write(MSI + 16, 1 << 1);
    bench.device.signal(MsiIrq, 1);
    assert_eq!(bench.router.taken(route + 1), 0);
    assert_eq!(bench.read(MSI + 20), 1 << 1);
    bench.write(MSI + 16, 0);
    assert_eq!(bench.router.taken(route + 1), 1);
    assert_eq!(bench.read(MSI + 20), 0);
    bench.device.take_calls();

    // More of them at once than the device has are as many as it has.
    bench.write(MSI, 1 << 16 | 7 << 20);
    let calls = bench.device.take_calls();
    assert_eq!(calls[0], Call::Disconnect(MsiIrq));
    assert_eq!(calls[1], Call::Connect(MsiIrq, 0, vec![true; 32]));
    bench.write(MSI, 0);
    assert_eq!(bench.device.connected(), 0);
}

/// A guest never has more of MSI than the host says that there are: it asks for a power of two up to what is shown.
#[test]
fn msi_shows_no_more_vectors_than_the_host_has() {
    for (host, exponent) in [(1, 0), (2, 1), (5, 2), (31, 4), (32, 5), (64, 5)] {
        let device = Played::drive().with_irqs([1, host, 0]);
        let bench = Bench::of(device, Attachment::Express);
        assert_eq!(bench.read(MSI) >> 17 & 0b111, exponent, "of {host}");
        bench.enable();
        bench.write(MSI, 1 << 16 | exponent << 20);
        assert_eq!(bench.device.connected(), 1 << exponent);
    }
}

#[test]
fn a_drive_without_msix_interrupts_by_msi() {
    for device in [without_msix(), without_msix().of_a_server()] {
        let bench = Bench::of(device, Attachment::Express);
        assert_eq!(bench.read(MSIX), 0, "it is hidden");
        assert_eq!(bench.read(EXPRESS) as u16 >> 8, VENDOR_SPECIFIC);
        bench.enable();
        assert!(bench.line.is_connected());
        turn_on(&bench, 0x41);
        assert!(!bench.line.is_connected());
        assert!(bench.device.signal(MsiIrq, 0));
        let message = MsiMessage {
            address: 0xFEE0_1000,
            data: 0x41,
        };
        assert_eq!(bench.router.message(0), Some(message));
        assert_eq!(bench.router.taken(0), 1);
        bench.write(MSI, 0);
        assert!(!bench.device.signal(MsiIrq, 0));
        bench.enable();
        assert!(bench.device.signal(Intx, 0));
        assert!(bench.line.taken());
    }
}

#[test]
fn a_narrow_capability_has_its_data_behind_the_address() {
    // 32 bits, four vectors, no mask bits.
    let bench = ready_with(Played::drive().with(MSI + 2, &[0x04, 0]));
    assert_eq!(bench.read(MSI) >> 16, 0x0004);
    bench.write(MSI + 4, 0xFEE0_2003);
    bench.write(MSI + 8, 0xFFFF_0063);
    bench.write(MSI, ENABLE | 1 << 20);
    assert_eq!(bench.read(MSI + 4), 0xFEE0_2000);
    for vector in 0..2 {
        assert!(bench.device.signal(MsiIrq, vector));
        let route = ROUTE + vector as usize;
        assert_eq!(bench.router.taken(route), 1);
        let expected = MsiMessage {
            address: 0xFEE0_2000,
            data: 0x62 | vector,
        };
        assert_eq!(bench.router.message(route), Some(expected));
    }
    assert_eq!(bench.device.connected(), 2);
}

#[test]
fn a_message_that_changes_while_it_is_on_is_routed_and_nothing_is_connected_anew() {
    let bench = ready();
    turn_on(&bench, 0x41);
    bench.device.take_calls();
    bench.write(MSI + 12, 0x52);
    bench.write(MSI + 4, 0xFEE0_3000);
    bench.write(MSI + 8, 1);
    let expected = MsiMessage {
        address: 0x1_FEE0_3000,
        data: 0x52,
    };
    assert_eq!(bench.router.message(ROUTE), Some(expected));
    assert_eq!(bench.device.take_calls(), []);
    // Where the vector is masked, that waits until it is not.
    let changes = bench.router.changes.load(Ordering::Relaxed);
    bench.write(MSI + 16, 1);
    bench.write(MSI + 12, 0x63);
    bench.write(MSI + 4, 0xFEE0_4000);
    assert_eq!(bench.router.message(ROUTE), Some(expected));
    bench.device.signal(MsiIrq, 0);
    bench.write(MSI + 16, 0);
    assert_eq!(bench.router.changes.load(Ordering::Relaxed), changes + 1);
    assert_eq!(bench.router.message(ROUTE).unwrap().data, 0x63);
    assert_eq!(bench.router.taken(ROUTE), 1);
}

/// The device is told both; it does not send a message before it masters the bus.
#[test]
fn msi_is_turned_on_whether_the_function_masters_the_bus_or_not() {
    let bench = Bench::new();
    bench.write16(COMMAND, MEMORY as u16);
    bench.write(MSI, ENABLE);
    assert!(bench.device.signal(MsiIrq, 0));
    assert_eq!(bench.device.command(), MEMORY as u16);
    bench.device.take_calls();
    bench.write16(COMMAND, (MEMORY | MASTER) as u16);
    let command = Call::Command((MEMORY | MASTER) as u16);
    assert_eq!(bench.device.take_calls(), [command]);
}

#[test]
fn of_both_kinds_of_message_msix_is_the_one_that_is_on() {
    let bench = ready();
    turn_on(&bench, 0x41);
    fill(&bench, 0);
    bench.device.take_calls();
    bench.write(MSIX, 1 << 31);
    let calls = bench.device.take_calls();
    assert_eq!(calls[0], Call::Disconnect(MsiIrq));
    assert!(bench.device.signal(MsixIrq, 0) && !bench.device.signal(MsiIrq, 0));
    bench.write(MSIX, 0);
    assert!(bench.device.signal(MsiIrq, 0));
    assert_eq!((bench.router.taken(ROUTE), bench.router.taken(0)), (1, 1));
}

#[test]
fn msi_is_off_after_a_reset_and_a_teardown() {
    let bench = ready();
    let resets: [&dyn Fn(); 2] = [
        &|| {
            bench.write(EXPRESS + 8, 1 << 15);
            wait(&bench);
        },
        &|| {
            let ended = bench.function.shut_down(soon(), &mut Phases::default());
            ended.unwrap();
            assert_eq!(bench.router.message(ROUTE), None);
        },
    ];
    for reset in resets {
        turn_on(&bench, 0x41);
        bench.write(MSI + 16, 1);
        bench.device.signal(MsiIrq, 0);
        reset();
        assert_eq!(bench.device.connected(), 0);
        let registers = [0, 4, 8, 12, 16, 20].map(|at| bench.read(MSI + at));
        assert_eq!(registers, [0x018A_7005, 0, 0, 0, 0, 0]);
        turn_on(&bench, 0x42);
        assert_eq!(bench.router.taken(ROUTE), 0, "what was pending is gone");
        assert!(bench.device.signal(MsiIrq, 0));
        assert_eq!(bench.router.taken(ROUTE), 1);
    }
    let attached = usize::from(VECTORS) + 32;
    assert_eq!(bench.router.attached(), attached, "once for all boots");
    bench.function.release();
    assert_eq!(bench.router.detached.load(Ordering::Relaxed), attached);
}
