//! Registers, enabling and disabling, interrupts.

use devices::pci::PciFunction;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, ENABLE, Guest, eventually, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::registers::{Capabilities, offset};

#[test]
fn capabilities_read_whole_and_by_halves() {
    let guest = Guest::new();
    let mut raw = [0; 8];
    guest.controller.read_bar(0, offset::CAP, &mut raw);
    let whole = u64::from_le_bytes(raw);
    let halves = u64::from(guest.read(4)) << 32 | u64::from(guest.read(0));
    assert_eq!(whole, halves);
    let capabilities = Capabilities::from(whole);
    assert!(capabilities.mqes_z() >= 1023 && capabilities.cqr());
    assert_eq!(
        (
            capabilities.mpsmin(),
            capabilities.mpsmax(),
            capabilities.dstrd()
        ),
        (0, 0, 0)
    );
    assert!(capabilities.nssrs() && capabilities.nsss());
    assert_eq!((capabilities.crms(), capabilities.cps()), (1, 3));
    let timeout = u32::from(capabilities.to());
    assert_eq!((timeout, guest.read(offset::CRTO)), (40, 40), "in 500 ms");
    assert_eq!(guest.read(offset::VS), 0x0002_0000);
    let mut byte = [0];
    guest.controller.read_bar(0, offset::VS + 2, &mut byte);
    assert_eq!(byte, [2]);
}

#[test]
fn the_function_is_an_nvme_controller() {
    let guest = Guest::new();
    assert_eq!(guest.controller.read_config(8) >> 8, 0x01_08_02);
    assert_ne!(
        guest.controller.read_config(0),
        0x0010_1B36,
        "that pair has quirks in Linux"
    );
    for id in [0x01, 0x10, 0x11] {
        guest.capability(id);
    }
}

#[test]
fn admin_queue_registers_are_locked_while_enabled_and_outlive_a_disable() {
    let mut guest = Guest::new();
    guest.enable();
    let before = [offset::AQA, offset::ASQ, offset::ACQ].map(|at| guest.read(at));
    for at in [offset::AQA, offset::ASQ, offset::ASQ_HIGH, offset::ACQ] {
        guest.write(at, 0x5000);
    }
    assert_eq!(
        [offset::AQA, offset::ASQ, offset::ACQ].map(|at| guest.read(at)),
        before
    );
    guest.write(offset::CC, ENABLE & !1);
    eventually("not ready", || !guest.is_ready());
    assert_eq!(
        [offset::AQA, offset::ASQ, offset::ACQ].map(|at| guest.read(at)),
        before
    );
    guest.write(offset::ASQ, 0x5FFF);
    assert_eq!(guest.read(offset::ASQ), 0x5000);
}

#[test]
fn a_bad_configuration_is_fatal_until_disabled() {
    let mut guest = Guest::new();
    guest.enable();
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    for bad in [1 << 4, 1 << 7, 1 << 11, 1 << 16] {
        guest.write(offset::CC, ENABLE ^ bad);
        assert!(guest.has_failed() && !guest.is_ready(), "{bad:#x}");
        guest.write(offset::CC, 0);
        assert_eq!(guest.csts(), 0);
    }
    for (at, bad) in [(offset::AQA, 0x003F_0000), (offset::ASQ_HIGH, 0x8000_0000)] {
        let good = guest.read(at);
        guest.write(at, bad);
        guest.write(offset::CC, ENABLE);
        assert!(guest.has_failed(), "{at:#x}");
        guest.write(offset::CC, 0);
        guest.write(at, good);
    }
    guest.enable();
}

#[test]
fn a_disable_waits_for_commands_in_flight_and_drops_the_rest() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    // More than the drive has threads for.
    for _ in 0..12 {
        guest.push(1, transfer(io::WRITE, 0, 1, DATA, 0));
    }
    guest.ring(1);
    backend.wait_entered(8);
    guest.write(offset::CC, ENABLE & !1);
    assert!(guest.is_ready(), "a command is in flight");
    backend.hold(false);
    eventually("not ready", || !guest.is_ready());
    assert_eq!(backend.entered.load(std::sync::atomic::Ordering::SeqCst), 8);
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn an_enable_during_a_disable_takes_place_after_it() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    guest.submit(1, transfer(io::WRITE, 0, 1, DATA, 0));
    backend.wait_entered(1);
    guest.controller.bus_reset();
    assert_eq!(
        (
            guest.csts(),
            guest.read(offset::CC),
            guest.read(offset::AQA)
        ),
        (0, 0, 0)
    );
    guest.power_up();
    guest.start_enabling();
    assert!(!guest.is_ready(), "the old session is still there");
    backend.hold(false);
    eventually("ready", || guest.is_ready());
    guest.create_pair(1);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn a_function_level_reset_brings_power_on_values() {
    let mut guest = Guest::up();
    let express = guest.capability(0x10);
    guest.controller.write_config(express + 8, 1 << 15, 0xFFFF);
    assert_eq!((guest.csts(), guest.read(offset::CC)), (0, 0));
    assert!(guest.controller.decoded_bars().is_empty());
    guest.power_up();
    guest.enable();
    guest.create_pair(1);
}

#[test]
fn vectors_interrupt_once_a_burst() {
    let mut guest = Guest::new();
    guest.enable_msix();
    guest.enable();
    guest.create_pair(1);
    assert!(guest.interrupts(0) > 0);
    let cid = guest.submit(1, transfer(io::READ, 0, 1, DATA, 0));
    guest.wait(1, cid);
    eventually("an interrupt", || guest.interrupts(1) > 0);
    assert!(
        !*guest.line.0.lock().unwrap(),
        "the pin is silent under MSI-X"
    );
}

#[test]
fn a_coalesced_interrupt_comes_when_its_time_is_over() {
    let mut guest = Guest::new();
    guest.enable_msix();
    guest.enable();
    guest.create_pair(1);
    guest.interrupts(1);
    let set = |id, value| {
        let mut command = transfer(admin::SET_FEATURES, id, 1, 0, 0);
        command.cdw11 = value;
        command
    };
    // Four entries, or 25.5 ms.
    guest.admin_ok(set(8, 255 << 8 | 3));
    let read = transfer(io::READ, 0, 1, DATA, 0);
    let begun = std::time::Instant::now();
    let first = guest.submit(1, read);
    eventually("an interrupt by time", || guest.interrupts(1) > 0);
    assert!(begun.elapsed().as_micros() >= 25_500);
    result(&guest.wait(1, first)).unwrap();
    // A vector that the host wants all interrupts of.
    guest.admin_ok(set(9, 1 << 16 | 1));
    guest.submit(1, read);
    eventually("an interrupt at once", || guest.interrupts(1) > 0);
}

#[test]
fn the_pin_follows_unread_completions_and_the_mask() {
    let mut guest = Guest::new();
    guest.enable();
    let identify = transfer(admin::IDENTIFY, 1, 1, DATA, 0);
    let cid = guest.submit(0, identify);
    eventually("the line", || *guest.line.0.lock().unwrap());
    guest.write(offset::INTMS, 1);
    assert!(!*guest.line.0.lock().unwrap());
    guest.write(offset::INTMC, 1);
    assert!(*guest.line.0.lock().unwrap());
    assert!(
        guest.controller.read_config(4) & 1 << 19 != 0,
        "interrupt status"
    );
    let found = guest.wait(0, cid);
    result(&found).unwrap();
    assert!(!*guest.line.0.lock().unwrap());
}

#[test]
fn without_bus_mastering_nothing_is_fetched() {
    let mut guest = Guest::up();
    guest.controller.write_config(4, 0b010, 0xFFFF);
    let cid = guest.submit(1, transfer(io::READ, 0, 1, DATA, 0));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!guest.has_completion(1));
    guest.controller.write_config(4, 0b110, 0xFFFF);
    result(&guest.wait(1, cid)).unwrap();
}
