//! Servers that are processes of their own: killed, fenced, replaced. This test program plays them.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use devices::lifecycle::Deadline;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;
use vfio_user::protocol::*;

use super::*;

/// Where the child is to serve, and what it does at a reset.
const SOCKET: &str = "PASSTHROUGH_TEST_SOCKET";
const AT_RESET: &str = "PASSTHROUGH_TEST_AT_RESET";
/// Its standard input listens already.
const LISTENS: &str = "PASSTHROUGH_TEST_LISTENS";

/// No test: what a child of the tests below does.
#[test]
#[ignore = "played by other tests"]
fn a_server_of_another_test() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    // It does not outlive its test, however that ends.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let at_reset = std::env::var(AT_RESET).unwrap();
    let rule = move |asked: &Asked<'_>| match (asked.command, at_reset.as_str()) {
        (command::DEVICE_RESET, "hang") => Verdict::Silence,
        (command::DEVICE_RESET, "leave") => Verdict::Leave,
        (command::DEVICE_RESET, "die") => std::process::exit(1),
        (command::DEVICE_RESET, "stay") => loop {
            std::thread::park();
        },
        _ => Verdict::Ordinary,
    };
    let (path, stated) = (PathBuf::from(socket), Capabilities::default());
    let _server = match std::env::var_os(LISTENS) {
        // Two threads, each for a connection.
        None if std::env::var(AT_RESET).unwrap() == "stay" => {
            let listener = UnixListener::bind(&path).unwrap();
            let other = listener.try_clone().unwrap();
            let rule = Arc::new(rule);
            let its = Arc::clone(&rule);
            let second = Played::over(other, path.clone(), stated, move |asked| its(asked));
            std::mem::forget(second);
            Played::over(listener, path, stated, move |asked| rule(asked))
        }
        None => Played::at(path, stated, rule),
        Some(_) => {
            let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            Played::over(listener.into(), path, stated, rule)
        }
    };
    println!("serving");
    loop {
        std::thread::park();
    }
}

/// A server that does not outlive its test.
struct Process {
    child: Child,
}

impl Process {
    fn start(folder: &TempDir, at_reset: &str) -> Self {
        Self::start_with(folder, at_reset, None)
    }

    /// One that serves whoever comes to `listener`, where there is one.
    fn start_with(folder: &TempDir, at_reset: &str, listener: Option<UnixListener>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "vfio_user::tests::processes::a_server_of_another_test";
        command
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(SOCKET, folder.path().join("socket"))
            .env(AT_RESET, at_reset)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(listener) = listener {
            command.env(LISTENS, "1").stdin(OwnedFd::from(listener));
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

fn is_warned(watcher: &Watcher, words: &[&str]) {
    let said = watcher.said();
    let warned = said.iter().any(|said| match said {
        Said::Warning(text) => words.iter().all(|words| text.contains(words)),
        _ => false,
    });
    assert!(warned, "{words:?} in {said:?}");
}

fn hang() -> Deadline {
    Deadline::after(Duration::from_millis(50))
}

#[test]
fn a_server_that_was_killed_is_quiet_and_one_that_hangs_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, "hang");
    let (device, watcher) = open(&folder, false);
    assert!(!device.is_quiet(true), "it is there");
    assert_eq!(watcher.said(), []);
    // It does not even see that its client leaves.
    process.signal(Signal::STOP);
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    assert!(!device.is_quiet(true), "it has guest memory");
    assert!(!device.is_quiet(true));
    let pid = process.child.id().to_string();
    is_warned(&watcher, &[&pid, "still has that, and the guest's memory"]);
    assert_eq!(watcher.said().len(), 2, "gone, and warned of once");
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
    let mut process = Process::start(&folder, "hang");
    let (device, watcher) = open(&folder, true);
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    assert_eq!(process.ended_by(), Some(9));
    assert!(device.is_quiet(false));
    // The next one is taken in its place.
    let _again = Process::start(&folder, "go on");
    device.revive(soon()).unwrap();
    device.reset(soon()).unwrap();
    assert!(device.gone().is_none());
}

#[test]
fn a_fenced_server_that_is_given_up_is_killed_when_it_must_be_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, "go on");
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
    let mut process = Process::start(&folder, "go on");
    let (device, watcher) = open(&folder, false);
    device.write(0, 0, &[1]).unwrap();
    process.kill();
    watcher.hears_gone();
    assert!(is_gone(&device.read(0, 0, &mut [0])));
    let _again = Process::start(&folder, "go on");
    device.revive(soon()).unwrap();
    let mut found = [9];
    device.read(0, 0, &mut found).unwrap();
    assert_eq!(found, [0], "as after power-on");
}

#[test]
fn a_second_process_gets_no_memory_while_the_first_may_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, "hang");
    let (device, watcher) = open(&folder, false);
    // It does not run, and the client finds nobody until there is a second.
    process.signal(Signal::STOP);
    std::fs::remove_file(folder.path().join("socket")).unwrap();
    assert!(device.reset(hang()).is_err());
    watcher.hears_gone();
    let _second = Process::start(&folder, "go on");
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

#[test]
fn a_server_that_dies_in_its_reset_is_quiet_when_that_is_asked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start(&folder, "die");
    let (device, _) = open(&folder, false);
    assert!(is_gone(&device.reset(soon())));
    assert!(device.is_quiet(false));
}

#[test]
fn a_server_that_leaves_and_lives_on_is_not_quiet_and_its_process_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(&folder, "leave");
    // Nobody comes to it again.
    let path = folder.path().join("socket");
    let (device, watcher) = open(&folder, false);
    std::fs::remove_file(path).unwrap();
    assert!(is_gone(&device.reset(soon())));
    assert!(!device.is_quiet(true), "it may have kept the memory");
    let pid = process.child.id().to_string();
    is_warned(
        &watcher,
        &[&pid, "has closed the server's connection, and goes on"],
    );
    process.kill();
    assert!(device.is_quiet(true));
}

#[test]
fn a_server_that_another_listens_for_is_the_one_that_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // This process listens for it, as a service manager does.
    let listener = UnixListener::bind(&path).unwrap();
    let mut process = Process::start_with(&folder, "hang", Some(listener));
    let (device, watcher) = open(&folder, true);
    assert_eq!(watcher.said(), [], "it is known");
    assert!(device.reset(hang()).is_err());
    assert_eq!(process.ended_by(), Some(9));
    assert!(device.is_quiet(false));
}

#[test]
fn a_hung_server_without_memory_of_its_own_is_quiet_and_need_not_be_killed() {
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start(&folder, "hang");
    let options = UserOptions {
        fence: true,
        ..options(20_000)
    };
    let path = folder.path().join("socket");
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let device = connect(&path, options, &memory, Arc::new(Watcher::default())).unwrap();
    assert!(device.reset(hang()).is_err());
    assert!(device.is_quiet(false), "nobody serves it");
    device.revive(soon()).unwrap();
    device.read(0, 0, &mut [0]).unwrap();
}

#[test]
fn a_process_that_keeps_its_last_connection_is_given_no_memory_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Process::start(&folder, "stay");
    let (device, watcher) = open(&folder, false);
    let late = device.reset(Deadline::after(Duration::from_millis(50)));
    assert!(matches!(late, Err(ClientError::TimedOut { .. })));
    watcher.hears_gone();
    // The other thread takes the connection.
    let error = device.revive(soon()).unwrap_err().to_string();
    let pid = server.child.id();
    let expected = format!("process {pid}, which served it before, still has");
    assert!(error.contains(&expected), "{error}");
    server.kill();
    let _next = Process::start(&folder, "hang");
    watcher.hears(|said| *said == Said::Back);
    device.revive(soon()).unwrap();
}
