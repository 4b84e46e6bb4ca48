//! Takes scenarios and measurements to where a KVM is, and their results back: into the lab host, or
//! straight to this machine where its own KVM runs Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::artifacts::{build_static, stripped};
use crate::guest::{self, GuestImage};
use crate::host::{Drive, Job, LabHost};
use crate::kvm::host_kvm_runs_linux;
use crate::parts::Parts;
use crate::scenarios::all;
use crate::scenarios::compare::{COMPARISON, Comparison};
use crate::scenarios::figures::{FIGURES, Figure};
use crate::scenarios::passthrough::table::{PICTURE, REBOOTS, Row};
use crate::scenarios::result::{Outcome, RESULTS};
use crate::{vmlinux, workspace};

/// No scenario of a lab host begins after this many seconds.
const SCENARIOS_LIMIT: u64 = 900;
/// For the scenario that has begun by then, and the lab host itself.
const GRACE: u64 = 300;
/// The emulated host corrupts a nested guest, or itself, about once in fifty boots of a guest. So a lab
/// host does not live for long, one that died is started again, and a scenario that failed in it is
/// tried again; its notes and the log say so.
const SCENARIOS_A_HOST: usize = 8;
const ATTEMPTS: u32 = 3;
/// Drives that a lab host has for scenarios that pass some through, and their size in MiB.
const PASSED_THROUGH: usize = 8;
const PASSED_THROUGH_MIB: u64 = 64;
const FIGURES_LIMIT: u64 = 1500;
/// The largest machine measured has 8 GiB, all of it in use.
const FIGURES_MEMORY_MIB: u64 = 12 << 10;
/// Where figures come from.
const MACHINE: &str = "this machine";
const LAB: &str = "the lab host, emulated";
/// The option of `scenarios` that has it compare.
const AGAINST_QEMU: &str = "--against-qemu";
/// The option that has it measure reboots.
const PASSTHROUGH: &str = "--passthrough";
/// Two guests, their drives, and QEMU.
const COMPARISON_MEMORY_MIB: u64 = 5 << 10;

/// Runs the scenarios of these names. Their progress appears on standard output.
///
/// # Errors
/// When they could not be run; how each ended is in the outcomes.
pub fn run(names: &[String], output: &Path) -> Result<Vec<Outcome>> {
    // An older run's results must not be taken for this one's.
    let _ = fs::remove_dir_all(output);
    let options = |attempts: u32| {
        [
            "--time-limit",
            &SCENARIOS_LIMIT.to_string(),
            "--attempts",
            &attempts.to_string(),
        ]
        .map(str::to_owned)
    };
    let in_lab_host = |names: &[String]| [&options(ATTEMPTS)[..], names].concat();
    let (vfio, kvm): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| needs_vfio(name));
    let mut outcomes = Vec::with_capacity(names.len());
    if host_kvm_runs_linux().is_ok() && !kvm.is_empty() {
        here(&[&options(1)[..], &kvm].concat(), output)?;
        outcomes.extend(read::<Outcome>(&output.join(RESULTS))?);
    } else {
        outcomes.extend(in_lab_hosts(&lab_host(0), &kvm, in_lab_host, output)?);
    }
    // Whatever this machine's own KVM can do: drives to pass through are in the lab host alone.
    let host = lab_host(PASSED_THROUGH);
    outcomes.extend(in_lab_hosts(&host, &vfio, in_lab_host, output)?);
    // Each lab host has left its own.
    let results = output.join(RESULTS);
    let text = serde_json::to_vec_pretty(&outcomes).context("could not write the results")?;
    fs::write(&results, text).with_context(|| format!("could not write {}", results.display()))?;
    Ok(outcomes)
}

fn needs_vfio(name: &str) -> bool {
    let all = all();
    let scenario = all.iter().find(|scenario| scenario.name == name);
    scenario.is_some_and(|scenario| scenario.vfio)
}

/// A lab host with so many drives that are bound to VFIO.
fn lab_host(drives: usize) -> LabHost {
    let drive = Drive {
        size_mib: PASSED_THROUGH_MIB,
        vfio: true,
    };
    LabHost {
        drives: vec![drive; drives],
        sata: drives > 0,
        time_limit: Duration::from_secs(SCENARIOS_LIMIT + GRACE),
        ..LabHost::default()
    }
}

/// Runs scenarios in lab hosts like `host`, a few in each.
fn in_lab_hosts(
    host: &LabHost,
    names: &[String],
    arguments: impl Fn(&[String]) -> Vec<String>,
    output: &Path,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(names.len());
    for names in names.chunks(SCENARIOS_A_HOST) {
        let arguments = arguments(names);
        if let Err(error) = in_lab(host, arguments.clone(), output) {
            println!("{error:#}\nThe lab host is started again.");
            if let Err(error) = in_lab(host, arguments, output) {
                println!("{error:#}");
                outcomes.extend(names.iter().map(|name| Outcome {
                    name: name.clone(),
                    seconds: 0.0,
                    error: Some(format!("its lab host failed twice: {error:#}")),
                    notes: Vec::new(),
                }));
                continue;
            }
        }
        outcomes.extend(read::<Outcome>(&output.join(RESULTS))?);
    }
    Ok(outcomes)
}

/// Measures. Returns each set of figures with where it was measured.
///
/// # Errors
/// When something could not be measured.
pub fn measure(output: &Path) -> Result<Vec<(&'static str, Vec<Figure>)>> {
    let (on_machine, in_lab_host) = if host_kvm_runs_linux().is_ok() {
        (Some("all"), None)
    } else {
        apart()
    };
    let arguments = |guests: &str| vec!["--figures".to_owned(), guests.to_owned()];
    let mut sets = Vec::new();
    if let Some(guests) = on_machine {
        let output = output.join("machine");
        here(&arguments(guests), &output)?;
        sets.push((MACHINE, read(&output.join(FIGURES))?));
    }
    if let Some(guests) = in_lab_host {
        let output = output.join("lab");
        let host = LabHost {
            memory_mib: FIGURES_MEMORY_MIB,
            time_limit: Duration::from_secs(FIGURES_LIMIT),
            ..LabHost::default()
        };
        in_lab(&host, arguments(guests), &output)?;
        sets.push((LAB, read(&output.join(FIGURES))?));
    }
    Ok(sets)
}

/// Compares our drive with QEMU's. Returns where, and what came of it.
///
/// # Errors
/// When it could not be measured.
pub fn compare(output: &Path) -> Result<(&'static str, Comparison)> {
    let arguments = vec![AGAINST_QEMU.to_owned()];
    let place = if host_kvm_runs_linux().is_ok() {
        here(&arguments, output)?;
        MACHINE
    } else {
        let host = LabHost {
            memory_mib: COMPARISON_MEMORY_MIB,
            time_limit: Duration::from_secs(FIGURES_LIMIT),
            ..LabHost::default()
        };
        in_lab(&host, arguments, output)?;
        LAB
    };
    let path = output.join(COMPARISON);
    let text = fs::read(&path)
        .with_context(|| format!("the run left no {}: see its lines above", path.display()))?;
    let comparison = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not understood", path.display()))?;
    Ok((place, comparison))
}

/// Measures reboots with passed-through devices. Returns each table with where it was measured: drives to pass through
/// are in the lab host alone.
///
/// # Errors
/// When they could not be measured.
pub fn reboots(output: &Path) -> Result<Vec<(&'static str, Vec<Row>)>> {
    let arguments = |guests: &str| vec![PASSTHROUGH.to_owned(), guests.to_owned()];
    let (on_machine, in_lab_host) = apart();
    let mut tables = Vec::new();
    if let Some(guests) = in_lab_host {
        let output = output.join("lab");
        let host = LabHost {
            memory_mib: COMPARISON_MEMORY_MIB,
            time_limit: Duration::from_secs(FIGURES_LIMIT),
            ..lab_host(PASSED_THROUGH)
        };
        in_lab(&host, arguments(guests), &output)?;
        tables.push((LAB, read(&output.join(REBOOTS))?));
    }
    if let Some(guests) = on_machine {
        let output = output.join("machine");
        here(&arguments(guests), &output)?;
        tables.push((MACHINE, read(&output.join(REBOOTS))?));
    }
    Ok(tables)
}

/// The guests on this machine and those in the lab host, where both are needed: what needs no Linux guest is measured at
/// this machine's own speed wherever it has a KVM at all.
fn apart() -> (Option<&'static str>, Option<&'static str>) {
    if Path::new("/dev/kvm").exists() {
        (Some("tiny"), Some("linux"))
    } else {
        (None, Some("all"))
    }
}

fn image() -> Result<GuestImage> {
    Ok(GuestImage {
        files: vec![(Parts::ready()?.guest_modules(), "/lib/modules".into())],
        with_pciutils: true,
        ..GuestImage::default()
    })
}

/// The initramfs of a guest that tries its drives with what nobody here wrote, on either kernel.
fn suites_image() -> Result<GuestImage> {
    let parts = Parts::ready()?;
    Ok(GuestImage {
        files: vec![
            (parts.guest_modules(), "/lib/modules".into()),
            (parts.newest_modules(), "/lib/newest-modules".into()),
            (parts.suites(), "".into()),
        ],
        ..GuestImage::default()
    })
}

/// That initramfs, made anew.
fn suites_initramfs() -> Result<PathBuf> {
    let path = workspace::lab_target().join(format!("suites-{}.cpio", std::process::id()));
    guest::initramfs(&path, &suites_image()?)?;
    Ok(path)
}

fn scenarios_binary() -> Result<PathBuf> {
    build_static(&["-p", "lab", "--bin", "scenarios"])?
        .remove("scenarios")
        .context("cargo built no binary named scenarios")
}

/// An older run's results must not be taken for this one's. Nothing else of the folder is ours to remove.
fn forget_results(output: &Path) {
    for name in [RESULTS, FIGURES, COMPARISON, REBOOTS, PICTURE] {
        let _ = fs::remove_file(output.join(name));
    }
}

fn in_lab(host: &LabHost, arguments: Vec<String>, output: &Path) -> Result<()> {
    forget_results(output);
    let parts = Parts::ready()?;
    let suites = suites_initramfs()?;
    let with_qemu = arguments
        .iter()
        .any(|argument| argument == AGAINST_QEMU || argument == PASSTHROUGH);
    let job = Job {
        command: [vec!["/usr/bin/scenarios".to_owned()], arguments].concat(),
        output: output.to_owned(),
        ..Job::default()
    }
    .with_sundown()?
    .file(stripped(&scenarios_binary()?)?, "/usr/bin/scenarios")
    .file(vmlinux::extracted(&parts.vmlinuz())?, "/lab/vmlinux")
    .file(parts.newest_vmlinuz(), "/lab/newest-vmlinuz")
    .file(&suites, "/lab/suites.cpio")
    .with_guest(image()?);
    let job = if with_qemu {
        let files = parts.qemu_files(Path::new("/lab/qemu"))?;
        files
            .into_iter()
            .fold(job, |job, (here, there)| job.file(here, there))
    } else {
        job
    };
    let end = host.run(&job);
    let _ = fs::remove_file(&suites);
    match end? {
        // 1: some scenario failed, which its results say.
        0 | 1 => Ok(()),
        code => bail!("the scenarios ended with exit code {code} in the lab host"),
    }
}

fn here(arguments: &[String], output: &Path) -> Result<()> {
    forget_results(output);
    let sundown = build_static(&["-p", "vmm", "--bins"])?
        .remove("sundown")
        .context("cargo built no binary named sundown")?;
    let parts = Parts::ready()?;
    let folder = workspace::lab_target().join(format!("scenarios-{}", std::process::id()));
    let initramfs = folder.join("guest.cpio");
    guest::initramfs(&initramfs, &image()?)?;
    let suites = suites_initramfs()?;
    let mut command = Command::new(scenarios_binary()?);
    for (option, path) in [
        ("--sundown", &sundown),
        ("--kernel", &parts.vmlinuz()),
        ("--vmlinux", &vmlinux::extracted(&parts.vmlinuz())?),
        ("--initramfs", &initramfs),
        ("--newest-kernel", &parts.newest_vmlinuz()),
        ("--suites", &suites),
        ("--qemu", &parts.qemu()),
        ("--work", &folder.join("work")),
        ("--output", &output.to_owned()),
    ] {
        command.arg(option).arg(path);
    }
    let status = command
        .args(arguments)
        .status()
        .context("could not run the scenarios")?;
    let _ = fs::remove_dir_all(&folder);
    let _ = fs::remove_file(&suites);
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("the scenarios ended with {status}"),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read(path)
        .with_context(|| format!("the run left no {}: see its lines above", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not understood", path.display()))
}
