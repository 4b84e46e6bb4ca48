//! Reset and shutdown of the NVM subsystem.

use std::sync::atomic::Ordering;

use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::PciFunction;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, ENABLE, Guest, eventually, transfer};
use crate::spec::command::io;
use crate::spec::registers::{ControllerStatus, offset};

const RESET: u32 = u32::from_be_bytes(*b"NVMe");
const NORMAL: u32 = u32::from_be_bytes(*b"Nrml");
const ABRUPT: u32 = u32::from_be_bytes(*b"Abpt");

fn status(guest: &Guest) -> ControllerStatus {
    guest.csts().into()
}

#[test]
fn a_subsystem_reset_brings_registers_of_power_on_and_says_so_until_noted() {
    let mut guest = Guest::up();
    guest.write(offset::NSSR, RESET + 1);
    assert!(guest.is_ready(), "another value does nothing");
    guest.write(offset::NSSR, RESET);
    for at in [
        offset::CC,
        offset::AQA,
        offset::ASQ,
        offset::ACQ,
        offset::NSSR,
    ] {
        assert_eq!(guest.read(at), 0, "{at:#x}");
    }
    assert_eq!(status(&guest), ControllerStatus::new().with_nssro(true));
    assert!(
        !guest.controller.decoded_bars().is_empty(),
        "the function stays"
    );
    guest.enable();
    guest.create_pair(1);
    assert!(
        status(&guest).nssro(),
        "no reset of the controller clears it"
    );
    guest.controller.bus_reset();
    guest.power_up();
    assert!(status(&guest).nssro());
    guest.write(offset::CSTS, 0);
    assert!(status(&guest).nssro());
    guest.write(offset::CSTS, 1 << 4);
    assert!(!status(&guest).nssro());
    guest.write(offset::NSSR, RESET);
    let by = Deadline::after(std::time::Duration::from_secs(20));
    guest
        .controller
        .shut_down(by, &mut Phases::default())
        .unwrap();
    assert!(!status(&guest).nssro(), "the power was cycled");
}

#[test]
fn a_subsystem_reset_drops_commands_in_flight() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    let image = guest.bytes(0, 8 << 20);
    guest.submit(1, transfer(io::READ, 0, 1, DATA, 0));
    backend.wait_entered(1);
    guest.write(offset::NSSR, RESET);
    guest.start_enabling();
    assert!(!guest.is_ready(), "the old session drains");
    backend.hold(false);
    eventually("ready", || guest.is_ready());
    assert_eq!(
        guest.bytes(DATA - 4096, 4096),
        image[(DATA - 4096) as usize..DATA as usize]
    );
    assert!(!guest.has_completion(0), "nothing of the old session");
}

#[test]
fn a_shut_subsystem_stays_so_until_it_is_reset() {
    for (value, kind) in [(NORMAL, "normal"), (ABRUPT, "abrupt")] {
        let backend = TestBackend::new(DISK);
        let mut guest = Guest::up_on(backend.clone());
        guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
        guest.write(offset::NSSD, 1);
        assert_eq!(guest.shst(), 0, "another value does nothing");
        guest.write(offset::NSSD, value);
        eventually(kind, || guest.shst() == 2);
        assert!(status(&guest).st() && guest.is_ready());
        assert_eq!(backend.flushes.load(Ordering::SeqCst), 1);
        guest.write(offset::CC, 0);
        eventually("not ready", || !guest.is_ready());
        guest.controller.bus_reset();
        guest.power_up();
        guest.write(offset::CC, ENABLE);
        assert!(!guest.is_ready());
        assert!(guest.shst() == 2 && status(&guest).st());
        guest.write(offset::NSSR, RESET);
        assert!(guest.shst() == 0 && !status(&guest).st());
        guest.enable();
        guest.create_pair(1);
        guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
    }
}
