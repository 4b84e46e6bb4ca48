//! Resets: of the guest's asking, and in a teardown.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::guest_acts::Act;
use devices::lifecycle::{Deadline, Device, Phases, ShutdownError};
use devices::pci::{Attachment, Decode, PciFunction};

use super::device::*;
use super::{Bench, COMMAND, MASTER, MEMORY};
use crate::client::IrqType::{Intx, Msix as MsixIrq};

const FLR: u32 = 1 << 15;
const ENABLE: u32 = 1 << 31;

pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Waits until the guest sees the device again.
pub(super) fn wait(bench: &Bench) {
    let by = Instant::now() + Duration::from_secs(20);
    while bench.read(0) == u32::MAX {
        assert!(Instant::now() < by, "it does not come back");
        std::thread::yield_now();
    }
}

pub(super) fn names(phases: &Phases) -> Vec<&'static str> {
    phases.as_slice().iter().map(|phase| phase.name).collect()
}

/// A driver at work: BARs placed, a vector open.
pub(super) fn at_work() -> Bench {
    let bench = Bench::new();
    bench.enable();
    bench.write(0x10, 0x8000_0000);
    bench
        .function
        .placed(0, Some(vm_memory::GuestAddress(0x8000_0000)));
    bench.write_bar32(0, TABLE + 12, 0);
    bench.write(MSIX, ENABLE);
    bench.device.take_calls();
    bench
}

#[test]
fn a_function_level_reset_holds_no_vcpu_up_and_reads_all_ones_meanwhile() {
    let bench = at_work();
    let (begun, go_on) = bench.device.hold_reset();
    let write = bench.function.write_config(EXPRESS + 8, FLR, u32::MAX);
    assert_eq!(write, Decode::Changed);
    begun.recv().unwrap();
    assert_eq!(bench.read(0), u32::MAX);
    assert_eq!(bench.read_bar32(0, 0), u32::MAX);
    assert_eq!(bench.function.decoded_bars(), []);
    assert_eq!(bench.mapper.now(), [], "before the device is reset");
    bench.write16(COMMAND, (MEMORY | MASTER) as u16);
    // A second one finds the device in reset.
    bench.function.bus_reset();
    go_on.send(()).unwrap();
    wait(&bench);
    let calls = bench.device.take_calls();
    let expected = [
        Call::Command(MEMORY as u16),
        Call::Disconnect(MsixIrq),
        Call::Reset,
        Call::Command(MEMORY as u16),
    ];
    assert_eq!(calls, expected);
    assert_eq!(bench.read(COMMAND) as u16, 0);
    assert_eq!(bench.read(0x10), 4, "no address");
    assert_eq!(bench.read(MSIX) & ENABLE, 0);
    assert_eq!(bench.read_bar32(0, TABLE + 12), 1);
    assert_eq!(bench.device.command(), MEMORY as u16);
    let acts = bench.function.guest_acts();
    assert_eq!(acts.of(Act::FunctionReset).unwrap().count, 1);
    assert!(bench.function.is_quiet());
    bench.enable();
    assert_eq!(bench.device.command(), (MEMORY | MASTER) as u16);
    assert!(!bench.function.is_quiet());
}

#[test]
fn a_reset_of_the_bus_above_does_the_same() {
    let bench = at_work();
    bench.function.bus_reset();
    wait(&bench);
    assert!(bench.device.take_calls().contains(&Call::Reset));
    assert!(
        bench.function.guest_acts().is_empty(),
        "noted by the bridge"
    );
}

#[test]
fn a_teardown_quiesces_resets_and_re_arms() {
    let bench = at_work();
    assert!(!bench.function.is_quiet());
    let mut phases = Phases::default();
    bench.function.shut_down(soon(), &mut phases).unwrap();
    assert_eq!(names(&phases), ["quiesce", "reset", "re-arm"]);
    let expected = [
        Call::Bound(true),
        Call::Command(MEMORY as u16),
        Call::Disconnect(MsixIrq),
        Call::Reset,
        Call::Command(MEMORY as u16),
        Call::Bound(false),
    ];
    assert_eq!(bench.device.take_calls(), expected);
    assert!(bench.function.is_quiet());
    assert_eq!(bench.device.connected(), 0);
    assert_eq!(bench.router.message(0), None);
    assert_eq!(bench.mapper.now(), []);
    assert_eq!(bench.read(COMMAND) as u16, 0);
    assert_eq!(bench.read(MSIX) & ENABLE, 0);
    assert_eq!(bench.router.detached.load(Ordering::Relaxed), 0);
    // The next boot finds it as the first one did.
    bench.write_bar32(0, TABLE + 12, 0);
    bench.enable();
    bench.write(MSIX, ENABLE);
    assert!(bench.device.signal(MsixIrq, 0));
    assert_eq!(bench.router.taken(0), 1);
}

#[test]
fn a_teardown_takes_the_pin_off_its_line() {
    let bench = Bench::new();
    bench.enable();
    assert!(bench.line.is_connected());
    bench
        .function
        .shut_down(soon(), &mut Phases::default())
        .unwrap();
    assert!(!bench.line.is_connected());
    assert!(!bench.device.signal(Intx, 0));
    assert_eq!(bench.line.connects.load(Ordering::Relaxed), 1);
}

#[test]
fn a_teardown_waits_for_a_reset_of_the_guests_within_its_deadline() {
    let bench = at_work();
    let (begun, go_on) = bench.device.hold_reset();
    bench.function.bus_reset();
    begun.recv().unwrap();
    let passed = Deadline::after(Duration::ZERO);
    let mut phases = Phases::default();
    let late = bench.function.shut_down(passed, &mut phases);
    assert!(matches!(late, Err(ShutdownError::DeadlinePassed { .. })));
    assert_eq!(names(&phases), ["guest-reset"]);
    assert!(bench.function.is_quiet(), "its mastering is off");
    go_on.send(()).unwrap();
    bench
        .function
        .shut_down(soon(), &mut Phases::default())
        .unwrap();
    assert!(bench.function.is_quiet());
    assert_eq!(bench.read(0), 0xA808_144D);
}

#[test]
fn a_host_that_says_try_again_is_asked_again() {
    let bench = at_work();
    let errors = [libc::EAGAIN, libc::EAGAIN];
    bench.device.reset_errors.lock().unwrap().extend(errors);
    bench
        .function
        .shut_down(soon(), &mut Phases::default())
        .unwrap();
    let calls = bench.device.take_calls();
    let resets = calls.iter().filter(|call| **call == Call::Reset);
    assert_eq!(resets.count(), 3);
    // But not beyond the deadline.
    bench.device.reset_errors.lock().unwrap().push(libc::EAGAIN);
    let passed = Deadline::after(Duration::ZERO);
    let late = bench.function.shut_down(passed, &mut Phases::default());
    assert!(matches!(late, Err(ShutdownError::Host { source, .. })
        if source.raw_os_error() == Some(libc::EAGAIN)));
}

#[test]
fn a_device_whose_reset_fails_is_quiet_if_its_mastering_went_off() {
    let bench = at_work();
    bench.device.reset_errors.lock().unwrap().push(libc::EIO);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    let failure = failed.unwrap_err();
    assert!(matches!(&failure, ShutdownError::Host { .. }), "{failure}");
    assert!(failure.to_string().contains("resetting it"), "{failure}");
    assert!(bench.function.is_quiet());
    assert_eq!(bench.read(0), u32::MAX);

    let bench = at_work();
    bench.device.stays_master.store(true, Ordering::Relaxed);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    let failure = failed.unwrap_err().to_string();
    assert!(failure.contains("bus mastering"), "{failure}");
    assert!(!bench.function.is_quiet());
}

#[test]
fn a_device_that_was_gone_is_brought_back_and_mapped_anew() {
    let bench = at_work();
    bench.device.set_gone(true);
    assert_eq!(bench.read(0), u32::MAX);
    bench.device.take_calls();
    let mut phases = Phases::default();
    bench.function.shut_down(soon(), &mut phases).unwrap();
    assert_eq!(names(&phases), ["revive", "quiesce", "reset", "re-arm"]);
    let calls = bench.device.take_calls();
    assert_eq!(calls[1], Call::Revive);
    let maps = calls.iter().filter(|call| matches!(call, Call::Map(..)));
    assert_eq!(maps.count(), 2);
    assert_eq!(bench.read(0), 0xA808_144D);

    bench.device.set_gone(true);
    bench.device.cannot_revive.store(true, Ordering::Relaxed);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    let failure = failed.unwrap_err().to_string();
    assert!(failure.contains("unplugged"), "{failure}");
    assert!(bench.function.is_quiet());
}

#[test]
fn what_the_host_gave_is_given_back_once() {
    let bench = at_work();
    bench.function.release();
    assert_eq!(bench.mapper.now(), []);
    assert_eq!(bench.device.connected(), 0);
    let detached = || bench.router.detached.load(Ordering::Relaxed);
    assert_eq!(detached(), usize::from(VECTORS));
    bench.function.release();
    assert_eq!(detached(), usize::from(VECTORS));
}

#[test]
fn a_conventional_function_resets_by_its_advanced_features() {
    let device = Played::drive()
        .with(VENDOR_SPECIFIC + 1, &[0xD0])
        .with(0xD0, &[0x13, 0, 6, 3]);
    let bench = Bench::of(device, Attachment::Conventional);
    assert_eq!(bench.read(0xD0), 0x0306_0013);
    let write = bench.function.write_config(0xD4, 1, 0xFF);
    assert_eq!(write, Decode::Changed);
    wait(&bench);
    assert!(bench.device.take_calls().contains(&Call::Reset));
}

#[test]
fn interrupts_that_cannot_be_turned_off_fail_the_teardown() {
    let bench = at_work();
    bench
        .device
        .refuses
        .lock()
        .unwrap()
        .push(Refusal::Disconnect);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    assert!(failed.is_err());
    assert_eq!(bench.device.connected(), 1);
    bench
        .function
        .shut_down(soon(), &mut Phases::default())
        .unwrap();
    assert_eq!(bench.device.connected(), 0);
}
