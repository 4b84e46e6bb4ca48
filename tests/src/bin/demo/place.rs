//! Where the VM runs: on this machine's KVM, or in the lab host. Builds what that takes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::config::VmConfig;
use lab::artifacts::stripped;
use lab::{Job, LabHost, build_static, host_kvm_runs_linux};

use crate::process::Programs;
use crate::progress::Progress;
use crate::reboots::Reboots;
use crate::{Options, vm_folder};

/// The VM's folder in the lab host.
const FOLDER_IN_LAB: &str = "/demo";
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
    /// This machine, if its KVM runs stock Linux and the lab host is not asked for.
    pub fn choose(lab: bool) -> Self {
        if lab {
            let reason = "--lab was given".to_owned();
            return Self::Lab { reason };
        }
        match host_kvm_runs_linux() {
            Ok(()) => Self::Host,
            Err(reason) => Self::Lab { reason },
        }
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

    /// Runs the VM of `folder` through its reboots. What it reports is in `output` afterwards.
    pub fn run(&self, folder: &Path, output: &Path, options: &Options) -> Result<()> {
        say("building sundown and sundownctl, statically linked (minutes the first time)");
        match self {
            Self::Host => {
                let built = build_static(&["-p", "vmm", "--bins"])?;
                let program = |name: &str| built.get(name).cloned().unwrap_or_else(|| name.into());
                say("starting the VM");
                Reboots {
                    folder,
                    output,
                    programs: Programs {
                        sundown: program("sundown"),
                        sundownctl: program("sundownctl"),
                    },
                    policies: options.policies(),
                    deadline: Instant::now() + options.time_limit(),
                }
                .run(&mut Progress::new())
            }
            Self::Lab { .. } => run_in_lab(folder, output, options),
        }
    }
}

/// Runs this program with `--inside` in the lab host.
fn run_in_lab(folder: &Path, output: &Path, options: &Options) -> Result<()> {
    let mut command: Vec<String> = ["demo", "--inside", FOLDER_IN_LAB, "--output", "/output"]
        .map(str::to_owned)
        .to_vec();
    command.extend(["--reboots".to_owned(), options.reboots.to_string()]);
    command.extend(["--time-limit".to_owned(), options.time_limit.to_string()]);
    let mut job = Job::new(command, output).file(folder, FOLDER_IN_LAB);
    for (name, binary) in build_static(&[
        "-p",
        "vmm",
        "-p",
        "lab",
        "--bin",
        "sundown",
        "--bin",
        "sundownctl",
        "--bin",
        "demo",
    ])? {
        job = job.file(stripped(&binary)?, PathBuf::from("/usr/bin").join(name));
    }
    say("starting the lab host (its first line comes after about ten seconds)");
    let host = LabHost {
        time_limit: options.time_limit() + LAB_TIME,
        ..LabHost::default()
    };
    match host.run(&job)? {
        0 => Ok(()),
        _ => bail!(
            "the VM did not do as it should: see the lines above, and console.log and sundown.log in {}",
            output.display()
        ),
    }
}

fn say(what: &str) {
    println!("demo: {what}");
}
