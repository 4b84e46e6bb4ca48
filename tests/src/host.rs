//! The lab host: a machine with a true KVM and true VFIO that runs one command and ends.
//! L1, as opposed to L2, the guest that the command starts in it.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::artifacts::{build_static, stripped};
use crate::guest::{self, GuestImage};
use crate::image;
use crate::parts::Parts;
use crate::qemu::{Console, End, Machine};
use crate::run_folder::RunFolder;

/// An NVMe drive of the lab host, behind a root port of its own (so an IOMMU group of its
/// own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drive {
    /// Its size in MiB. It is a sparse file, empty at every start.
    pub size_mib: u64,
    /// Bound to vfio-pci rather than to the lab host's own NVMe driver.
    pub vfio: bool,
}

/// The lab host as a job wants it.
#[derive(Debug, Clone)]
pub struct LabHost {
    /// Memory in MiB; the initramfs with all files of the job lies in it too.
    pub memory_mib: u64,
    /// CPUs; more than the machine has make it slower.
    pub cpus: u32,
    /// NVMe drives.
    pub drives: Vec<Drive>,
    /// Whether it has two SATA controllers, each with a disk and bound to VFIO: functions of one slot that interrupt
    /// by MSI and have no reset of their own.
    pub sata: bool,
    /// After this it is killed and the job has failed.
    pub time_limit: Duration,
}

impl Default for LabHost {
    fn default() -> Self {
        Self {
            memory_mib: 4096,
            cpus: 2,
            drives: Vec::new(),
            sata: false,
            time_limit: Duration::from_secs(600),
        }
    }
}

/// What runs in the lab host.
///
/// In its environment: `LAB_OUTPUT` (the output folder, `/output`), `LAB_VFIO` (the PCI
/// addresses of the drives bound to VFIO) and `LAB_DRIVES` (the other drives' block
/// devices), both in the order of [`LabHost::drives`]; `LAB_SATA` (the PCI addresses of the
/// SATA controllers bound to VFIO).
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// The command and its arguments, as they are: no shell reads them.
    pub command: Vec<String>,
    /// Files or folders it needs: (on the host, in the lab host).
    pub files: Vec<(PathBuf, PathBuf)>,
    /// What it leaves in `/output` is put here, over what is there.
    pub output: PathBuf,
    /// What it takes to run guests: the stock kernel as `/lab/vmlinuz`, and this as a
    /// guest's initramfs, `/lab/guest.cpio`.
    pub guest: Option<GuestImage>,
    /// Its input and output are this process's terminal.
    pub interactive: bool,
}

impl Job {
    /// A job that runs this command and needs no files.
    pub fn new(
        command: impl IntoIterator<Item = impl Into<String>>,
        output: impl Into<PathBuf>,
    ) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            output: output.into(),
            ..Self::default()
        }
    }

    /// Adds a file or folder of the host.
    #[must_use]
    pub fn file(mut self, host: impl Into<PathBuf>, lab: impl Into<PathBuf>) -> Self {
        self.files.push((host.into(), lab.into()));
        self
    }

    /// Adds what it takes to run guests; see [`Job::guest`].
    #[must_use]
    pub fn with_guest(mut self, image: GuestImage) -> Self {
        self.guest = Some(image);
        self
    }

    /// Builds `sundown` and `sundownctl`, and puts them on the job's PATH.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn with_sundown(mut self) -> Result<Self> {
        for (name, binary) in build_static(&["-p", "vmm", "--bins"])? {
            self = self.file(stripped(&binary)?, Path::new("/usr/bin").join(name));
        }
        Ok(self)
    }
}

impl LabHost {
    /// Boots the lab host, runs the job in it, brings its output folder back, and returns
    /// its exit code. What the command prints appears on standard output as it comes.
    ///
    /// # Errors
    /// When the lab cannot be set up, when its time is over, or when it ended without the
    /// command's exit code; the error then has the end of its console.
    pub fn run(&self, job: &Job) -> Result<i32> {
        if job.command.is_empty() {
            bail!("the lab has no command to run");
        }
        if job.interactive && !stdin().is_terminal() {
            bail!("an interactive job needs a terminal; standard input is none");
        }
        let parts = Parts::ready()?;
        let folder = RunFolder::new()?;
        let initramfs = folder.path.join("l1.cpio");
        let mut files = job.files.clone();
        if let Some(image) = &job.guest {
            let guest = folder.path.join("guest.cpio");
            guest::initramfs(&guest, image)?;
            files.push((parts.vmlinuz(), "/lab/vmlinuz".into()));
            files.push((guest, "/lab/guest.cpio".into()));
        }
        image::write(&initramfs, &parts, &job.command, &files)?;
        self.check_memory(&initramfs)?;

        let result = folder.path.join("result.tar");
        let machine = Machine {
            host: self,
            qemu: &parts.qemu(),
            kernel: &parts.vmlinuz(),
            initramfs: &initramfs,
            folder: &folder.path,
            result: &result,
            console: if job.interactive {
                Console::Terminal
            } else {
                Console::StandardOutput
            },
        };
        let end = machine.run()?;
        match (end, exit_code(&result, &folder.path)?) {
            (End::TimeOver, _) => {
                let limit = self.time_limit.as_secs();
                bail!(
                    "the lab host's time limit of {limit} s was over; set a longer one (--time-limit) if the job needs it{}",
                    folder.keep()
                )
            }
            (End::Stopped, _) => {
                bail!(
                    "the CPUs of the lab host halted and nothing woke them, as now and then happens to an emulated machine; try again{}",
                    folder.keep()
                )
            }
            (End::Exited, None) => {
                bail!("the lab host ended before the command did{}", folder.keep())
            }
            (End::Exited, Some(code)) => {
                bring_back(&result, &job.output)?;
                Ok(code)
            }
        }
    }

    /// Unpacking takes the archive and its contents at once; the kernel says only "no
    /// space", and late.
    fn check_memory(&self, initramfs: &Path) -> Result<()> {
        let size = fs::metadata(initramfs)
            .context("could not read the lab host's initramfs back")?
            .len()
            >> 20;
        let least = 3 * size + 256;
        if self.memory_mib < least {
            bail!(
                "the lab host has {} MiB of memory, but files of {size} MiB go into it: give it {least} MiB or more (--memory)",
                self.memory_mib
            );
        }
        Ok(())
    }
}

/// The exit code that L1's init put first into its result, if it came that far.
fn exit_code(result: &Path, folder: &Path) -> Result<Option<i32>> {
    if fs::metadata(result).map_or(0, |metadata| metadata.len()) == 0 {
        return Ok(None);
    }
    let output = Command::new("tar")
        .arg("-xOf")
        .arg(result)
        .arg("exit-code")
        .current_dir(folder)
        .output()
        .context("could not run tar")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

fn bring_back(result: &Path, output: &Path) -> Result<()> {
    fs::create_dir_all(output)
        .with_context(|| format!("could not make the output folder {}", output.display()))?;
    let status = Command::new("tar")
        .args(["-x", "--no-same-owner", "--strip-components=1", "-C"])
        .arg(output)
        .arg("-f")
        .arg(result)
        .arg("output")
        .status()
        .context("could not run tar")?;
    if !status.success() {
        bail!(
            "could not bring the job's output back to {}: is the disk full?",
            output.display()
        );
    }
    Ok(())
}
