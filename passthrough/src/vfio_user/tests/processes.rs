//! Servers that are processes of their own: killed, fenced, replaced. This test program plays them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use devices::lifecycle::Deadline;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfio_user::protocol::*;

use super::*;

/// What the child is to do, and where.
const SOCKET: &str = "PASSTHROUGH_TEST_SOCKET";
const HANGS: &str = "PASSTHROUGH_TEST_HANGS";

/// No test: what a child of the tests below does.
#[test]
#[ignore = "played by other tests"]
fn a_server_of_another_test() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let hangs = std::env::var_os(HANGS).is_some();
    let stated = Capabilities::default();
    let _server = Played::at(PathBuf::from(socket), stated, move |asked| {
        match asked.command {
            command::DEVICE_RESET if hangs => Verdict::Silence,
            _ => Verdict::Ordinary,
        }
    });
    println!("serving");
    // Until this is killed, or the parent has gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A server that does not outlive its test.
struct Process {
    child: Child,
}

impl Process {
    fn start(folder: &TempDir, hangs: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "vfio_user::tests::processes::a_server_of_another_test";
        command
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(SOCKET, folder.path().join("socket"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if hangs {
            command.env(HANGS, "1");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("serving")));
        Self { child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The signal that ended it.
    fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(folder: &TempDir, fence: bool) -> (Arc<UserDevice>, Arc<Watcher>) {
    let watcher = Arc::new(Watcher::default());
    let options = UserOptions {
        fence,
        ..options(20_000)
    };
    let path = folder.path().join("socket");
    let device = connect(&path, options, &memory(), watcher.clone());
    (device.unwrap(), watcher)
}

fn hang() -> Deadline {
    Deadline::after(Duration::from_millis(50))
}

#[test]
fn a_server_that_was_killed_is_quiet_and_one_that_hangs_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, true);
    let (device, watcher) = open(&folder, false);
    assert!(!device.is_quiet(true));
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    assert!(!device.is_quiet(true), "it has guest memory");
    process.kill();
    // Killed and reaped: but its end of the old connection may be closed a moment later.
    let by = Instant::now() + SOON;
    while !device.is_quiet(true) {
        assert!(Instant::now() < by);
        std::thread::yield_now();
    }
}

#[test]
fn a_fenced_server_that_hangs_is_killed_and_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, true);
    let (device, watcher) = open(&folder, true);
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    assert_eq!(process.ended_by(), Some(9));
    assert!(device.is_quiet(false));
    // The next one is taken in its place.
    let _again = Process::start(&folder, false);
    device.revive(soon()).unwrap();
    device.reset(soon()).unwrap();
    assert!(device.gone().is_none());
}

#[test]
fn a_fenced_server_that_is_given_up_is_killed_when_it_must_be_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, false);
    let (device, watcher) = open(&folder, true);
    // It does not even run.
    process.signal(Signal::STOP);
    assert!(device.is_quiet(false));
    assert_eq!(process.ended_by(), Some(9));
    watcher.hears_gone();
}

#[test]
fn a_server_that_was_killed_is_gone_and_the_next_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, false);
    let (device, watcher) = open(&folder, false);
    device.write(0, 0, &[1]).unwrap();
    process.kill();
    watcher.hears_gone();
    assert!(is_gone(&device.read(0, 0, &mut [0])));
    let _again = Process::start(&folder, false);
    device.revive(soon()).unwrap();
    let mut found = [9];
    device.read(0, 0, &mut found).unwrap();
    assert_eq!(found, [0], "as after power-on");
}

#[test]
fn a_second_process_gets_no_memory_while_the_first_may_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, true);
    let (device, watcher) = open(&folder, false);
    // It does not run, and the client finds nobody until there is a second.
    process.signal(Signal::STOP);
    std::fs::remove_file(folder.path().join("socket")).unwrap();
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    let _second = Process::start(&folder, false);
    let warned = watcher.hears(|said| matches!(said, Said::Warning(_)));
    let pid = process.child.id().to_string();
    assert!(
        matches!(&warned, Said::Warning(text) if text.contains(&pid) && text.contains("end it"))
    );
    let error = device.revive(soon()).unwrap_err().to_string();
    assert!(error.contains("still has the guest's memory"), "{error}");
    process.kill();
    watcher.hears(|said| *said == Said::Back);
    device.revive(soon()).unwrap();
}
