//! The lab host's drives, passed through: data over reboots, I/O in flight, what a hundred reboots leave.

use anyhow::{Context, Result, ensure};
use api::config::TeardownPolicy;
use api::state::PolicyUpdate;

use super::super::design::{Design, root_port, switch};
use super::super::machine::Machine;
use super::super::tiny::{READY, RESET};
use super::super::usage::Usage;
use super::super::{Scenario, Stage, soak};
use super::{check_resets, forget, host_drives, ids};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("eight_passed_through_drives_are_reset_at_once", 240, eight).with_vfio(),
    Scenario::new("one_passed_through_drive_keeps_its_data", 120, one).with_vfio(),
    Scenario::new(
        "a_hundred_resets_of_passed_through_drives_leave_nothing_behind",
        180,
        hundred,
    )
    .with_vfio(),
];

/// Of stock Linux, each as long as it takes to boot.
const REBOOTS: u64 = 4;
const RESETS: u64 = 100;
const WARM_UP: u64 = 10;
const HISTORY: u16 = 4;

/// Calls that have mapped guest memory for DMA.
fn dma_maps(machine: &Machine) -> Result<u64> {
    let info = machine.client().info().context("vm.info failed")?;
    Ok(info.dma.context("vm.info says nothing of DMA")?.maps)
}

/// Writes to all drives go on through some reboots; four drives are behind a switch, four behind ports. Then the
/// same under `serial`.
fn eight(stage: &mut Stage) -> Result<()> {
    let mut drives = host_drives(stage, 8)?;
    let behind_switch = drives.split_off(4);
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=8 sundown.load=0")
        .with(ports)
        .with([root_port("rp4", [switch("s", behind_switch)])]);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    let maps = dma_maps(&machine)?;
    let mut flushed = load(&mut machine, 1)?;
    let mut slowest = 0;
    for boot in 2..=REBOOTS + 1 {
        let report = machine.reboot()?;
        check_resets(&report, &ids(8), true)?;
        slowest = report.teardown_ns.max(slowest);
        machine.ready()?;
        let now = load(&mut machine, boot)?;
        ensure!(
            now >= flushed,
            "{now} blocks are known to be flushed, {flushed} were"
        );
        flushed = now;
    }
    ensure!(
        flushed > 0,
        "the guest has flushed nothing: there was no load"
    );
    let after = dma_maps(&machine)?;
    ensure!(
        after == maps,
        "guest memory was mapped {after} times, {maps} before"
    );
    let update = PolicyUpdate {
        policy: Some(TeardownPolicy::Serial),
        ..PolicyUpdate::default()
    };
    machine.client().set_teardown_policy(update)?;
    let serial = machine.reboot()?;
    check_resets(&serial, &ids(8), false)?;
    machine.ready()?;
    stage.note(format!(
        "teardown of 8 drives: at most {:.1} ms over {REBOOTS} reboots, one after the other {:.1} ms; \
         {flushed} blocks flushed, none lost",
        slowest as f64 / 1e6,
        serial.teardown_ns as f64 / 1e6,
    ));
    machine.end()
}

fn one(stage: &mut Stage) -> Result<()> {
    // On the root bus: an endpoint of the root complex.
    let drives = host_drives(stage, 1)?;
    let config = stage.linux().words("sundown.drives=1").with(drives);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    for boot in 1..=3 {
        pattern(&mut machine, boot)?;
        let report = machine.reboot()?;
        check_resets(&report, &ids(1), true)?;
        machine.ready()?;
    }
    pattern(&mut machine, 4)?;
    machine.end()
}

/// A guest that resets itself as soon as it runs.
fn hundred(stage: &mut Stage) -> Result<()> {
    let drives = host_drives(stage, 4)?;
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let mut config = stage.tiny(&[READY, RESET])?.cpus(2).with(ports);
    config.teardown.history = HISTORY;
    let machine = stage.launch(config)?;
    machine.reaches(WARM_UP)?;
    let (before, maps) = (Usage::lasting(machine.process.pid())?, dma_maps(&machine)?);
    machine.reaches(WARM_UP + RESETS)?;
    let (after, maps_after) = (Usage::lasting(machine.process.pid())?, dma_maps(&machine)?);
    stage.note(format!("before: {before}"));
    stage.note(format!("after {RESETS} resets: {after}"));
    ensure!(
        before.locked_kib > 0,
        "no memory is locked: nothing was passed through"
    );
    ensure!(
        after.locked_kib == before.locked_kib,
        "locked memory changed: {before}; then {after}"
    );
    ensure!(
        maps_after == maps,
        "guest memory was mapped {maps_after} times, {maps} before"
    );
    soak::check(before, after, 4)
}

/// Has the guest check and go on writing; the blocks known to be flushed.
pub(super) fn load(machine: &mut Machine, boots: u64) -> Result<u64> {
    super::super::data::check(machine, boots)
}

/// Has the guest write its pattern in its first boot, and verify it in later ones.
pub(super) fn pattern(machine: &mut Machine, boots: u64) -> Result<()> {
    let said = machine.run(". /jobs/pattern")?;
    let wanted = if boots == 1 { "written" } else { "intact" };
    let has = |line: String| said.contains(&line);
    ensure!(
        has(format!("SUNDOWN: data {wanted}")) && has(format!("SUNDOWN: boots {boots}")),
        "in boot {boots}: {said:#?}"
    );
    Ok(())
}
