//! A teardown ends with the state after power-on, whatever is written and signalled while it runs.

use devices::lifecycle::{Device, Phases};
use devices::pci::PciFunction;
use vm_memory::GuestAddress;

use super::device::*;
use super::interrupts::{ENABLE, fill};
use super::resets::soon;
use super::{Bench, COMMAND, MASTER, MEMORY};
use crate::client::IrqType::Msix as MsixIrq;

const ALL: u16 = 4096;

/// Everything that a guest can do to a function.
fn ravage(bench: &Bench) {
    for offset in (0..ALL).step_by(4) {
        let own = (0x40..0x100).contains(&offset) && !is_of_a_capability(offset);
        // Resets have tests of their own.
        if !own && offset != EXPRESS + 8 && offset != COMMAND {
            bench.write(offset, u32::MAX);
        }
    }
    bench.write(POWER + 4, 3);
    bench.write(POWER + 4, 0);
    bench.write16(COMMAND, (MEMORY | MASTER) as u16);
    bench.write(0x10, 0x9000_0000);
    for vector in 0..u32::from(VECTORS) {
        fill(bench, vector);
    }
    bench.write(MSIX, ENABLE);
    bench.function.placed(0, Some(GuestAddress(0x9000_0000)));
    // Masked, and pending.
    bench.write_bar32(0, TABLE + 12, 1);
    assert!(bench.device.signal(MsixIrq, 0));
    assert_eq!(bench.read_bar32(0, PENDING), 1);
    bench.write(POWER + 4, 3);
}

fn is_of_a_capability(offset: u16) -> bool {
    let inside = |at: u16, length| (at..at + length).contains(&offset);
    inside(POWER, 8) || inside(MSI, 24) || inside(EXPRESS, 0x3C) || inside(MSIX, 12)
}

fn assert_is_at_power_on(bench: &Bench) {
    let fresh = Bench::new();
    for offset in (0..ALL).step_by(4) {
        assert_eq!(bench.read(offset), fresh.read(offset), "{offset:#x}");
    }
    for at in (TABLE..TABLE + 16 * u64::from(VECTORS)).step_by(4) {
        assert_eq!(bench.read_bar32(0, at), fresh.read_bar32(0, at), "{at:#x}");
    }
    assert_eq!(bench.read_bar32(0, TABLE + 12), 1, "masked");
    assert_eq!(bench.read_bar32(0, PENDING), 0);
    assert_eq!(bench.function.decoded_bars(), []);
    assert_eq!(bench.mapper.now(), []);
    assert_eq!(bench.device.connected(), 0);
    assert!(!bench.line.is_connected());
    assert_eq!(bench.device.command(), MEMORY as u16);
    for vector in 0..VECTORS.into() {
        assert_eq!(bench.router.message(vector), None);
    }
    assert!(bench.function.is_quiet());
}

#[test]
fn registers_that_are_written_while_the_device_is_reset_are_at_power_on_in_the_end() {
    let bench = Bench::new();
    ravage(&bench);
    let (begun, go_on) = bench.device.hold_reset();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            bench
                .function
                .shut_down(soon(), &mut Phases::default())
                .unwrap();
        });
        begun.recv().unwrap();
        ravage(&bench);
        go_on.send(()).unwrap();
        ended.join().unwrap();
    });
    assert_is_at_power_on(&bench);
}

#[test]
fn signals_of_a_server_that_come_late_are_not_pending_in_the_next_boot() {
    let bench = Bench::of(
        Played::drive().of_a_server(),
        devices::pci::Attachment::Express,
    );
    ravage(&bench);
    let late = bench.device.keep_signals();
    let (begun, go_on) = bench.device.hold_reset();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = bench.function.shut_down(soon(), &mut Phases::default());
            ended.unwrap();
        });
        begun.recv().unwrap();
        late(0);
        go_on.send(()).unwrap();
    });
    assert_is_at_power_on(&bench);
}
