//! Drives of device processes under stock Linux: one is slow, one is killed, some hang, all with writes in flight.

use anyhow::{Context, Result, ensure};
use api::events::EventKind;
use api::report::Outcome;

use super::super::design::{Design, root_port};
use super::super::served::Served;
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{check_resets, device, sees, write_on};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a_slow_device_process_holds_nobody_else_up", 120, slow),
    Scenario::new(
        "a_killed_device_process_is_quarantined_and_comes_back",
        180,
        killed,
    ),
    Scenario::new(
        "hung_device_processes_are_given_up_at_their_deadline",
        180,
        hung,
    ),
];

const SLOW_MS: u64 = 800;

/// One of three takes long; the others have ended long before.
fn slow(stage: &mut Stage) -> Result<()> {
    let processes = [
        Served::start(stage, "u0", 0)?,
        Served::start(stage, "u1", SLOW_MS)?,
        Served::start(stage, "u2", 0)?,
    ];
    let ports = processes.iter().enumerate();
    let ports = ports.map(|(number, process)| {
        root_port(
            format!("rp{number}"),
            [process.device(super::DEADLINE_MS, false)],
        )
    });
    let config = stage.linux().words("sundown.drives=3").with(ports);
    let mut machine = stage.launch_ready(config)?;
    pattern(&mut machine, 1)?;
    let report = machine.reboot()?;
    machine.ready()?;
    pattern(&mut machine, 2)?;
    let slow = device(&report, "u1")?;
    ensure!(
        slow.end_ns - slow.start_ns >= SLOW_MS * 1_000_000,
        "the slow drive took {} ns",
        slow.end_ns - slow.start_ns
    );
    for id in ["u0", "u2"] {
        check_resets(&report, &[id.to_owned()], true)?;
        ensure!(
            device(&report, id)?.end_ns < slow.end_ns,
            "{id} ended after the slow drive"
        );
    }
    ensure!(slow.critical, "the slow drive is not on the critical path");
    machine.end()
}

/// Killed while the guest runs: the guest goes on with its other drive, and has both again after the process is
/// back and the guest was rebooted.
fn killed(stage: &mut Stage) -> Result<()> {
    let mut process = Served::start(stage, "u0", 0)?;
    let other = stage.drive("e0")?;
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=2 sundown.wait=5")
        .with([
            root_port("rp0", [process.device(super::DEADLINE_MS, false)]),
            root_port("rp1", [other]),
        ]);
    let mut machine = stage.launch_ready(config)?;
    pattern(&mut machine, 1)?;
    let address = machine.run(
        "for n in /sys/class/nvme/*; do read -r serial <$n/serial; \
         [ $serial = u0 ] && basename $(readlink -f $n/device); done; true",
    )?;
    let address = address
        .first()
        .context("the guest has no drive u0")?
        .clone();
    write_on(&mut machine)?;
    process.kill()?;
    let reason = machine.event("device-gone", |event| match event {
        EventKind::DeviceGone { id, reason } if id == "u0" => Some(reason.clone()),
        _ => None,
    })?;
    stage.note(format!("the machine says: {reason}"));
    let vendor = machine.run(&format!(
        "dd if=/sys/bus/pci/devices/{address}/config bs=2 count=1 2>/dev/null | od -x"
    ))?;
    ensure!(
        vendor.first().is_some_and(|line| line.ends_with(" ffff")),
        "the guest reads {vendor:?} of the drive that is gone"
    );

    // Still gone: the guest boots without it, and the report says why.
    let report = machine.reboot()?;
    let Outcome::Failed { error: reason } = &device(&report, "u0")?.outcome else {
        anyhow::bail!("u0 ended with {:?}", device(&report, "u0")?.outcome);
    };
    ensure!(reason.contains("gone"), "the report says: {reason}");
    machine.ready()?;
    sees(&mut machine, 1)?;

    process.start_anew()?;
    machine.event("device-back", |event| {
        matches!(event, EventKind::DeviceBack { id } if id == "u0").then_some(())
    })?;
    machine.reboot()?;
    machine.ready()?;
    pattern(&mut machine, 2)?;
    let report = machine.reboot()?;
    check_resets(&report, &["u0".to_owned()], true)?;
    machine.ready()?;
    machine.end()
}

/// Three of eight answer nothing any more; they are killed at their deadline, and the guest boots without them.
fn hung(stage: &mut Stage) -> Result<()> {
    const DEADLINE_MS: u64 = 3000;
    let mut processes = (0..8)
        .map(|number| Served::start(stage, &format!("u{number}"), 0))
        .collect::<Result<Vec<_>>>()?;
    let ports = processes.iter().enumerate().map(|(number, process)| {
        let device = process.device(DEADLINE_MS, true);
        root_port(format!("rp{number}"), [device])
    });
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=8 sundown.wait=5")
        .with(ports);
    let mut machine = stage.launch_ready(config)?;
    pattern(&mut machine, 1)?;
    write_on(&mut machine)?;
    for process in &processes[..3] {
        process.hang()?;
    }
    let report = machine.reboot()?;
    for (number, process) in processes.iter_mut().enumerate() {
        let id = format!("u{number}");
        let device = device(&report, &id)?;
        if number < 3 {
            ensure!(
                device.outcome == Outcome::TimedOut,
                "{id} hangs, and ended with {:?}",
                device.outcome
            );
            ensure!(process.has_ended()?, "{id} hangs and was not ended");
        } else {
            check_resets(&report, std::slice::from_ref(&id), true)?;
            ensure!(!process.has_ended()?, "{id} has ended");
        }
    }
    stage.note(format!(
        "teardown with three hung of eight, deadline {DEADLINE_MS} ms: {:.1} ms",
        report.teardown_ns as f64 / 1e6
    ));
    machine.ready()?;
    sees(&mut machine, 5)?;
    let said = machine.run(". /jobs/pattern")?;
    let intact = said.iter().filter(|line| line.contains(" intact boots=2"));
    ensure!(intact.count() == 5, "of five drives: {said:#?}");
    machine.end()
}
