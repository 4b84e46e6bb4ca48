//! Drives of device processes under stock Linux.

use anyhow::{Result, ensure};

use super::super::design::{Design, root_port};
use super::super::served::Served;
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{check_resets, device};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "a_slow_device_process_holds_nobody_else_up",
    120,
    slow,
)];

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
