//! The QEMU that the lab host is: its command line, its end, its time limit.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::LabHost;
use crate::pulse::Pulse;

/// L1's kernel console, in the run's folder.
pub(crate) const CONSOLE_LOG: &str = "console.log";
/// What QEMU itself says, in the run's folder.
pub(crate) const QEMU_LOG: &str = "qemu.log";

const POLL: Duration = Duration::from_millis(20);
/// A machine whose CPUs have done nothing for so long does nothing any more.
const STILL: Duration = Duration::from_secs(60);
/// Linux's own thread that gathers huge pages was seen to stop for good in the emulated host, and others
/// behind it: it has nothing to do here. A task that hangs for two minutes ends the host, which is then
/// started again, long before its time limit.
const SOUND: &str = "transparent_hugepage=never hung_task_panic=1";
/// Slots of the root bus that root ports take, from the first one on; the others hold the
/// console, and what QEMU's machine puts there itself.
const FIRST_SLOT: usize = 4;
/// The port of the SATA controllers is before them.
const SATA_SLOT: usize = 3;
const SATA_FUNCTIONS: usize = 2;
const SATA_MIB: u64 = 16;
const SLOTS: usize = 24;
const FUNCTIONS: usize = 8;

/// Where the command's input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Console {
    StandardOutput,
    Terminal,
}

/// How a lab host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited,
    TimeOver,
    /// Its CPUs had halted for good.
    Stopped,
}

/// One run's machine.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub host: &'a LabHost,
    /// The program.
    pub qemu: &'a Path,
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub folder: &'a Path,
    /// Where L1's init writes the exit code and the output folder, as a tar file.
    pub result: &'a Path,
    pub console: Console,
}

impl Machine<'_> {
    /// Starts QEMU and waits for its end.
    pub(crate) fn run(&self) -> Result<End> {
        let log = self.folder.join(QEMU_LOG);
        let log =
            File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
        // setpriv: QEMU goes when this process goes, however it went.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(self.qemu)
            .args(self.arguments()?)
            .stdin(if self.console == Console::Terminal {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stderr(log)
            .spawn()
            .context("could not start QEMU through setpriv (util-linux)")?;
        self.wait(&mut child)
    }

    fn wait(&self, child: &mut Child) -> Result<End> {
        let started = Instant::now();
        let mut pulse = Pulse::of(child.id());
        loop {
            let ended = child.try_wait().context("could not wait for QEMU")?;
            if ended.is_some() {
                return Ok(End::Exited);
            }
            let end = if started.elapsed() >= self.host.time_limit {
                End::TimeOver
            } else if pulse.has_stopped(STILL) {
                End::Stopped
            } else {
                sleep(POLL);
                continue;
            };
            child.kill().context("could not kill QEMU")?;
            child.wait().context("could not wait for QEMU")?;
            return Ok(end);
        }
    }

    fn arguments(&self) -> Result<Vec<String>> {
        let mut line = Line::default();
        line.add("-machine", "q35,kernel-irqchip=split");
        line.add("-accel", "tcg,thread=multi,tb-size=1024");
        line.add("-cpu", "EPYC-Rome,+svm,+npt");
        line.add("-m", format!("{}M", self.host.memory_mib));
        line.add("-smp", self.host.cpus.to_string());
        line.0
            .extend(["-nodefaults", "-no-reboot"].map(str::to_owned));
        line.add("-display", "none");
        line.add(
            "-serial",
            format!("file:{}", text(&self.folder.join(CONSOLE_LOG))?),
        );
        line.add("-kernel", text(self.kernel)?);
        line.add("-initrd", text(self.initramfs)?);
        line.add("-append", self.command_line());
        line.add("-device", "intel-iommu,intremap=on");

        line.add("-device", "virtio-serial-pci,addr=0x2");
        line.add("-chardev", "stdio,id=console,signal=off");
        line.add("-device", "virtconsole,chardev=console");
        line.add(
            "-chardev",
            format!("file,id=result,path={}", text(self.result)?),
        );
        line.add("-device", "virtserialport,chardev=result,name=lab.result");
        self.add_drives(&mut line)?;
        if self.host.sata {
            self.add_sata(&mut line)?;
        }
        Ok(line.0)
    }

    fn command_line(&self) -> String {
        let mut line = format!("console=ttyS0 panic=-1 quiet intel_iommu=on {SOUND}");
        let drives = &self.host.drives;
        line.push_str(&format!(" lab.drives={}", drives.len()));
        let vfio: Vec<_> = drives
            .iter()
            .enumerate()
            .filter(|(_, drive)| drive.vfio)
            .map(|(number, _)| serial(number))
            .collect();
        line.push_str(&format!(" lab.vfio={}", vfio.join(",")));
        if let Some((rows, columns)) = terminal_size() {
            line.push_str(&format!(" lab.terminal={rows},{columns}"));
        }
        if self.console == Console::Terminal {
            line.push_str(" lab.interactive");
        }
        line
    }

    fn add_drives(&self, line: &mut Line) -> Result<()> {
        let drives = &self.host.drives;
        if drives.len() > SLOTS * FUNCTIONS {
            bail!(
                "the lab host takes {} drives at most; {} were asked for",
                SLOTS * FUNCTIONS,
                drives.len()
            );
        }
        let shared_slots = if drives.len() > SLOTS {
            ",multifunction=on"
        } else {
            ""
        };
        for (number, drive) in drives.iter().enumerate() {
            let serial = serial(number);
            let file = self.sparse_file(&serial, drive.size_mib)?;
            let (slot, function) = (FIRST_SLOT + number % SLOTS, number / SLOTS);
            line.add(
                "-device",
                format!(
                    "pcie-root-port,id=port-{serial},chassis={},addr={slot:#x}.{function}{shared_slots}",
                    number + 1
                ),
            );
            line.add(
                "-drive",
                format!(
                    "if=none,id={serial},format=raw,cache=unsafe,file={}",
                    text(&file)?
                ),
            );
            line.add(
                "-device",
                format!("nvme,drive={serial},serial={serial},bus=port-{serial}"),
            );
        }
        Ok(())
    }

    fn add_sata(&self, line: &mut Line) -> Result<()> {
        line.add(
            "-device",
            format!("pcie-root-port,id=port-sata,chassis=255,addr={SATA_SLOT:#x}"),
        );
        for function in 0..SATA_FUNCTIONS {
            let name = format!("sata{function}");
            let file = self.sparse_file(&name, SATA_MIB)?;
            line.add(
                "-device",
                format!("ich9-ahci,id={name},bus=port-sata,addr=0.{function},multifunction=on"),
            );
            line.add(
                "-drive",
                format!(
                    "if=none,id={name}-disk,format=raw,cache=unsafe,file={}",
                    text(&file)?
                ),
            );
            line.add(
                "-device",
                format!("ide-hd,drive={name}-disk,serial={name},bus={name}.0"),
            );
        }
        Ok(())
    }

    fn sparse_file(&self, serial: &str, size_mib: u64) -> Result<PathBuf> {
        let path = self.folder.join(format!("{serial}.img"));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .and_then(|file| file.set_len(size_mib << 20))
            .with_context(|| {
                format!(
                    "could not make a drive of {size_mib} MiB for the lab host, {}",
                    path.display()
                )
            })?;
        Ok(path)
    }
}

/// Rows and columns of the terminal that standard output is, if it is one.
fn terminal_size() -> Option<(u16, u16)> {
    if !stdout().is_terminal() {
        return None;
    }
    let output = Command::new("stty")
        .args(["-F", "/dev/tty", "size"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
        .filter(|&(rows, columns)| rows > 0 && columns > 0)
}

/// L1's init finds a drive by it.
fn serial(number: usize) -> String {
    format!("lab{number}")
}

#[derive(Debug, Default)]
struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }
}

/// A path as QEMU's options take it, in which a comma ends the value.
fn text(path: &Path) -> Result<String> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    match path.to_str() {
        Some(text) => Ok(text.replace(',', ",,")),
        None => bail!("QEMU takes no path that is not UTF-8: {}", path.display()),
    }
}
