//! The teardown of a machine: everything back to power-on, data kept, nothing of the old boot in the new.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};
use devices::pci::PciFunction;
use tempfile::NamedTempFile;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, ENABLE, Guest, config, eventually, transfer};
use crate::spec::Submission;
use crate::spec::command::{admin, io};
use crate::spec::log::Smart;
use crate::spec::registers::offset;
use crate::{BackendError, FileBackend};

fn shut_down(guest: &Guest) -> Result<(Finish, Phases), ShutdownError> {
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_secs(20));
    let finish = guest.controller.shut_down(by, &mut phases)?;
    Ok((finish, phases))
}

#[test]
fn after_a_teardown_all_is_as_after_power_on_and_data_is_kept() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let backend = FileBackend::open(file.path(), false).unwrap();
    let mut guest = Guest::with(config(vec![Arc::new(backend)]));
    for round in 0..10_u8 {
        guest.enable_msix();
        guest.enable();
        guest.create_pair(1);
        if round > 0 {
            guest.run(1, transfer(io::READ, 5, 1, DATA, 0)).unwrap();
            assert_eq!(guest.bytes(DATA, 512), [round; 512]);
        }
        guest.fill(DATA, &[round + 1; 512]);
        guest.run(1, transfer(io::WRITE, 5, 1, DATA, 0)).unwrap();
        let (finish, phases) = shut_down(&guest).unwrap();
        assert_eq!(finish, Finish::Now);
        let names: Vec<_> = phases.as_slice().iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["quiesce", "flush", "reset"]);
        for at in [
            offset::CC,
            offset::CSTS,
            offset::AQA,
            offset::ASQ,
            offset::ACQ,
            offset::INTMS,
        ] {
            assert_eq!(guest.read(at), 0, "{at:#x}");
        }
        assert!(guest.controller.decoded_bars().is_empty());
        assert!(
            guest.router.0.lock().unwrap().iter().all(Option::is_none),
            "no routes"
        );
        guest.power_up();
    }
    guest.enable();
    let smart = Submission {
        nsid: u32::MAX,
        ..transfer(admin::GET_LOG_PAGE, 127 << 16 | 2, 1, DATA, 0)
    };
    guest.admin_ok(smart);
    let smart: Smart = zerocopy::FromBytes::read_from_bytes(&guest.bytes(DATA, 512)).unwrap();
    assert_eq!(
        ({ smart.power_cycles }, { smart.unsafe_shutdowns }),
        (11, 10)
    );
    guest.controller.release();
    FileBackend::open(file.path(), false).unwrap();
}

#[test]
fn a_file_in_use_is_refused_until_release() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let backend = FileBackend::open(file.path(), false).unwrap();
    let guest = Guest::with(config(vec![Arc::new(backend)]));
    shut_down(&guest).unwrap();
    let second = FileBackend::open(file.path(), false);
    assert!(
        matches!(second, Err(BackendError::Locked { .. })),
        "a reset keeps the file"
    );
    guest.controller.release();
    FileBackend::open(file.path(), false).unwrap();
}

#[test]
fn a_teardown_flushes_what_was_written_and_only_that() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
    shut_down(&guest).unwrap();
    assert_eq!(backend.flushes.load(Ordering::SeqCst), 0);
    guest.power_up();
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    shut_down(&guest).unwrap();
    assert_eq!(backend.flushes.load(Ordering::SeqCst), 1);
    guest.power_up();
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    backend.fail_flushes.store(true, Ordering::SeqCst);
    let failure = shut_down(&guest).unwrap_err();
    assert!(matches!(failure, ShutdownError::Host { .. }));
    assert!(failure.to_string().contains("drive0"));
}

#[test]
fn a_modelled_latency_counts_from_the_start_and_nobody_sleeps_it() {
    let latency = Duration::from_secs(3600);
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.behaviour.teardown = latency.into();
    let guest = Guest::with(config);
    let before = Instant::now();
    let (finish, phases) = shut_down(&guest).unwrap();
    let Finish::At(end) = finish else {
        panic!("the latency is missing");
    };
    let last = phases.as_slice().last().unwrap();
    assert_eq!((last.name, last.end), ("modelled-latency", end));
    assert_eq!(phases.modelled(), Some(latency));
    assert!(end >= before + latency && end <= Instant::now() + latency);
}

#[test]
fn commands_in_flight_end_before_the_teardown_does() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    guest.submit(1, transfer(io::READ, 0, 1, DATA, 0));
    for _ in 0..3 {
        guest.submit(1, transfer(io::FLUSH, 0, 1, 0, 0));
    }
    backend.wait_entered(1);
    std::thread::scope(|scope| {
        let torn_down = scope.spawn(|| shut_down(&guest).map(|_| ()));
        eventually("reset registers", || guest.read(offset::CC) == 0);
        assert!(!torn_down.is_finished());
        backend.hold(false);
        torn_down.join().unwrap().unwrap();
    });
    let entered = backend.entered.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(
        backend.entered.load(Ordering::SeqCst),
        entered,
        "nothing begins afterwards"
    );
}

#[test]
fn a_stuck_backend_passes_the_deadline_and_completes_into_nobodys_memory() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(backend.clone());
    guest.enable_msix();
    guest.enable();
    guest.create_pair(1);
    guest.create_pair(2);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    backend.hold(true);
    // One stuck on an I/O thread, one on the lane.
    let written = guest.submit(1, transfer(io::WRITE, 0, 1, DATA, 0));
    let flushed = guest.submit(2, transfer(io::FLUSH, 0, 1, DATA, 0));
    backend.wait_entered(3);
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_millis(30));
    let outcome = guest.controller.shut_down(by, &mut phases);
    assert!(matches!(outcome, Err(ShutdownError::DeadlinePassed { .. })));
    assert!(
        !guest.controller.is_quiet(),
        "two calls are still under way"
    );
    assert_eq!((guest.csts(), guest.read(offset::CC)), (0, 0));
    let image = guest.bytes(0, 8 << 20);
    guest.interrupts(1);
    // A guest that comes back too early waits for the stuck call.
    guest.power_up();
    guest.write(offset::CC, 0);
    backend.hold(false);
    eventually("the end of the stuck calls", || {
        Arc::strong_count(&guest.controller.drive) == 1
    });
    assert_eq!(
        guest.bytes(0, 8 << 20),
        image,
        "commands {written} and {flushed} came late"
    );
    assert_eq!(guest.interrupts(1), 0);
    assert!(guest.controller.is_quiet());
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn a_controller_torn_down_after_a_shutdown_was_safe() {
    let mut guest = Guest::up();
    guest.write(offset::CC, ENABLE | 1 << 14);
    eventually("a completed shutdown", || guest.shst() == 2);
    shut_down(&guest).unwrap();
    guest.power_up();
    guest.enable();
    let smart = guest.controller.drive.logs.smart(0);
    assert_eq!(({ smart.power_cycles }, { smart.unsafe_shutdowns }), (2, 0));
}

#[test]
fn dropped_controllers_leave_no_timer_and_no_session() {
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.behaviour.shutdown.latency = Duration::from_secs(3600).into();
    let guest = Guest::up_with(config);
    guest.write(offset::CC, ENABLE | 1 << 14);
    let drive = Arc::downgrade(&guest.controller.drive);
    guest.controller.release();
    drop(guest);
    eventually("the end of the drive", || drive.strong_count() == 0);
}
