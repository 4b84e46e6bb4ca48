//! Commands that a fault holds up, and everything that ends their wait.

use std::time::Duration;

use devices::latency::Latency;
use devices::lifecycle::{Deadline, Device, Phases};

use super::super::backend::TestBackend;
use super::super::driver::{DATA, DISK, ENABLE, Guest, eventually, result, transfer};
use super::{of_io, read};
use crate::faults::{Effect, FaultSet};
use crate::spec::command::{admin, io};
use crate::spec::registers::offset;
use crate::spec::{Status, Submission};

const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// A guest with a read under way that is held up by `effect`.
fn held(effect: Effect) -> (Guest, u16) {
    let mut guest = Guest::up();
    guest.set_faults(&of_io(io::READ, effect));
    let cid = guest.submit(1, read(0, 1));
    // Commands of a queue are taken in order.
    guest.run(1, transfer(io::WRITE, 9, 1, DATA, 0)).unwrap();
    assert!(!guest.has_completion(1));
    (guest, cid)
}

fn both() -> [(Guest, u16); 2] {
    [Effect::Stuck, Effect::Slow(Latency::from(FOREVER))].map(held)
}

/// The session is over and nobody is at work for it: nothing is left behind.
fn leaves_nothing(guest: &Guest) {
    eventually("the end of the session", || {
        guest.controller.is_quiet() && guest.csts() & 1 == 0
    });
}

#[test]
fn a_command_goes_on_when_its_fault_is_cleared() {
    for (mut guest, cid) in both() {
        guest.fill(DATA, &[3; 512]);
        guest.set_faults(&FaultSet::default());
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
        assert_eq!(guest.bytes(DATA, 512), [0; 512], "it was executed");
    }
}

#[test]
fn a_command_waits_on_when_another_fault_is_set_beside_its_own() {
    let (mut guest, cid) = held(Effect::Stuck);
    let mut set = of_io(io::READ, Effect::Stuck);
    set.commands
        .extend(of_io(io::WRITE, Effect::Status(Status::WRITE_FAULT)).commands);
    guest.set_faults(&set);
    guest
        .run(1, transfer(io::WRITE, 9, 1, DATA, 0))
        .unwrap_err();
    assert!(!guest.has_completion(1));
    set.commands.remove(0);
    guest.set_faults(&set);
    assert_eq!(result(&guest.wait(1, cid)), Ok(0));
}

#[test]
fn abort_takes_a_command_back() {
    for (mut guest, cid) in both() {
        let abort = Submission {
            opcode: admin::ABORT,
            cdw10: u32::from(cid) << 16 | 1,
            ..Submission::zeroed()
        };
        assert_eq!(guest.admin(abort), Ok(0));
        let aborted = Err(Status::ABORT_REQUESTED.bits());
        assert_eq!(result(&guest.wait(1, cid)), aborted);
        assert_eq!(guest.admin(abort), Ok(1), "it is gone");
        // The fault goes, and nothing comes of it any more.
        guest.set_faults(&FaultSet::default());
        assert_eq!(guest.run(1, read(0, 1)), Ok(0));
        assert!(!guest.has_completion(1));
    }
}

#[test]
fn the_deletion_of_its_queue_ends_a_command() {
    for (mut guest, cid) in both() {
        let delete = Submission {
            opcode: admin::DELETE_SQ,
            cdw10: 1,
            ..Submission::zeroed()
        };
        guest.admin_ok(delete);
        let aborted = Err(Status::ABORTED_SQ_DELETION.bits());
        assert_eq!(result(&guest.wait(1, cid)), aborted);
    }
}

#[test]
fn a_controller_reset_ends_a_command_at_once() {
    for (mut guest, _) in both() {
        guest.write(offset::CC, 0);
        eventually("not ready", || !guest.is_ready());
        assert!(!guest.has_failed());
        leaves_nothing(&guest);
        guest.set_faults(&FaultSet::default());
        guest.enable();
        guest.create_pair(1);
        assert_eq!(guest.run(1, read(0, 1)), Ok(0));
        assert!(!guest.has_completion(1));
    }
}

#[test]
fn a_teardown_ends_a_command_and_the_next_boot_sees_nothing_of_it() {
    for (mut guest, cid) in both() {
        let by = Deadline::after(Duration::from_secs(20));
        let mut phases = Phases::default();
        guest.controller.shut_down(by, &mut phases).unwrap();
        leaves_nothing(&guest);
        let image = guest.bytes(0, DATA as usize + 4096);
        guest.set_faults(&FaultSet::default());
        assert_eq!(
            guest.bytes(0, DATA as usize + 4096),
            image,
            "{cid} came late"
        );
        guest.power_up();
        guest.enable();
        guest.create_pair(1);
        assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    }
}

#[test]
fn many_commands_are_held_and_let_go() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    guest.set_faults(&of_io(io::READ, Effect::Stuck));
    for _ in 0..20 {
        let cids: Vec<_> = (0..60).map(|at| guest.submit(1, read(at, 1))).collect();
        guest.set_faults(&FaultSet::default());
        for cid in cids {
            assert_eq!(result(&guest.wait(1, cid)), Ok(0));
        }
        guest.set_faults(&of_io(io::READ, Effect::Stuck));
    }
}

#[test]
fn nothing_is_executed_once_the_shutdown_is_complete() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    guest.set_faults(&of_io(io::WRITE, Effect::Stuck));
    guest.fill(DATA, &[9; 512]);
    guest.submit(1, transfer(io::WRITE, 0, 1, DATA, 0));
    guest.run(1, read(0, 1)).unwrap();
    guest.fill(DATA, &[9; 512]);
    guest.write(offset::CC, ENABLE | 1 << 14);
    eventually("a completed shutdown", || guest.shst() == 2);
    guest.set_faults(&FaultSet::default());
    let session = guest.controller.session.load_full().unwrap();
    eventually("the end of the command", || session.gate.is_empty());
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.enable();
    guest.create_pair(1);
    guest.run(1, read(0, 1)).unwrap();
    assert_eq!(
        guest.bytes(DATA, 512),
        [0; 512],
        "written after all was safe"
    );
}
