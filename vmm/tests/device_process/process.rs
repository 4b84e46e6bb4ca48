//! A `sundown-nvme` that does not outlive its test.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use tempfile::TempDir;

/// A wait that ends long before in every test that passes.
pub const SOON: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// A running process with a drive of 1 MiB.
pub struct Process {
    folder: TempDir,
    child: Child,
}

/// A program of this package that goes when the test goes, however it went. In the lab host, where there is no
/// util-linux, everything goes then, and it is on the PATH.
pub fn program(path: &'static str) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() {
        return Command::new(Path::new(path).file_name().unwrap());
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--", path]);
    command
}

fn command(folder: &Path) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_sundown-nvme"));
    command
        .arg("--socket")
        .arg(folder.join("socket"))
        .arg("--config")
        .arg(folder.join("drive.json"))
        .args(["--queues", "2", "--log", "debug"]);
    command
}

/// A folder with a drive and its configuration.
fn drive(id: &str) -> TempDir {
    drive_with(id, "")
}

/// The same, with more fields of the configuration.
fn drive_with(id: &str, fields: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let config = format!(
        r#"{{ "type": "nvme", "id": "{id}", {fields} "namespaces": [{{ "path": "{}" }}] }}"#,
        disk.display()
    );
    fs::write(folder.path().join("drive.json"), config).unwrap();
    folder
}

impl Process {
    /// Starts a process whose drive has this id.
    pub fn start(id: &str) -> Self {
        Self::start_with(id, &[])
    }

    /// The same, with more options.
    pub fn start_with(id: &str, options: &[&str]) -> Self {
        Self::start_in(drive(id), options)
    }

    /// The same, with more fields of the drive's configuration.
    pub fn start_as(id: &str, fields: &str) -> Self {
        Self::start_in(drive_with(id, fields), &[])
    }

    fn start_in(folder: TempDir, options: &[&str]) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command(folder.path())
            .args(options)
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    /// Has it hang: it is there, and does nothing any more once this returns.
    pub fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
        let started = Instant::now();
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        for task in fs::read_dir(tasks).unwrap() {
            while state(&task.as_ref().unwrap().path()) != Some('T') {
                assert!(started.elapsed() < SOON, "it does not stop");
                sleep(POLL);
            }
        }
    }

    /// Lets it go on after [`Process::stop`].
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Kills it, without a chance to do anything about that.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew on the same drive, after it was killed.
    pub fn restart(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        self.child = command(self.folder.path()).stderr(log).spawn().unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Comes to it, once it listens.
    pub fn connect(&self) -> UnixStream {
        let started = Instant::now();
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(socket) => return socket,
                Err(error) => assert!(started.elapsed() < SOON, "{error}\n{}", self.log()),
            }
            sleep(POLL);
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many descriptors it has, once that has not changed for a while.
    pub fn settled_descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let count = || fs::read_dir(&folder).unwrap().count();
        let started = Instant::now();
        let (mut last, mut since) = (count(), Instant::now());
        while since.elapsed() < Duration::from_millis(500) {
            assert!(started.elapsed() < SOON, "{}", self.log());
            sleep(POLL);
            let now = count();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// What a second process on the same socket, with a drive of its own, says before it ends: its exit code
    /// and its last words.
    pub fn try_another(&self) -> (i32, String) {
        let folder = drive("another");
        let output = Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_sundown-nvme"), "--socket"])
            .arg(self.socket())
            .arg("--config")
            .arg(folder.path().join("drive.json"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    }

    /// Ends it as a service manager does; its exit code.
    pub fn terminate(&mut self) -> i32 {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(started.elapsed() < SOON, "{}", self.log());
            sleep(POLL);
        }
    }

    /// Exit code and last words of a process with this configuration.
    pub fn refused(config: &str) -> (i32, String) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("drive.json"), config).unwrap();
        let output = command(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    }
}

/// What a thread is doing, by the letter that the kernel has for it; none if it has ended.
pub fn state(task: &Path) -> Option<char> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
