//! Drives under programs and kernels that nobody here wrote: nvme-cli, fio, file systems, badblocks, on the
//! stock kernel and on Debian's newest.

pub(super) mod commands;
pub(super) mod erase;
pub(super) mod file_systems;
pub(super) mod fio;
pub(super) mod namespaces;
pub(super) mod nvme_cli;
pub(super) mod resets;

use anyhow::{Context, Result, ensure};
use api::config::VmConfig;

use super::Stage;
use super::design::{Design, Device};
use super::machine::Machine;

/// Which guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// The kernel that all other scenarios have.
    Stock,
    /// Debian's newest.
    Newest,
}

/// What a guest's kernel says of drives that are well. Anything else that it says of them is a complaint.
const USUAL: &[&str] = &[
    "pci function",
    "default/read/poll queues",
    "enabling device",
    "Shutdown timeout set to",
    "hash matches",
    "Command line:",
    "Kernel command line:",
    "nvme_core.",
];

/// A guest with these drives, all of which it sees, and the suites' programs on its path.
fn guest(
    stage: &mut Stage,
    kernel: Kernel,
    drives: u32,
    devices: impl IntoIterator<Item = Device>,
) -> Result<Machine> {
    guest_with(stage, kernel, drives, devices, "")
}

/// The same with more words on the kernel's command line.
fn guest_with(
    stage: &mut Stage,
    kernel: Kernel,
    drives: u32,
    devices: impl IntoIterator<Item = Device>,
    words: &str,
) -> Result<Machine> {
    // iomem: so that nvme-cli may map a controller's registers beside the driver.
    let config =
        config(stage, kernel).words(&format!("iomem=relaxed sundown.drives={drives} {words}"));
    let mut machine = stage.launch_ready(config.with(devices))?;
    enter(&mut machine)?;
    let seen = machine.run("list_namespaces; echo $namespace_count")?;
    ensure!(
        seen == [drives.to_string()],
        "the guest sees {seen:?} namespaces, not {drives}"
    );
    Ok(machine)
}

fn config(stage: &Stage, kernel: Kernel) -> VmConfig {
    let mut config = stage.linux().cpus(2).memory_mib(640);
    config.payload.initramfs = Some(stage.files.suites.clone());
    if kernel == Kernel::Newest {
        config.payload.kernel = stage.files.newest_kernel.clone();
    }
    config
}

/// For each boot: the programs, and XFS. What busybox has too the guest's shell takes from there, unless it is
/// called by its whole path.
fn enter(machine: &mut Machine) -> Result<()> {
    machine
        .run(
            "PATH=/suites/bin:$PATH; mkdir -p /etc; ln -sf /proc/mounts /etc/mtab; \
         case $(uname -r) in 6.*) modules=/lib/modules ;; *) modules=/lib/newest-modules ;; esac; \
         for module in libcrc32c xfs; do \
         [ ! -e $modules/$module.ko ] || insmod $modules/$module.ko; done",
        )
        .map(drop)
}

/// Lines of the guest's kernel log about drives or their I/O, but those that are usual and those that the
/// scenario has provoked.
fn complaints(machine: &mut Machine, provoked: &[&str]) -> Result<Vec<String>> {
    let said = machine
        .run("dmesg | grep -E 'nvme|I/O error|blocked for more|BUG:|WARNING: CPU' || true")?;
    let known = |line: &String| {
        let mut known = USUAL.iter().chain(provoked);
        known.any(|words| line.contains(words))
    };
    Ok(said.into_iter().filter(|line| !known(line)).collect())
}

/// Ends the machine, unless its guest's kernel has complained.
fn end_without_complaint(mut machine: Machine, provoked: &[&str]) -> Result<()> {
    let complaints = complaints(&mut machine, provoked)?;
    ensure!(
        complaints.is_empty(),
        "the guest's kernel complains: {complaints:#?}"
    );
    machine.end()
}

/// What a program says after a key and a colon.
fn field(machine: &mut Machine, command: &str, key: &str) -> Result<String> {
    let said = machine.run(command)?;
    let value = said.iter().find_map(|line| {
        let rest = line.trim_start().strip_prefix(key)?;
        Some(rest.split_once(':')?.1.trim().to_owned())
    });
    value.with_context(|| format!("`{command}` says nothing of {key}: {said:#?}"))
}

/// The drive must refuse this command, and the program say why.
fn refused(machine: &mut Machine, command: &str, why: &str) -> Result<()> {
    let said = machine.run(&format!(
        "{command} >/run/said 2>&1 && echo done || cat /run/said"
    ))?;
    ensure!(
        said.iter().any(|line| line.contains(why)),
        "`{command}` was to be refused with {why}: {said:?}"
    );
    Ok(())
}
