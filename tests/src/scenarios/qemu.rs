//! A machine of QEMU to be measured against: the kernel, the jobs and the orders are those of our own guests.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Stage;
use super::console::{Console, answer};

const BOOT: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(60);

/// What such a machine is made of.
pub(super) struct Guest<'a> {
    /// Names its folder.
    pub(super) name: &'a str,
    pub(super) initramfs: &'a Path,
    pub(super) memory_mib: u64,
    /// Namespaces that the guest must see before it takes orders.
    pub(super) drives: usize,
    /// Options beside those that every machine has.
    pub(super) options: Vec<String>,
}

/// A machine of QEMU, which ends with it.
pub(super) struct Qemu {
    child: Child,
    pub(super) console: Console,
    drives: usize,
    orders: u64,
}

impl Qemu {
    /// Starts it and waits until its guest takes orders.
    pub(super) fn start(stage: &Stage, guest: &Guest<'_>) -> Result<Self> {
        let files = &stage.files;
        let folder = stage.folder().join(format!("sundown-qemu-{}", guest.name));
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not make {}", folder.display()))?;
        let mut child = Command::new(&files.qemu)
            .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host"])
            .args(["-smp", "1", "-m", &format!("{}M", guest.memory_mib)])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&files.kernel)
            .arg("-initrd")
            .arg(guest.initramfs)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 sundown.job=obey sundown.drives={}",
                guest.drives
            ))
            .args(&guest.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", files.qemu.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("QEMU has no pipes")?;
        let console = Console::follow(input, output, &folder.join("console.log"))?;
        let mut qemu = Self {
            child,
            console,
            drives: guest.drives,
            orders: 0,
        };
        qemu.wait_until_ready()?;
        Ok(qemu)
    }

    /// Waits until the guest has booted and sees its drives.
    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let by = Instant::now() + BOOT;
        let seen = format!("SUNDOWN: namespaces {}", self.drives);
        self.console
            .wait_for("QEMU's guest", by, |line| (line == seen).then_some(()))
    }

    /// Gives the guest a command and does not wait for its end.
    pub(super) fn order(&mut self, command: &str) -> Result<()> {
        self.orders += 1;
        self.console
            .type_line(&format!("{} {command}", self.orders))
    }

    /// Has the guest run a command. Returns what it printed; a status other than 0 is an error.
    pub(super) fn run(&mut self, command: &str) -> Result<Vec<String>> {
        self.order(command)?;
        let by = Instant::now() + ANSWER;
        answer(&mut self.console, self.orders, command, by)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What QEMU says of its version.
pub(super) fn version(qemu: &Path) -> Result<String> {
    let output = Command::new(qemu)
        .arg("--version")
        .output()
        .with_context(|| format!("could not run {}", qemu.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines()
        .next()
        .map(str::to_owned)
        .context("QEMU does not say its version")
}
