//! Passed-through devices: the lab host's own, by VFIO, and those of device processes, by vfio-user. `drives`, `acts`
//! and `interrupts` are about VFIO, `trouble` about a host that takes a drive back, `served` about vfio-user under a
//! stock guest; `reboots` measures.

mod acts;
mod drives;
mod interrupts;
mod monitor;
pub mod reboots;
mod served;
pub mod table;
mod trouble;

use anyhow::{Context, Result, ensure};
use api::report::{DeviceReport, Outcome, TeardownReport};

use super::design::{self, Device};
use super::machine::Machine;
use super::{Scenario, Stage};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    [
        // First: the pins of QEMU's drives stay asserted after a reset with commands in flight.
        interrupts::SCENARIOS,
        drives::SCENARIOS,
        acts::SCENARIOS,
        trouble::SCENARIOS,
        served::SCENARIOS,
    ]
    .concat()
}

/// What a device may take where nothing is to go wrong.
const DEADLINE_MS: u64 = 30_000;
/// What a teardown does to a passed-through device, in this order.
const PHASES: [&str; 3] = ["quiesce", "reset", "re-arm"];

/// The first `count` drives of the host that are bound to VFIO, as devices `v0`, `v1`, …
pub(super) fn host_drives(stage: &Stage, count: usize) -> Result<Vec<Device>> {
    let addresses = &stage.files.passed_through;
    ensure!(
        addresses.len() >= count,
        "the host has {} drives that are bound to VFIO, {count} are needed",
        addresses.len()
    );
    let devices = addresses.iter().take(count).enumerate();
    Ok(devices
        .map(|(number, address)| design::vfio(format!("v{number}"), address))
        .collect())
}

/// Of the first `count` of these devices.
pub(super) fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("v{number}")).collect()
}

/// Has the guest forget what scenarios before this one have written.
pub(super) fn forget(machine: &mut Machine) -> Result<()> {
    let clear = "list_namespaces; for n in $namespaces; do \
        dd if=/dev/zero of=/dev/$n bs=4096 count=16 conv=fsync 2>/dev/null || exit 1; done";
    machine.run(&format!("({clear})")).map(drop)
}

/// Has the guest write to all drives, beyond its pattern, for as long as they take it.
pub(super) fn write_on(machine: &mut Machine) -> Result<()> {
    let write = "list_namespaces; for n in $namespaces; do (while dd if=/dev/zero of=/dev/$n bs=64k seek=32 count=16 \
        oflag=direct 2>/dev/null; do :; done) & done; true";
    machine.run(write).map(drop)
}

/// Checks how many namespaces the guest sees.
pub(super) fn sees(machine: &mut Machine, count: usize) -> Result<()> {
    let seen = machine.run("list_namespaces; echo $namespace_count")?;
    ensure!(
        seen == [count.to_string()],
        "the guest sees {seen:?} namespaces, not {count}"
    );
    Ok(())
}

/// The device's part of a report.
pub(super) fn device<'a>(report: &'a TeardownReport, id: &str) -> Result<&'a DeviceReport> {
    let mut devices = report.devices.iter();
    devices
        .find(|device| device.id == id)
        .with_context(|| format!("the report has no device {id}"))
}

/// Checks that these devices were quiesced, reset and armed again, in this order; and that each reset was under way
/// with another one where they are to be `together`, and with none where they are not.
pub(super) fn check_resets(report: &TeardownReport, ids: &[String], together: bool) -> Result<()> {
    let mut resets = Vec::with_capacity(ids.len());
    for id in ids {
        let device = device(report, id)?;
        ensure!(
            device.outcome == Outcome::Done,
            "{id} ended with {:?}",
            device.outcome
        );
        let names: Vec<_> = device.phases.iter().map(|phase| &*phase.name).collect();
        ensure!(names == PHASES, "{id} went through {names:?}");
        let reset = device.phases.get(1).context("no phase")?;
        resets.push((reset.start_ns, reset.end_ns));
    }
    if together {
        for reset in &resets {
            let others = resets.iter().filter(|other| *other != reset);
            let mut at_once = others.filter(|other| other.0 < reset.1 && reset.0 < other.1);
            ensure!(
                resets.len() == 1 || at_once.next().is_some(),
                "a reset ran alone: {reset:?} of {resets:?}"
            );
        }
    } else {
        resets.sort_unstable();
        let apart = resets.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        ensure!(apart, "two resets were under way at once: {resets:?}");
    }
    Ok(())
}
