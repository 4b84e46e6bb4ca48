//! The lab host's drives, passed through: data over reboots, I/O in flight, what a hundred reboots leave.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::config::TeardownPolicy;
use api::state::PolicyUpdate;

use super::super::design::{Design, root_port, switch};
use super::super::machine::Machine;
use super::super::served::Served;
use super::super::tiny::{READY, RESET};
use super::super::usage::Usage;
use super::super::{Scenario, Stage, soak};
use super::{DEADLINE_MS, check_resets, forget, host_drives, ids, write_on};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("eight_passed_through_drives_are_reset_at_once", 420, eight).with_vfio(),
    Scenario::new("four_passed_through_drives_keep_their_data", 180, four).with_vfio(),
    Scenario::new(
        "passed_through_drives_beside_others_keep_their_data",
        240,
        mixed,
    )
    .with_vfio(),
    Scenario::new("one_passed_through_drive_keeps_its_data", 120, one).with_vfio(),
    Scenario::new(
        "a_hundred_resets_of_passed_through_drives_leave_nothing_behind",
        180,
        hundred,
    )
    .with_vfio(),
];

/// Of stock Linux. Ten pass too; but each takes as long as it takes to boot, and an emulated host corrupts a guest the
/// more likely the more there are.
const REBOOTS: u64 = 5;
/// How long the guest writes before each.
const WRITES: Duration = Duration::from_millis(500);
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
        sleep(WRITES);
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

/// Two behind ports, two behind a switch.
fn four(stage: &mut Stage) -> Result<()> {
    let mut drives = host_drives(stage, 4)?;
    let behind_switch = drives.split_off(2);
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=4")
        .with(ports)
        .with([root_port("rps", [switch("s", behind_switch)])]);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    for boot in 1..=3 {
        pattern(&mut machine, boot)?;
        write_on(&mut machine)?;
        let report = machine.reboot()?;
        check_resets(&report, &ids(4), true)?;
        machine.ready()?;
    }
    pattern(&mut machine, 4)?;
    machine.end()
}

/// Four of the host's, two of device processes, two emulated.
fn mixed(stage: &mut Stage) -> Result<()> {
    let servers = [
        Served::start(stage, "u0", 0)?,
        Served::start(stage, "u1", 0)?,
    ];
    let mut devices = host_drives(stage, 4)?;
    devices.extend(
        servers
            .iter()
            .map(|server| server.device(DEADLINE_MS, false)),
    );
    devices.extend([stage.drive("e0")?, stage.drive("e1")?]);
    let behind_switch = devices.split_off(5);
    let ports = devices.into_iter().enumerate();
    let ports = ports.map(|(number, device)| root_port(format!("rp{number}"), [device]));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=8")
        .with(ports)
        .with([root_port("rps", [switch("s", behind_switch)])]);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    let passed_through = [&ids(4)[..], &["u0".to_owned(), "u1".to_owned()]].concat();
    for boot in 1..=2 {
        pattern(&mut machine, boot)?;
        let report = machine.reboot()?;
        // A device process is reset in no time, perhaps while no other is.
        check_resets(&report, &ids(4), true)?;
        for id in &passed_through {
            check_resets(&report, std::slice::from_ref(id), true)?;
        }
        machine.ready()?;
    }
    pattern(&mut machine, 3)?;
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
