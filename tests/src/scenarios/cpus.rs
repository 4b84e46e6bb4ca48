//! What the guest sees of its CPUs and its memory, and both ways to boot a stock kernel.

use anyhow::{Context, Result, bail, ensure};
use api::events::EventKind;
use api::report::Cause;

use super::design::Design;
use super::machine::Machine;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("four_cpus_run_programs", 90, four),
    Scenario::new("six_gib_on_two_cpus", 90, six_gib),
    Scenario::new("one_cpu_and_an_elf_kernel", 90, elf),
    Scenario::new("the_least_memory_is_64_mib", 90, least_memory),
];

/// Checks that so many CPUs are online, each a core of its own, and run programs. Returns MemTotal in
/// KiB.
fn check_cpus(machine: &mut Machine, count: usize) -> Result<u64> {
    let said = machine.run(". /jobs/smp")?;
    let value = |key: &str| {
        said.iter()
            .find_map(|line| line.strip_prefix(&format!("SUNDOWN: {key} ")))
            .with_context(|| format!("the guest says nothing of its {key}: {said:?}"))
    };
    ensure!(
        value("cpus")? == count.to_string(),
        "the guest has {} CPUs, not {count}",
        value("cpus")?
    );
    let cpus: Vec<_> = said
        .iter()
        .filter_map(|line| line.strip_prefix("SUNDOWN: cpu "))
        .collect();
    ensure!(
        cpus.len() == count,
        "the guest describes {} CPUs",
        cpus.len()
    );
    for (number, cpu) in cpus.iter().enumerate() {
        let wanted = format!("{number} package=0 core={number} threads={number} runs=yes");
        ensure!(*cpu == wanted, "CPU {number} is described as {cpu}");
    }
    ensure!(value("clocksource")? == "kvm-clock" || value("clocksource")? == "tsc");
    ensure!(value("x2apic")? == "yes", "the guest has no x2APIC");
    value("memory_kib")?
        .parse()
        .context("the guest's memory is no number")
}

fn four(stage: &mut Stage) -> Result<()> {
    let config = stage.linux().cpus(4);
    let mut machine = stage.launch_ready(config)?;
    check_cpus(&mut machine, 4)?;
    machine.end()
}

fn six_gib(stage: &mut Stage) -> Result<()> {
    let mut config = stage.linux().cpus(2).memory_mib(6 << 10);
    // More than a lab host has; the guest touches little of it.
    config.memory.prefault = false;
    let mut machine = stage.launch_ready(config)?;
    let kib = check_cpus(&mut machine, 2)?;
    // Linux keeps a page in 64 for itself, and its own code.
    ensure!(
        kib > (6 << 20) / 100 * 96 && kib < 6 << 20,
        "the guest has {kib} KiB of 6 GiB"
    );
    let info = machine.client().info().context("vm.info failed")?;
    ensure!(info.memory_actual_size == 6 << 30);
    stage.note(format!("MemTotal {kib} KiB of 6 GiB"));
    machine.end()
}

/// The same stock kernel, unpacked: entered as PVH asks.
fn elf(stage: &mut Stage) -> Result<()> {
    let mut config = stage.linux();
    config.payload.kernel = stage.files.vmlinux.clone();
    let mut machine = stage.launch_ready(config)?;
    check_cpus(&mut machine, 1)?;
    machine.reboot()?;
    machine.ready()?;
    machine.end()
}

/// A stock cloud kernel does not fit into 64 MiB; what it says of that must be seen, and not hang.
fn least_memory(stage: &mut Stage) -> Result<()> {
    let config = stage.linux().memory_mib(64);
    let mut machine = stage.create(config)?;
    if let Err(error) = machine.client().boot() {
        stage.note(format!(
            "64 MiB, stock kernel: vm.boot was refused: {error}"
        ));
        ensure!(
            error.to_string().contains("MiB"),
            "the error does not say what would be enough: {error}"
        );
    } else {
        machine.booted()?;
        let end = machine.event("the guest's end or its marker", |event| match event {
            EventKind::BootMarker { value: 2, .. } => Some(None),
            EventKind::ResetRequested { cause, .. } => Some(Some(*cause)),
            _ => None,
        })?;
        let lines = machine.process.console.lines();
        match end {
            None => stage.note("64 MiB, stock kernel: boots"),
            Some(cause @ (Cause::Crash | Cause::Shutdown)) => bail!("ended by {cause:?}"),
            Some(cause) => {
                let panic = lines.iter().find(|line| line.contains("Kernel panic"));
                let panic = panic.context("the guest was reset without a kernel panic")?;
                stage.note(format!("64 MiB, stock kernel: {cause:?} after \"{panic}\""));
            }
        }
    }
    drop(machine);

    // The machine itself is sound at this size.
    let config = stage.tiny(&[super::tiny::READY])?.memory_mib(64);
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    machine.reboot()?;
    machine.ready()?;
    machine.end()
}
