//! Who waits for whom: for servers that do not answer, and for teardowns.

use std::os::unix::net::UnixListener;
use std::thread;

use api::report::{Cause, Outcome};
use api::state::VmState;

use super::super::process::state;
use super::*;

/// The longest that is allowed: no test waits for it.
const MINUTE_MS: u64 = 60_000;
/// What a drive's teardown takes, so that something can come meanwhile.
const TEARDOWN_MS: u64 = 1500;
const BAR: u32 = 0xC000_0000;

#[test]
#[ignore = "needs KVM"]
fn while_a_machine_is_made_calls_are_answered_and_a_second_signal_ends_the_process() {
    let mut vmm = Vmm::start();
    let path = vmm.folder.path().join("silent");
    let silent = UnixListener::bind(&path).unwrap();
    let pci = json!([{
        "type": "vfio-user", "id": "silent", "socket": path, "request_timeout_ms": MINUTE_MS
    }]);
    let config = vmm.config(Guest::default().marker(1), pci);
    thread::scope(|scope| {
        let creating = scope.spawn(|| vmm.client.create(&config));
        // It has come, and will have no answer.
        let _connection = silent.accept().unwrap();
        vmm.client.ping().unwrap();
        let told = refused(vmm.client.info(), ErrorCode::WrongState);
        assert!(told.contains("the machine is being made"), "{told}");
        let told = refused(vmm.client.create(&config), ErrorCode::WrongState);
        assert!(told.contains("the machine is being made"), "{told}");
        vmm.signal(Signal::TERM);
        vmm.client.ping().unwrap();
        vmm.signal(Signal::TERM);
        assert!(creating.join().unwrap().is_err());
    });
    assert_eq!(vmm.ended(), 1);
}

#[test]
#[ignore = "needs KVM"]
fn shutdowns_that_come_while_a_machine_is_made_are_answered_when_that_has_ended() {
    let mut vmm = Vmm::start();
    let path = vmm.folder.path().join("silent");
    let silent = UnixListener::bind(&path).unwrap();
    let pci = json!([{
        "type": "vfio-user", "id": "silent", "socket": path, "request_timeout_ms": 2000
    }]);
    let config = vmm.config(Guest::default().marker(1), pci);
    thread::scope(|scope| {
        let creating = scope.spawn(|| vmm.client.create(&config));
        let _connection = silent.accept().unwrap();
        let shutdowns = [0, 1].map(|_| scope.spawn(|| vmm.client.vmm_shutdown()));
        assert!(creating.join().unwrap().is_err(), "nobody answers");
        for shutdown in shutdowns {
            shutdown.join().unwrap().unwrap();
        }
    });
    assert_eq!(vmm.ended(), 0);
}

#[test]
#[ignore = "needs KVM"]
fn a_boot_that_a_shutdown_overtakes_is_not_answered_as_done() {
    let mut away = Process::start("away");
    let mut vmm = Vmm::start();
    let slow = emulated("slow", vmm.folder.path(), 2, TEARDOWN_MS);
    vmm.create(
        Guest::default().marker(1),
        json!([served("away", &away, 1), slow]),
    );
    away.kill();
    vmm.event(|event| matches!(event, EventKind::DeviceGone { .. }).then_some(()));
    thread::scope(|scope| {
        // It begins with a teardown, which may bring the drive back.
        let client = vmm.client.clone();
        let boot = scope.spawn(move || client.boot());
        vmm.event(|event| matches!(event, EventKind::TeardownStarted { .. }).then_some(()));
        vmm.client.shutdown().unwrap();
        let told = refused(boot.join().unwrap(), ErrorCode::WrongState);
        assert!(told.contains("was to be shut down"), "{told}");
    });
    assert_eq!(vmm.client.info().unwrap().state, VmState::Shutdown);
    assert_eq!(vmm.report().cause, Cause::Boot);
    assert_eq!(vmm.boot(), 1, "without the drive");
}

/// A machine whose guest reads a register of the drive, which hangs: its vCPU waits for the answer.
fn waiting(process: &Process) -> Vmm {
    let mut vmm = Vmm::start();
    let mut drive = served("drive", process, 1);
    drive["request_timeout_ms"] = json!(MINUTE_MS);
    drive["deadline_ms"] = json!(1000);
    drive["fence"] = json!(true);
    let guest = Guest::default()
        .set_register(1, 0x10, BAR)
        .set_register(1, 0x14, 0)
        .set_register(1, 4, 2)
        .marker(1)
        .read_for_ever(BAR);
    vmm.create(guest, json!([drive]));
    vmm.boot();
    process.stop();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", vmm.child.id())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let name = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    let vcpu = tasks.find(|task| name(task).trim() == "vcpu0").unwrap();
    let started = Instant::now();
    // It runs in the guest, or sleeps until there is an answer, and there will be none.
    while state(&vcpu) != Some('S') {
        assert!(started.elapsed() < SOON, "the vCPU does not wait");
        sleep(POLL);
    }
    vmm
}

#[test]
#[ignore = "needs KVM"]
fn a_reboot_does_not_wait_for_a_vcpu_that_waits_for_a_hung_server() {
    let process = Process::start("hung");
    let mut vmm = waiting(&process);
    vmm.client.reboot().unwrap();
    let report = vmm.report();
    let drive = report.devices.iter().find(|device| device.id == "drive");
    let outcome = &drive.unwrap().outcome;
    assert_ne!(*outcome, Outcome::Done);
    assert_eq!(
        vmm.marker(),
        1,
        "it runs without the drive, which was fenced"
    );
}

#[test]
#[ignore = "needs KVM"]
fn a_pause_waits_for_what_a_vcpu_waits_for() {
    let process = Process::start("paused");
    let mut vmm = waiting(&process);
    thread::scope(|scope| {
        let client = vmm.client.clone();
        let pause = scope.spawn(move || client.pause());
        process.go_on();
        pause.join().unwrap().unwrap();
    });
    assert_eq!(vmm.client.info().unwrap().state, VmState::Paused);
    vmm.client.resume().unwrap();
    vmm.client.reboot().unwrap();
    let report = vmm.report();
    let drive = report.devices.iter().find(|device| device.id == "drive");
    assert_eq!(
        drive.unwrap().outcome,
        Outcome::Done,
        "it was there all the time"
    );
}
