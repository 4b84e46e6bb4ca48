//! Machines of QEMU that use drives of other processes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use lab::artifacts::build_here;
use lab::guest::{self, GuestImage};
use lab::parts::Parts;
use lab::workspace;

use crate::console::Console;
use crate::drive::Drive;

/// For a machine, from its start to its end: an emulated one on a busy host takes its time.
pub const TIME_LIMIT: Duration = Duration::from_secs(150);
pub const POLL: Duration = Duration::from_millis(50);
/// U-Boot knows what is in the slots below on a PC, and looks for nothing else there.
const FIRST_SLOT: u32 = 5;
/// What is shown of a log when a test fails.
const LAST_LINES: usize = 60;

/// The folder that all logs and disks are left in.
pub fn folder() -> PathBuf {
    let folder = workspace::lab_target().join("tests/device-process");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What all machines share: made once.
pub struct Built {
    /// `sundown-nvme`.
    pub program: PathBuf,
    /// A guest with the jobs that all guests have, and those of this test.
    pub initramfs: PathBuf,
    pub parts: Parts,
}

pub fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut programs = build_here(&["-p", "vmm", "--bin", "sundown-nvme"]).unwrap();
        let initramfs = folder().join("guest.cpio");
        guest::initramfs(&initramfs, &GuestImage::default()).unwrap();
        Built {
            program: programs.remove("sundown-nvme").unwrap(),
            initramfs,
            parts: Parts::ready().unwrap(),
        }
    })
}

/// The last lines of a log, for a test that fails.
pub fn end_of(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(LAST_LINES);
    format!("({})\n{}\n", log.display(), lines[first..].join("\n"))
}

/// A child process that does not outlive its test, nor the process of the tests.
pub struct Ending(Child);

impl Ending {
    /// A command whose process is killed when the thread that started it ends, however it does.
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Starts what [`Ending::command`] has given.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// How it has ended, waited for; none if it does not end in time.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < TIME_LIMIT {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            sleep(POLL);
        }
        None
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a machine starts with.
pub enum Boot<'a> {
    /// The stock kernel, brought by QEMU itself, and what stands on its command line beside what all have.
    Kernel(&'a Path, &'a str),
    /// UEFI's reference implementation, which boots from a drive.
    Ovmf,
    /// U-Boot, which is told what to do.
    Uboot,
}

impl Boot<'_> {
    /// QEMU's machine: U-Boot is made for the older one.
    fn machine(&self) -> &'static str {
        match self {
            Self::Kernel(..) | Self::Ovmf => "q35",
            Self::Uboot => "pc",
        }
    }
}

/// A machine of QEMU with drives.
pub struct Machine<'a> {
    pub name: &'a str,
    pub drives: &'a [&'a Drive],
    pub boot: Boot<'a>,
}

impl<'a> Machine<'a> {
    /// A machine with the stock kernel and the guest that the lab's machines have.
    pub fn linux(name: &'a str, drives: &'a [&'a Drive], words: &'a str) -> Self {
        Self {
            name,
            drives,
            boot: Boot::Kernel(&built().initramfs, words),
        }
    }

    /// Runs until the guest switches itself off.
    pub fn run(&self) -> Console {
        self.start().wait()
    }

    /// Starts QEMU.
    pub fn start(&self) -> Running<'a> {
        let [console, log] =
            ["console", "qemu"].map(|kind| folder().join(format!("{}.{kind}", self.name)));
        let mut command = Ending::command(&built().parts.qemu());
        command
            .arg("-machine")
            .arg(format!("{},memory-backend=ram", self.boot.machine()))
            // One thread for all CPUs: with one for each, a busy host now and then sees a machine that
            // takes no interrupts, of whatever device, from its start on.
            .args(["-accel", "tcg,thread=single"])
            .args(["-cpu", "max", "-smp", "2", "-m", "512M"])
            .args(["-object", "memory-backend-memfd,id=ram,size=512M,share=on"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-chardev", "stdio,id=console,signal=off"])
            .args(["-serial", "chardev:console"]);
        self.add_boot(&mut command);
        for (slot, drive) in (FIRST_SLOT..).zip(self.drives) {
            let socket = drive.socket().display();
            command.arg("-device").arg(format!(
                r#"{{"driver":"vfio-user-pci","addr":"{slot}","socket":{{"type":"unix","path":"{socket}"}}}}"#
            ));
        }
        command
            .stdin(Stdio::piped())
            .stdout(File::create(&console).unwrap())
            .stderr(File::create(&log).unwrap());
        let mut process = Ending::start(&mut command);
        Running {
            keys: process.0.stdin.take().unwrap(),
            process,
            started: Instant::now(),
            seen: 0,
            console,
            log,
            drives: self.drives.to_vec(),
        }
    }

    fn add_boot(&self, command: &mut Command) {
        let parts = &built().parts;
        match self.boot {
            Boot::Kernel(initramfs, words) => {
                let drives = self.drives.len();
                command.arg("-kernel").arg(parts.vmlinuz());
                command.arg("-initrd").arg(initramfs);
                command.arg("-append").arg(format!(
                    "console=ttyS0 panic=-1 sundown.drives={drives} sundown.wait=60 {words}"
                ));
            }
            Boot::Ovmf => {
                let variables = folder().join(format!("{}.variables", self.name));
                fs::copy(parts.ovmf_variables(), &variables).unwrap();
                let code = parts.ovmf();
                for (options, file) in [("readonly=on", &code), ("readonly=off", &variables)] {
                    command.arg("-drive").arg(format!(
                        "if=pflash,format=raw,{options},file={}",
                        file.display()
                    ));
                }
            }
            Boot::Uboot => {
                command.arg("-bios").arg(parts.u_boot());
            }
        }
    }
}

/// A machine that runs.
pub struct Running<'a> {
    process: Ending,
    keys: ChildStdin,
    started: Instant,
    /// How much of the console's text has been looked at.
    seen: usize,
    console: PathBuf,
    log: PathBuf,
    drives: Vec<&'a Drive>,
}

impl Running<'_> {
    /// Waits until the guest switches the machine off.
    pub fn wait(mut self) -> Console {
        loop {
            if let Some(status) = self.process.ended() {
                assert!(status.success(), "QEMU: {status}\n{}", self.last_words());
                return self.said();
            }
            self.check_time("the machine to end");
        }
    }

    /// Waits for what `look` finds.
    pub fn wait_until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = look() {
                return found;
            }
            let ended = self.process.ended();
            assert!(ended.is_none(), "{ended:?}: {what}\n{}", self.last_words());
            self.check_time(what);
        }
    }

    /// Waits until the console says `words`, and gives what it said since the last time, up to there.
    pub fn wait_for(&mut self, words: &str) -> String {
        let (console, seen) = (self.console.clone(), self.seen);
        let said = self.wait_until(words, || {
            let text = Console::text_of(&console);
            let rest = text.get(seen..)?;
            Some(rest[..rest.find(words)? + words.len()].to_owned())
        });
        self.seen += said.len();
        said
    }

    /// Types on the machine's console.
    pub fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Kills QEMU, wherever it stands.
    pub fn kill(mut self) -> Console {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        self.said()
    }

    fn said(&self) -> Console {
        Console::read(&self.console, &self.log, &self.drives)
    }

    fn check_time(&self, what: &str) {
        let spent = self.started.elapsed();
        assert!(
            spent < TIME_LIMIT,
            "{spent:?} are over, still waiting: {what}\n{}",
            self.last_words()
        );
        sleep(POLL);
    }

    fn last_words(&self) -> String {
        self.said().to_string()
    }
}
