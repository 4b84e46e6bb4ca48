//! Drives served by `sundown-nvme`, machines of QEMU that use them, and what their consoles say.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::artifacts::build_here;
use lab::guest::{self, GuestImage};
use lab::parts::Parts;
use lab::workspace;

/// An emulated machine on a busy host takes its time.
const TIME_LIMIT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(50);

fn folder() -> PathBuf {
    let folder = workspace::lab_target().join("tests/device-process");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What all machines share: made once.
struct Built {
    program: PathBuf,
    initramfs: PathBuf,
    parts: Parts,
}

fn built() -> &'static Built {
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

/// A child process that does not outlive its test.
struct Ending(Child);

impl Ending {
    /// Its exit code, waited for.
    fn wait(&mut self, what: &str, log: &Path) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            let log = || fs::read_to_string(log).unwrap_or_default();
            assert!(
                started.elapsed() < TIME_LIMIT,
                "{what} does not end:\n{}",
                log()
            );
            sleep(POLL);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A drive of 8 MiB, served by a process.
pub struct Drive {
    socket: PathBuf,
    log: PathBuf,
    process: Ending,
}

impl Drive {
    /// Makes an empty drive and serves it, its doorbells rung as `doorbells` says.
    pub fn serve(name: &str, doorbells: &str) -> Self {
        let built = built();
        let [disk, config, socket, log] =
            ["raw", "json", "sock", "log"].map(|kind| folder().join(format!("{name}.{kind}")));
        let _ = fs::remove_file(&disk);
        File::create(&disk).unwrap().set_len(8 << 20).unwrap();
        let text = format!(
            r#"{{ "type": "nvme", "id": "{name}", "namespaces": [{{ "path": "{}" }}] }}"#,
            disk.display()
        );
        fs::write(&config, text).unwrap();
        let process = Command::new(&built.program)
            .arg("--socket")
            .arg(&socket)
            .arg("--config")
            .arg(&config)
            .args(["--log", "debug", "--doorbells", doorbells])
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let drive = Self {
            socket,
            log,
            process: Ending(process),
        };
        let started = Instant::now();
        while !drive.log().contains("serving") {
            assert!(started.elapsed() < TIME_LIMIT, "{}", drive.log());
            sleep(POLL);
        }
        drive
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the process as a service manager does.
    pub fn stop(mut self) {
        let id = self.process.0.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(killed.success());
        let code = self.process.wait("sundown-nvme", &self.log);
        assert_eq!(code, Some(0), "{}", self.log());
        assert!(!self.socket.exists(), "the socket is removed");
    }
}

/// A machine of QEMU with drives.
pub struct Machine<'a> {
    pub name: &'a str,
    pub sockets: &'a [&'a Drive],
    /// What stands on the kernel's command line, beside what all have.
    pub kernel: &'a str,
}

impl Machine<'_> {
    /// Runs until the guest switches itself off.
    pub fn run(&self) -> Console {
        let built = built();
        let console = folder().join(format!("{}.console", self.name));
        let log = folder().join(format!("{}.qemu", self.name));
        let drives = self.sockets.len();
        let kernel = format!(
            "console=ttyS0 panic=-1 sundown.drives={drives} sundown.wait=60 {}",
            self.kernel
        );
        let mut command = Command::new(built.parts.qemu());
        command
            .args(["-machine", "q35,memory-backend=ram", "-accel", "tcg"])
            .args(["-cpu", "max", "-smp", "2", "-m", "512M"])
            .args(["-object", "memory-backend-memfd,id=ram,size=512M,share=on"])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(built.parts.vmlinuz())
            .arg("-initrd")
            .arg(&built.initramfs)
            .args(["-append", &kernel]);
        for drive in self.sockets {
            let socket = drive.socket.display();
            command.arg("-device").arg(format!(
                r#"{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":"{socket}"}}}}"#
            ));
        }
        let _ = fs::remove_file(&console);
        let machine = command
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let code = Ending(machine).wait("QEMU", &console);
        let qemu = fs::read_to_string(&log).unwrap();
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        assert_eq!(code, Some(0), "{qemu}\n{text}");
        Console { text, qemu }
    }
}

/// What a machine's guest and QEMU itself said.
pub struct Console {
    text: String,
    qemu: String,
}

impl Console {
    /// What the guest's job said under `key`, in order.
    pub fn said(&self, key: &str) -> Vec<&str> {
        let begin = format!("SUNDOWN: {key} ");
        let lines = self.text.lines();
        lines
            .filter_map(|line| Some(line.split_once(&begin)?.1.trim_end()))
            .collect()
    }

    /// Lines of the kernel about trouble with a drive, and all that QEMU says of one.
    pub fn complaints(&self) -> Vec<&str> {
        const TROUBLE: [&str; 5] = ["timeout", "error", "fail", "abort", "reset"];
        let lines = self.text.lines().filter(|line| {
            let line = line.to_lowercase();
            line.contains("nvme") && TROUBLE.iter().any(|word| line.contains(word))
        });
        lines.chain(self.qemu.lines()).collect()
    }
}

impl fmt::Display for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "QEMU: {}\n{}", self.qemu, self.text)
    }
}
