//! Machines with drives of processes: `sundown` as a process, driven as its clients do. They need KVM, any.

mod changes;
mod guest;
mod waits;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use api::client::{Client, ClientError};
use api::config::VmConfig;
use api::error::ErrorCode;
use api::events::EventKind;
use api::report::TeardownReport;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, SOON, program};
use guest::Guest;

const POLL: Duration = Duration::from_millis(5);

/// A `sundown` that does not outlive its test.
struct Vmm {
    folder: TempDir,
    child: Child,
    client: Client,
    /// The number of the last event that was looked at.
    seen: u64,
}

impl Vmm {
    fn start() -> Self {
        let kvm = File::options().read(true).write(true).open("/dev/kvm");
        kvm.expect("this test needs KVM: /dev/kvm, readable and writable");
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api");
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = program(env!("CARGO_BIN_EXE_sundown"));
        command.arg("--api-socket").arg(&socket).stderr(log);
        let child = command.spawn().unwrap();
        let client = Client::new(socket).with_timeout(SOON);
        client.wait_until_ready(SOON).unwrap();
        Self {
            folder,
            child,
            client,
            seen: 0,
        }
    }

    /// Creates a machine that runs `guest` and has these devices.
    fn create(&self, guest: Guest, pci: Value) {
        self.try_to_create(guest, pci).unwrap();
    }

    fn try_to_create(&self, guest: Guest, pci: Value) -> Result<(), ClientError> {
        self.client.create(&self.config(guest, pci))
    }

    fn config(&self, guest: Guest, pci: Value) -> VmConfig {
        let kernel = self.folder.path().join("guest");
        guest.write(&kernel);
        let config = json!({
            "memory": { "size": 64 << 20 }, "payload": { "kernel": kernel }, "pci": pci,
            "serial": { "mode": "Null" },
        });
        VmConfig::from_json(config.to_string().as_bytes()).unwrap()
    }

    /// Boots it, and waits for a boot marker, whose value this returns.
    fn boot(&mut self) -> u8 {
        self.client.boot().unwrap();
        self.marker()
    }

    fn marker(&mut self) -> u8 {
        self.event(|event| match event {
            EventKind::BootMarker { value, .. } => Some(*value),
            _ => None,
        })
    }

    /// Waits for an event that was not looked at yet.
    fn event<T>(&mut self, wanted: impl Fn(&EventKind) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            for event in self.client.events(Some(self.seen)).unwrap() {
                let event = event.unwrap();
                self.seen = event.seq;
                if let Some(found) = wanted(&event.event) {
                    return found;
                }
            }
            assert!(started.elapsed() < SOON, "no such event\n{}", self.log());
            sleep(POLL);
        }
    }

    /// Waits for the end of the teardown under way, or of the next.
    fn report(&mut self) -> TeardownReport {
        let number = self.event(|event| match event {
            EventKind::TeardownEnded { number, .. } => Some(*number),
            _ => None,
        });
        let started = Instant::now();
        loop {
            // It is kept a moment after it was told of.
            match self.client.teardown(number) {
                Ok(report) => return report,
                Err(error) => assert!(started.elapsed() < SOON, "{error}"),
            }
            sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; its exit code.
    fn ended(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(started.elapsed() < SOON, "{}", self.log());
            sleep(POLL);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The drive of a process, as device `place` on the root bus.
fn served(id: &str, process: &Process, place: u8) -> Value {
    drop(process.connect());
    json!({ "type": "vfio-user", "id": id, "socket": process.socket(), "device": place })
}

/// An emulated drive whose teardown takes so many milliseconds.
fn emulated(id: &str, folder: &Path, place: u8, ms: u64) -> Value {
    let path: PathBuf = folder.join(format!("{id}.raw"));
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    json!({
        "type": "nvme", "id": id, "device": place, "namespaces": [{ "path": path }],
        "teardown": { "latency": { "kind": "fixed", "ms": ms } },
    })
}

/// Asserts that a call was refused with `code`; what it said, and of which device.
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, code: ErrorCode) -> String {
    let error = answer.expect_err("it is to be refused");
    assert_eq!(error.code(), Some(code), "{error}");
    error.to_string()
}
