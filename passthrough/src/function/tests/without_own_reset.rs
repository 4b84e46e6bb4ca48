//! Devices that are reset with others, or not at all.

use std::sync::atomic::Ordering;

use devices::lifecycle::{Device, Phases};
use devices::pci::{Attachment, PciFunction};

use super::device::*;
use super::resets::{names, soon, wait};
use super::{Bench, COMMAND, MEMORY};

const ENABLE: u32 = 1 << 31;

/// The guest is shown no function level reset where others would be reset too.
#[test]
fn a_device_that_is_reset_with_others_is_reset_in_a_teardown() {
    let device = Played::drive().with_resets(Resets::WithOthers);
    let bench = Bench::of(device, Attachment::Express);
    assert_eq!(bench.read(EXPRESS + 4) & 1 << 28, 0);
    let mut phases = Phases::default();
    bench.function.shut_down(soon(), &mut phases).unwrap();
    assert_eq!(names(&phases), ["quiesce", "reset", "re-arm"]);
    assert!(bench.device.take_calls().contains(&Call::Reset));
}

#[test]
fn a_device_that_has_no_reset_is_quiesced_and_re_armed() {
    let device = Played::drive().with_resets(Resets::Never);
    let bench = Bench::of(device, Attachment::Express);
    assert_eq!(bench.read(EXPRESS + 4) & 1 << 28, 0);
    bench.enable();
    bench.write_bar32(0, TABLE + 12, 0);
    bench.write(MSIX, ENABLE);
    // Neither is a bus reset of the guest's asking a failure.
    bench.function.bus_reset();
    wait(&bench);
    bench.enable();
    let mut phases = Phases::default();
    bench.function.shut_down(soon(), &mut phases).unwrap();
    assert_eq!(names(&phases), ["quiesce", "re-arm"]);
    assert!(!bench.device.take_calls().contains(&Call::Reset));
    assert_eq!(bench.device.connected(), 0);
    assert_eq!(bench.device.command(), MEMORY as u16);
    assert_eq!(bench.read(COMMAND) as u16, 0);
    assert!(bench.function.is_quiet());

    bench.device.stays_master.store(true, Ordering::Relaxed);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    let failure = failed.unwrap_err().to_string();
    assert!(failure.contains("bus mastering"), "{failure}");
}

#[test]
fn a_server_that_knows_no_reset_after_all_is_asked_once_and_its_teardown_ends_well() {
    let device = Played::drive().of_a_server().with_resets(Resets::Refused);
    let bench = Bench::of(device, Attachment::Express);
    let resets = || {
        let calls = bench.device.take_calls();
        calls.iter().filter(|call| **call == Call::Reset).count()
    };
    for round in 0..3 {
        bench.enable();
        let mut phases = Phases::default();
        bench.function.shut_down(soon(), &mut phases).unwrap();
        assert_eq!(resets(), usize::from(round == 0), "round {round}");
        assert_eq!(bench.device.command(), MEMORY as u16);
        assert!(bench.function.is_quiet() && !bench.function.is_lost());
    }
    // Whoever comes in its place may know one, and is asked.
    bench.device.set_gone(true);
    assert_eq!(bench.read(0), u32::MAX);
    bench
        .function
        .shut_down(soon(), &mut Phases::default())
        .unwrap();
    assert_eq!(resets(), 1);
    assert!(!bench.function.is_lost());
    // The guest was offered the reset too.
    let device = Played::drive().of_a_server().with_resets(Resets::Refused);
    let bench = Bench::of(device, Attachment::Express);
    bench.function.bus_reset();
    wait(&bench);
    assert!(!bench.function.is_lost());
}
