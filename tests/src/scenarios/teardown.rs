//! The order and the length of teardowns, on guests that leave their devices alone.

use anyhow::{Context, Result, ensure};
use api::config::TeardownPolicy;
use api::report::{DeviceReport, TeardownReport};
use api::state::PolicyUpdate;

use super::design::{Design, Device, pci_bridge, root_port, switch};
use super::machine::Machine;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("policies_change_over_the_api", 90, policies),
    Scenario::new("sixty_four_slow_drives_shut_down_at_once", 90, sixty_four),
    Scenario::new("a_deep_tree_is_shut_down_from_its_leaves", 90, deep_tree),
    Scenario::new(
        "few_workers_are_enough_for_modelled_delays",
        90,
        few_workers,
    ),
];

const MS: u64 = 1_000_000;

/// A device of a report.
pub(super) fn device<'a>(report: &'a TeardownReport, id: &str) -> Result<&'a DeviceReport> {
    report
        .devices
        .iter()
        .find(|device| device.id == id)
        .with_context(|| format!("{id} is not in the report"))
}

/// `count` drives named d0, d1, … that take `ms` to shut down, each behind a root port of its own: 8
/// functions a device of the root bus.
pub(super) fn drives_behind_ports(stage: &Stage, count: u8, ms: u64) -> Result<Vec<Device>> {
    (0..count)
        .map(|number| {
            let drive = stage.drive(&format!("d{number}"))?.teardown_ms(ms);
            let port = root_port(format!("rp{number}"), [drive]);
            Ok(port.at(1 + number / 8, number % 8))
        })
        .collect()
}

/// The next teardowns run under this policy.
pub(super) fn set_policy(machine: &mut Machine, policy: TeardownPolicy) -> Result<()> {
    let update = PolicyUpdate {
        policy: Some(policy),
        workers: None,
    };
    machine
        .client()
        .set_teardown_policy(update)
        .context("vm.teardown-policy failed")?;
    let now = machine.client().teardown_policy()?;
    ensure!(now.policy == policy, "the policy is {:?} now", now.policy);
    Ok(())
}

fn policies(stage: &mut Stage) -> Result<()> {
    const DRIVES: u64 = 8;
    let ports = drives_behind_ports(stage, DRIVES as u8, 50)?;
    let config = stage.tiny(&[READY])?.with(ports);
    let mut machine = stage.launch(config)?;
    for policy in [
        TeardownPolicy::Serial,
        TeardownPolicy::Completion,
        TeardownPolicy::Cookie,
        TeardownPolicy::Serial,
    ] {
        set_policy(&mut machine, policy)?;
        let report = machine.reboot()?;
        ensure!(report.policy == policy, "it ran under {:?}", report.policy);
        let took = report.teardown_ns;
        match policy {
            TeardownPolicy::Serial => ensure!(
                took >= DRIVES * 50 * MS,
                "{DRIVES} drives of 50 ms, one by one, in {took} ns"
            ),
            TeardownPolicy::Cookie | TeardownPolicy::Completion => ensure!(
                (50 * MS..DRIVES * 50 * MS / 2).contains(&took),
                "{DRIVES} drives of 50 ms at once in {took} ns"
            ),
        }
        stage.note(format!("{policy:?}: {DRIVES} × 50 ms in {} ms", took / MS));
    }
    machine.end()
}

fn sixty_four(stage: &mut Stage) -> Result<()> {
    let ports = drives_behind_ports(stage, 64, 100)?;
    let config = stage.tiny(&[READY])?.with(ports);
    let mut machine = stage.launch(config)?;
    for _ in 0..3 {
        let report = machine.reboot()?;
        let drives = || {
            report
                .devices
                .iter()
                .filter(|device| device.class == "nvme")
        };
        let last_start = drives().map(|drive| drive.start_ns).max().unwrap_or(0);
        let first_end = drives().map(|drive| drive.end_ns).min().unwrap_or(0);
        ensure!(
            last_start < first_end,
            "the last drive began at {last_start} ns, after the first had ended at {first_end} ns"
        );
        // How near to 100 ms is a figure; see `figures`.
        ensure!(
            report.teardown_ns < 1000 * MS,
            "64 drives of 100 ms took {} ms",
            report.teardown_ns / MS
        );
        stage.note(format!(
            "64 × 100 ms in {:.1} ms, efficiency {:.3}, {} workers",
            report.teardown_ns as f64 / MS as f64,
            report.efficiency,
            report.workers_used
        ));
    }
    machine.end()
}

fn deep_tree(stage: &mut Stage) -> Result<()> {
    let slow = |id: &str, ms| Ok::<_, anyhow::Error>(stage.drive(id)?.teardown_ms(ms));
    let lower = switch("lower", [slow("a", 60)?, slow("b", 120)?]).teardown_ms(40);
    let upper = switch("upper", [lower, slow("c", 30)?]);
    let bridge = pci_bridge("bridge", [slow("d", 90)?, slow("e", 10)?]);
    let config = stage
        .tiny(&[READY])?
        .with([root_port("rp0", [upper]), root_port("rp1", [bridge])]);
    let mut machine = stage.launch(config)?;
    let report = machine.reboot()?;
    // b, then the switch before it: the longest chain.
    ensure!(
        report.critical_path_ns >= 160 * MS,
        "the critical path is {} ns, b and lower take 160 ms",
        report.critical_path_ns
    );
    for id in ["b", "lower-p1", "lower", "upper-p0", "upper", "rp0"] {
        ensure!(
            device(&report, id)?.critical,
            "{id} is not on the critical path"
        );
    }
    let (a, c) = (device(&report, "a")?, device(&report, "c")?);
    ensure!(
        c.start_ns < a.end_ns,
        "c waited for a, from which it is apart"
    );
    machine.end()
}

/// A modelled delay is a timer: it keeps no worker.
fn few_workers(stage: &mut Stage) -> Result<()> {
    let ports = drives_behind_ports(stage, 16, 100)?;
    let mut config = stage.tiny(&[READY])?.with(ports);
    config.teardown.workers = Some(2);
    let mut machine = stage.launch(config)?;
    let report = machine.reboot()?;
    ensure!(
        report.workers_used <= 2,
        "{} workers were used",
        report.workers_used
    );
    ensure!(
        report.teardown_ns < 800 * MS,
        "16 drives of 100 ms with two workers took {} ms",
        report.teardown_ns / MS
    );
    machine.end()
}
