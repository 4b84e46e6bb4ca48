//! Where the VM runs: on this machine's KVM, or in the lab host. Builds what that takes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::config::VmConfig;
use lab::artifacts::stripped;
use lab::{Drive, Job, LabHost, build_static, host_kvm_runs_linux};

use crate::run_script::{self, SCRIPT};
use crate::{Options, results, vm_folder};

/// The VM's folder in the lab host.
const FOLDER_IN_LAB: &str = "/demo";
/// Size of a drive of the lab host that is passed through.
const DRIVE_MIB: u64 = 16;
/// Exit code of `sundownctl measure`: not all could be measured.
const NOT_ALL_MEASURED: i32 = 1;
/// What the lab host itself may take beyond the VM's time limit.
const LAB_TIME: Duration = Duration::from_secs(120);

/// Where the VM runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// On this machine's KVM.
    Host,
    /// In the lab host.
    Lab {
        /// Why not on this machine's KVM.
        reason: String,
    },
}

impl Place {
    /// This machine, if its KVM runs stock Linux and the lab host is not asked for. Drives to pass through are the
    /// lab host's, unless the user names some.
    ///
    /// # Errors
    /// Drives of this machine are named, and its KVM cannot be used.
    pub fn choose(options: &Options) -> Result<Self> {
        if !options.devices.is_empty() {
            return match host_kvm_runs_linux() {
                Ok(()) => Ok(Self::Host),
                Err(reason) => bail!(
                    "drives of this machine can be passed through on its own KVM alone, which cannot be used ({reason}); \
                     leave --devices out to use the lab host's"
                ),
            };
        }
        let reason = if options.lab {
            "--lab was given".to_owned()
        } else if options.vfio {
            "it has drives to pass through".to_owned()
        } else {
            match host_kvm_runs_linux() {
                Ok(()) => return Ok(Self::Host),
                Err(reason) => reason,
            }
        };
        Ok(Self::Lab { reason })
    }

    /// Says where the VM will run, and makes the folder it runs in.
    pub fn prepare(&self, folder: &Path, options: &Options) -> Result<VmConfig> {
        match self {
            Self::Host => say("the VM will run on this machine's KVM"),
            Self::Lab { reason } => say(&format!(
                "the VM will run in the lab host, an emulated machine with a KVM of its own ({reason})"
            )),
        }
        say("preparing a stock Debian kernel and an initramfs (fetched once)");
        vm_folder::prepare(folder, options)
    }

    /// Runs the script of `folder`. What it leaves is in `output` afterwards.
    pub fn run(&self, folder: &Path, output: &Path, options: &Options) -> Result<()> {
        say("building sundown and sundownctl, statically linked (minutes the first time)");
        let built = build_static(&["-p", "vmm", "--bins"])?;
        let code = match self {
            Self::Host => {
                let folders = built.values().filter_map(|program| program.parent());
                run_here(folder, output, folders, &options.devices)?
            }
            Self::Lab { .. } => {
                let script = format!("{FOLDER_IN_LAB}/{SCRIPT}");
                let mut job = Job::new(["sh", &script, "/output"], output);
                job = job.file(folder, FOLDER_IN_LAB);
                for (name, binary) in built {
                    job = job.file(stripped(&binary)?, PathBuf::from("/usr/bin").join(name));
                }
                let drive = Drive {
                    size_mib: DRIVE_MIB,
                    vfio: true,
                };
                let drives = if options.vfio { vm_folder::DRIVES } else { 0 };
                let host = LabHost {
                    time_limit: options.time_limit() + LAB_TIME,
                    drives: vec![drive; drives],
                    ..LabHost::default()
                };
                in_lab(&host, &job, output)?
            }
        };
        if code != 0 {
            bail!(
                "the VM did not do as it should (exit code {code} of sundownctl measure): see the lines above, \
                 and console.log and sundown.log in {}",
                output.display()
            );
        }
        Ok(())
    }
}

/// Runs the job in the lab host; once more if not all of it could be done, since the emulated host now and then corrupts a
/// guest. What was done and found wrong is not tried again.
fn in_lab(host: &LabHost, job: &Job, output: &Path) -> Result<i32> {
    say("starting the lab host (its first line comes after about ten seconds)");
    match host.run(job) {
        Ok(NOT_ALL_MEASURED) => say("the VM did not get to its end"),
        Err(error) => say(&format!("{error:#}")),
        ended => return ended,
    }
    say("the emulated host now and then corrupts a guest: starting another one, once");
    results::clear(output)?;
    host.run(job)
}

/// Runs the script on this machine, with `programs` before what is on PATH. It passes `devices` through.
fn run_here<'a>(
    folder: &Path,
    output: &Path,
    programs: impl Iterator<Item = &'a Path>,
    devices: &[String],
) -> Result<i32> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = programs.map(Path::to_owned).chain(env::split_paths(&path));
    let path = env::join_paths(path).context("could not put the programs on PATH")?;
    let script = folder.join(SCRIPT);
    say("starting the VM");
    let status = Command::new("sh")
        .arg(&script)
        .arg(output)
        .env("PATH", path)
        .env(run_script::DEVICES, devices.join(" "))
        .status()
        .with_context(|| format!("could not run {}", script.display()))?;
    Ok(status.code().unwrap_or(1))
}

fn say(what: &str) {
    println!("demo: {what}");
}
