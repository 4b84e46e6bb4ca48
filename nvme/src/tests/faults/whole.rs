//! Faults of shutdowns, of flushes, and of the whole drive.

use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::latency::Latency;
use devices::lifecycle::{Deadline, Device, Phases, ShutdownError};
use devices::pci::PciFunction;

use super::super::backend::TestBackend;
use super::super::driver::{DATA, DISK, ENABLE, Guest, eventually, refused, transfer};
use super::{of_io, read};
use crate::faults::{Effect, FaultSet, FlushFault, ShutdownFault};
use crate::spec::Status;
use crate::spec::command::{admin, io};
use crate::spec::registers::offset;

const NORMAL: u32 = ENABLE | 1 << 14;

fn shutdown(fault: ShutdownFault) -> FaultSet {
    FaultSet {
        shutdown: Some(fault),
        ..FaultSet::default()
    }
}

fn flush(fault: FlushFault) -> FaultSet {
    FaultSet {
        flush: Some(fault),
        ..FaultSet::default()
    }
}

fn shut_down(guest: &Guest, within: Duration) -> Result<(), ShutdownError> {
    let by = Deadline::after(within);
    let mut phases = Phases::default();
    guest.controller.shut_down(by, &mut phases).map(|_| ())
}

/// Waits for the flush of a shutdown: what the shutdown then still lacks is the fault's doing.
fn flushed(backend: &TestBackend, count: u32) {
    eventually("a flush", || {
        backend.flushes.load(Ordering::SeqCst) >= count
    });
}

#[test]
fn a_shutdown_that_hangs_completes_when_the_fault_is_cleared() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(backend.clone());
    guest.enable();
    guest.set_faults(&shutdown(ShutdownFault::Hang));
    guest.write(offset::CC, NORMAL);
    flushed(&backend, 1);
    // Served by the thread of the timers, which come first.
    guest.admin_ok(transfer(admin::IDENTIFY, 1, 1, DATA, 0));
    assert_eq!(guest.csts() & 0b1111, 0b0101);
    assert_eq!(
        guest.controller.guest_acts().handshake.unwrap().completed,
        None
    );
    guest.set_faults(&FaultSet::default());
    eventually("a completed shutdown", || guest.shst() == 2);
    let handshake = guest.controller.guest_acts().handshake.unwrap();
    assert!(handshake.completed.is_some());
}

#[test]
fn a_reset_ends_a_shutdown_that_hangs_and_not_the_fault() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(backend.clone());
    guest.set_faults(&shutdown(ShutdownFault::Hang));
    for round in 1..3 {
        guest.enable();
        guest.write(offset::CC, NORMAL);
        flushed(&backend, round);
        assert_eq!(guest.shst(), 1);
        guest.write(offset::CC, 0);
        eventually("not ready", || !guest.is_ready());
        assert_eq!(guest.shst(), 0);
    }
}

#[test]
fn a_fatal_shutdown_shows_at_once_and_stays_until_a_reset() {
    for enabled in [true, false] {
        let mut guest = Guest::new();
        if enabled {
            guest.enable();
        }
        guest.set_faults(&shutdown(ShutdownFault::Fatal));
        let cc = if enabled { NORMAL } else { NORMAL & !1 };
        guest.write(offset::CC, cc);
        assert_eq!(guest.csts() & 0b1110, 0b0110, "CFS = 1, SHST = 01b");
        guest.set_faults(&FaultSet::default());
        assert_eq!(guest.csts() & 0b1110, 0b0110);
        guest.controller.bus_reset();
        eventually("a reset", || guest.csts() == 0);
    }
}

#[test]
fn a_flush_that_fails_says_so_to_guest_shutdown_and_teardown() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    guest.set_faults(&flush(FlushFault::Fail));
    let fails = refused(Status::WRITE_FAULT);
    assert_eq!(guest.run(1, transfer(io::FLUSH, 0, 1, 0, 0)), fails);
    guest.write(offset::CC, NORMAL);
    eventually("fatal status", || guest.has_failed());
    assert_eq!(guest.shst(), 1);
    assert!(backend.flushes.load(Ordering::SeqCst) > 0, "data is safe");
    let failure = shut_down(&guest, Duration::from_secs(20)).unwrap_err();
    assert!(matches!(failure, ShutdownError::Host { .. }));
    guest.set_faults(&FaultSet::default());
    shut_down(&guest, Duration::from_secs(20)).unwrap();
}

#[test]
fn a_stuck_flush_holds_command_and_shutdown_until_it_is_cleared() {
    let mut guest = Guest::up();
    guest.set_faults(&flush(FlushFault::Stuck));
    let cid = guest.submit(1, transfer(io::FLUSH, 0, 1, 0, 0));
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    assert!(!guest.has_completion(1));
    guest.set_faults(&FaultSet::default());
    assert_eq!(guest.wait(1, cid).status_phase >> 1, 0);
    // A command that is still held when a shutdown completes is not executed any more, so none is here.
    guest.set_faults(&flush(FlushFault::Stuck));
    guest.write(offset::CC, NORMAL);
    assert_eq!(guest.shst(), 1);
    guest.set_faults(&FaultSet::default());
    eventually("a completed shutdown", || guest.shst() == 2);
}

#[test]
fn a_stuck_flush_ends_a_teardown_by_its_deadline_and_the_drive_is_quiet() {
    let mut guest = Guest::up();
    guest.set_faults(&flush(FlushFault::Stuck));
    guest.submit(1, transfer(io::FLUSH, 0, 1, 0, 0));
    let outcome = shut_down(&guest, Duration::from_millis(20));
    assert!(matches!(outcome, Err(ShutdownError::DeadlinePassed { .. })));
    assert!(guest.controller.is_quiet(), "it may be quarantined");
    assert_eq!((guest.csts(), guest.read(offset::CC)), (0, 0));
    let image = guest.bytes(0, DATA as usize);
    guest.set_faults(&FaultSet::default());
    assert_eq!(guest.bytes(0, DATA as usize), image);
}

#[test]
fn a_stuck_flush_of_all_namespaces_ends_with_its_session() {
    let mut guest = Guest::up();
    // Held up as a command, it meets the other fault when it is let go.
    let slow = Effect::Slow(Latency::from(Duration::from_secs(3600)));
    guest.set_faults(&of_io(io::FLUSH, slow));
    let mut command = transfer(io::FLUSH, 0, 1, 0, 0);
    command.nsid = u32::MAX;
    let cid = guest.submit(1, command);
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    guest.set_faults(&flush(FlushFault::Stuck));
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    assert!(!guest.has_completion(1), "command {cid} has ended");
    guest.write(offset::CC, 0);
    eventually("the end of the session", || guest.controller.is_quiet());
    guest.set_faults(&FaultSet::default());
}

#[test]
fn a_stuck_flush_that_is_cleared_in_time_lets_the_teardown_end() {
    let guest = Guest::up();
    guest.set_faults(&flush(FlushFault::Stuck));
    std::thread::scope(|scope| {
        let torn_down = scope.spawn(|| shut_down(&guest, Duration::from_secs(20)));
        eventually("reset registers", || guest.read(offset::CC) == 0);
        assert!(!torn_down.is_finished());
        guest.set_faults(&FaultSet::default());
        torn_down.join().unwrap().unwrap();
    });
}

#[test]
fn a_drive_that_is_removed_reads_as_ones_and_does_nothing() {
    let mut guest = Guest::up();
    guest.enable_msix();
    let set = FaultSet {
        removed: true,
        ..FaultSet::default()
    };
    guest.interrupts(1);
    guest.set_faults(&set);
    assert_eq!(
        (guest.csts(), guest.read(offset::CAP)),
        (u32::MAX, u32::MAX)
    );
    assert_eq!(guest.controller.read_config(0), u32::MAX);
    assert!(guest.controller.decoded_bars().is_empty());
    // Neither doorbells nor registers have an effect.
    guest.push(1, read(0, 1));
    guest.ring(1);
    guest.write(offset::CC, NORMAL);
    guest.power_up();
    shut_down(&guest, Duration::from_secs(20)).unwrap();
    assert!(!guest.has_completion(1));
    assert_eq!(guest.interrupts(1), 0);
    assert_eq!(guest.csts(), u32::MAX, "also after the reset");
    // Back again, it is as after power-on.
    guest.set_faults(&FaultSet::default());
    assert_eq!((guest.csts(), guest.read(offset::CC)), (0, 0));
    assert_eq!(guest.controller.read_config(4) & 0b111, 0);
    guest.power_up();
    guest.enable();
    guest.create_pair(1);
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    let smart = guest.controller.drive.logs.smart(0);
    assert_eq!({ smart.unsafe_shutdowns }, 1);
}

#[test]
fn a_drive_removed_under_load_stops_and_comes_back() {
    let mut guest = Guest::up();
    let removed = FaultSet {
        removed: true,
        ..FaultSet::default()
    };
    for _ in 0..50 {
        for block in 0..30 {
            guest.push(1, read(block, 1));
        }
        guest.ring(1);
        guest.set_faults(&removed);
        eventually("the end of all work", || guest.controller.is_quiet());
        let image = guest.bytes(0, DATA as usize);
        assert_eq!(guest.bytes(0, DATA as usize), image);
        guest.set_faults(&FaultSet::default());
        guest.power_up();
        guest.enable();
        guest.create_pair(1);
        assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    }
}
