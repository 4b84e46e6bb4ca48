//! Supplier links, synchronous devices, and devices that miss their deadline.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::error::ErrorCode;
use api::events::EventKind;
use api::report::{Cause, Outcome};
use api::state::{TopologyNode, VmState};

use super::design::{Design, root_port};
use super::teardown::device;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a_consumer_ends_before_its_supplier_begins", 60, suppliers),
    Scenario::new("a_synchronous_drive_holds_nobody_up", 60, synchronous),
    Scenario::new("a_late_device_can_keep_the_machine_stopped", 60, stop),
    Scenario::new("a_late_device_is_gone_from_the_next_boot", 150, quarantine),
];

const MS: u64 = 1_000_000;

fn suppliers(stage: &mut Stage) -> Result<()> {
    let drives = ["journal", "data", "cache", "alone"].map(|id| stage.drive(id));
    let [journal, data, cache, alone] = drives;
    let config = stage
        .tiny(&[READY])?
        .with([
            journal?.teardown_ms(80),
            root_port("rp0", [data?.teardown_ms(60)]),
            root_port("rp1", [cache?.teardown_ms(40)]),
            root_port("rp2", [alone?.teardown_ms(150)]),
        ])
        .link("data", "journal")
        .link("cache", "data");
    let mut machine = stage.launch(config)?;
    let report = machine.reboot()?;
    let [journal, data, cache, alone] =
        ["journal", "data", "cache", "alone"].map(|id| device(&report, id));
    let (journal, data, cache, alone) = (journal?, data?, cache?, alone?);
    // cache → data → journal; the checker has seen that none overlap.
    ensure!(
        cache.end_ns <= data.start_ns && data.end_ns <= journal.start_ns,
        "the chain of links was not kept"
    );
    ensure!(journal.suppliers.is_empty(), "journal is no consumer");
    ensure!(
        data.held_up_by.as_deref() == Some("cache"),
        "data was held up by {:?}",
        data.held_up_by
    );
    ensure!(
        alone.start_ns < cache.end_ns,
        "alone waited for cache, with which it has nothing to do"
    );
    machine.end()
}

fn synchronous(stage: &mut Stage) -> Result<()> {
    let drives = ["s0", "s1", "a0", "a1"].map(|id| stage.drive(id));
    let [s0, s1, a0, a1] = drives;
    let config = stage.tiny(&[READY])?.with([
        root_port("rp0", [s0?.teardown_ms(100).synchronous()]),
        root_port("rp1", [s1?.teardown_ms(100).synchronous()]),
        root_port("rp2", [a0?.teardown_ms(100)]),
        root_port("rp3", [a1?.teardown_ms(100)]),
    ]);
    let mut machine = stage.launch(config)?;
    let report = machine.reboot()?;
    let [s0, s1, a0, a1] = ["s0", "s1", "a0", "a1"].map(|id| device(&report, id));
    let (s0, s1, a0, a1) = (s0?, s1?, a0?, a1?);
    ensure!(
        !s0.asynchronous && !s1.asynchronous && a0.asynchronous && a1.asynchronous,
        "the flags are not those of the configuration"
    );
    ensure!(
        a0.start_ns < a1.end_ns && a1.start_ns < a0.end_ns,
        "the asynchronous drives did not overlap"
    );
    ensure!(
        a0.start_ns < s0.end_ns.max(s1.end_ns) && report.teardown_ns < 390 * MS,
        "the asynchronous drives waited for the synchronous ones"
    );
    ensure!(
        report.teardown_ns >= 200 * MS,
        "the synchronous drives overlapped"
    );
    machine.end()
}

fn stop(stage: &mut Stage) -> Result<()> {
    let late = stage
        .drive("late")?
        .teardown_ms(3000)
        .deadline_ms(150)
        .or_stop();
    let prompt = stage.drive("prompt")?;
    let config = stage
        .tiny(&[READY])?
        .with([root_port("rp0", [late]), root_port("rp1", [prompt])]);
    let mut machine = stage.launch(config)?;
    machine.client().reboot().context("vm.reboot failed")?;
    let report = machine.stopped_by(Cause::Api)?;
    ensure!(
        device(&report, "late")?.outcome == Outcome::TimedOut,
        "late is reported as {:?}",
        device(&report, "late")?.outcome
    );
    ensure!(
        device(&report, "prompt")?.outcome == Outcome::Done,
        "a late device stopped another"
    );
    ensure!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("late")),
        "no warning names the device: {:?}",
        report.warnings
    );
    // It may still write to guest memory.
    match machine.client().boot() {
        Ok(()) => {
            anyhow::bail!("the machine was booted although a device may still write to its memory")
        }
        Err(error) => ensure!(
            error.code() == Some(ErrorCode::WrongState),
            "vm.boot was refused with {error}"
        ),
    }
    let state = machine.state()?;
    ensure!(state == VmState::Shutdown, "the machine is {state:?}");
    machine.client().delete().context("vm.delete failed")?;
    machine
        .client()
        .vmm_shutdown()
        .context("vmm.shutdown failed")?;
    let code = machine.process.exit_code(Duration::from_secs(20))?;
    ensure!(code == 0, "exit code {code}");
    Ok(())
}

fn quarantine(stage: &mut Stage) -> Result<()> {
    let late = stage.drive("late")?.teardown_ms(3000).deadline_ms(200);
    let ports = [
        root_port("rp0", [stage.drive("d0")?]),
        root_port("rp1", [late]),
        root_port("rp2", [stage.drive("d2")?]),
    ];
    let config = stage.linux().words("sundown.drives=2").with(ports);
    let mut machine = stage.launch(config)?;
    sleep(Duration::from_millis(300));
    machine.client().reboot().context("vm.reboot failed")?;
    let number = machine.teardown_by(Cause::Api)?;
    let gone = machine.event("device-quarantined", |event| match event {
        EventKind::DeviceQuarantined { id } => Some(id.clone()),
        _ => None,
    })?;
    ensure!(gone == "late", "{gone} was quarantined");
    machine.booted()?;
    let report = machine.report(number)?;
    let late = device(&report, "late")?;
    ensure!(
        late.outcome == Outcome::TimedOut,
        "late is {:?}",
        late.outcome
    );
    ensure!(
        late.end_ns - late.start_ns >= 200 * MS && report.teardown_ns < 2000 * MS,
        "a deadline of 200 ms, but late was given up after {} ms and the teardown took {} ms",
        (late.end_ns - late.start_ns) / MS,
        report.teardown_ns / MS
    );
    for id in ["d0", "d2", "rp0", "rp1", "rp2"] {
        ensure!(
            device(&report, id)?.outcome == Outcome::Done,
            "{id} suffered too"
        );
    }
    let topology = machine.client().topology()?;
    let drives = topology.pci.iter().flat_map(|port| &port.children);
    let quarantined = |node: &TopologyNode| node.quarantined;
    let gone: Vec<_> = drives
        .filter(|node| quarantined(node))
        .map(|node| node.id.as_str())
        .collect();
    ensure!(
        gone == ["late"],
        "vm.topology shows {gone:?} as quarantined"
    );

    machine.ready()?;
    let seen = machine.run("list_namespaces; echo $namespace_count")?;
    ensure!(
        seen == ["2"],
        "the guest sees {seen:?} namespaces, 2 are left"
    );
    let behind = machine.run("ls /sys/bus/pci/devices | wc -l")?;
    // The host bridge, three ports, two drives.
    ensure!(
        behind == ["6"],
        "the guest sees {behind:?} PCI functions, 6 are left"
    );
    // The late device has returned long ago. It stays away, and the machine goes on without it.
    machine.reboot()?;
    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.check_reports()?;
    Ok(())
}
