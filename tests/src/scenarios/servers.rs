//! Devices of vfio-user servers: reset at the same time, killed, hung, back again. The guest is none that uses them.

use anyhow::{Context, Result, bail, ensure};
use api::error::ErrorCode;
use api::events::EventKind;
use api::report::{Cause, DeviceReport, Outcome, TeardownReport};
use api::state::TopologyNode;

use super::design::{Design, Device, root_port};
use super::machine::Machine;
use super::served::Served;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("servers_drives_are_reset_at_the_same_time", 60, together),
    Scenario::new("a_server_that_dies_comes_back_by_a_reboot", 90, killed),
    Scenario::new("a_hung_server_keeps_the_machine_stopped", 90, hung),
    Scenario::new("hung_servers_that_are_fenced_cost_a_boot", 90, fenced),
];

/// How long the servers' resets take, and what a hung one may.
const RESET_MS: u64 = 200;
const DEADLINE_MS: u64 = 1000;

/// Servers `s0` and so on.
fn servers(stage: &Stage, count: usize, ms: u64) -> Result<Vec<Served>> {
    (0..count)
        .map(|n| Served::start(stage, &format!("s{n}"), ms))
        .collect()
}

/// A machine of these devices, each behind a port of its own, that is ready.
fn launch(stage: &mut Stage, devices: impl IntoIterator<Item = Device>) -> Result<Machine> {
    let ports = devices.into_iter().enumerate();
    let ports = ports.map(|(n, device)| root_port(format!("rp{n}"), [device]));
    let config = stage.tiny(&[READY])?.with(ports);
    let mut machine = stage.launch(config)?;
    machine.ready()?;
    Ok(machine)
}

fn of<'a>(report: &'a TeardownReport, id: &str) -> Result<&'a DeviceReport> {
    let mut devices = report.devices.iter();
    let found = devices.find(|device| device.id == id);
    found.with_context(|| format!("{id} is not in the report"))
}

/// What is behind port number `port`.
fn node(machine: &Machine, port: usize) -> Result<TopologyNode> {
    let mut topology = machine.client().topology().context("vm.topology failed")?;
    ensure!(port < topology.pci.len(), "there is no port {port}");
    let node = topology.pci.swap_remove(port).children.pop();
    node.context("nothing is behind the port")
}

fn quarantined(machine: &Machine, port: usize, wanted: bool) -> Result<()> {
    let node = node(machine, port)?;
    ensure!(
        node.quarantined == wanted,
        "{}: quarantined is {}",
        node.id,
        node.quarantined
    );
    Ok(())
}

fn together(stage: &mut Stage) -> Result<()> {
    let servers = servers(stage, 8, RESET_MS)?;
    let devices: Vec<_> = servers
        .iter()
        .map(|server| server.device(30_000, false))
        .collect();
    let mut machine = launch(stage, devices)?;
    for _ in 0..3 {
        let report = machine.reboot()?;
        machine.ready()?;
        let begin = |id: &str| of(&report, id).map(|device| (device.start_ns, device.end_ns));
        for server in 0..8 {
            let (_, end) = begin(&format!("s{server}"))?;
            // Each begins before any has ended.
            for other in 0..8 {
                let (start, _) = begin(&format!("s{other}"))?;
                ensure!(start < end, "s{other} waited for s{server}");
            }
        }
        stage.note(format!(
            "8 × {RESET_MS} ms in {} ms",
            report.teardown_ns / 1_000_000
        ));
    }
    machine.end()
}

fn killed(stage: &mut Stage) -> Result<()> {
    let mut server = Served::start(stage, "s0", 0)?;
    let drive = stage.drive("d0")?;
    let mut machine = launch(stage, [server.device(30_000, false), drive])?;
    server.kill()?;
    machine.event("device-gone", |event| match event {
        EventKind::DeviceGone { id, .. } if id == "s0" => Some(()),
        _ => None,
    })?;
    machine.event("device-quarantined", |event| {
        matches!(event, EventKind::DeviceQuarantined { id } if id == "s0").then_some(())
    })?;
    quarantined(&machine, 0, true)?;
    let gone = node(&machine, 0)?.passthrough.and_then(|node| node.gone);
    ensure!(gone.is_some(), "the topology does not say why it is gone");

    let report = machine.reboot()?;
    machine.ready()?;
    let outcome = &of(&report, "s0")?.outcome;
    ensure!(
        matches!(outcome, Outcome::Failed { .. }),
        "its teardown is {outcome:?}"
    );
    ensure!(
        report
            .warnings
            .iter()
            .any(|warning| warning.starts_with("s0 is quarantined")),
        "the report warns of {:?}",
        report.warnings
    );
    ensure!(
        of(&report, "d0")?.outcome == Outcome::Done,
        "the emulated drive suffers"
    );

    server.start_anew()?;
    machine.event("device-back", |event| {
        matches!(event, EventKind::DeviceBack { id } if id == "s0").then_some(())
    })?;
    quarantined(&machine, 0, true)?;
    let report = machine.reboot()?;
    machine.ready()?;
    ensure!(
        of(&report, "s0")?.outcome == Outcome::Done,
        "it is back, and its teardown is {:?}",
        of(&report, "s0")?.outcome
    );
    quarantined(&machine, 0, false)?;
    machine.end()
}

fn hung(stage: &mut Stage) -> Result<()> {
    let mut server = Served::start(stage, "s0", 0)?;
    let mut machine = launch(stage, [server.device(DEADLINE_MS, false)])?;
    server.hang()?;
    machine.client().reboot().context("vm.reboot failed")?;
    let report = machine.stopped_by(Cause::Api)?;
    let device = of(&report, "s0")?;
    ensure!(
        device.outcome == Outcome::TimedOut,
        "its teardown is {:?}",
        device.outcome
    );
    ensure!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("stays stopped until it is quiet")),
        "the report warns of {:?}",
        report.warnings
    );
    match machine.client().boot() {
        Ok(()) => bail!("the machine boots in memory that the server may write to"),
        Err(error) => ensure!(error.code() == Some(ErrorCode::WrongState), "{error}"),
    }
    server.kill()?;
    machine.start()?;
    machine.ready()?;
    quarantined(&machine, 0, true)?;

    // A machine that is shut down meanwhile sees it again when it boots.
    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.stopped_by(Cause::Shutdown)?;
    server.start_anew()?;
    machine.start()?;
    machine.ready()?;
    quarantined(&machine, 0, false)?;
    machine.end()
}

fn fenced(stage: &mut Stage) -> Result<()> {
    let mut servers = servers(stage, 8, 0)?;
    let devices: Vec<_> = servers
        .iter()
        .map(|server| server.device(DEADLINE_MS, true))
        .collect();
    let mut machine = launch(stage, devices)?;
    for server in &servers[..3] {
        server.hang()?;
    }
    let report = machine.reboot()?;
    machine.ready()?;
    stage.note(format!(
        "3 of 8 hung, with a deadline of {DEADLINE_MS} ms: {} ms",
        report.teardown_ns / 1_000_000
    ));
    for (at, server) in servers.iter_mut().enumerate() {
        let outcome = &of(&report, &format!("s{at}"))?.outcome;
        let hung = at < 3;
        ensure!(
            (*outcome == Outcome::Done) != hung,
            "s{at} ended with {outcome:?}"
        );
        quarantined(&machine, at, hung)?;
        ensure!(
            server.has_ended()? == hung,
            "whether s{at} was ended is not as it should be"
        );
    }
    machine.end()
}
