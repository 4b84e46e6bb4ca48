//! Devices that come to a machine and leave it while it does not run.

use anyhow::{Context, Result, bail, ensure};
use api::client::ClientError;
use api::config::AddDevice;
use api::error::ErrorCode;
use api::report::Cause;
use api::state::VmState;
use serde_json::json;

use super::design::{Design, root_port};
use super::machine::Machine;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "devices_come_and_go_while_the_machine_stands_still",
    60,
    come_and_go,
)];

/// The devices behind the port.
fn behind_port(machine: &Machine) -> Result<Vec<String>> {
    let topology = machine.client().topology().context("vm.topology failed")?;
    let port = topology.pci.first().context("there is no port")?;
    Ok(port.children.iter().map(|node| node.id.clone()).collect())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, code: ErrorCode) -> Result<String> {
    match answer {
        Ok(done) => bail!("{done:?} instead of {code:?}"),
        Err(error) => {
            ensure!(error.code() == Some(code), "{error} instead of {code:?}");
            Ok(error.to_string())
        }
    }
}

fn come_and_go(stage: &mut Stage) -> Result<()> {
    let add = |id: &str, path: &std::path::Path, function: u8| {
        let body = json!({
            "type": "nvme", "id": id, "parent": "rp0", "function": function, "namespaces": [{ "path": path }],
        });
        AddDevice::from_json(body.to_string().as_bytes()).context("the device is refused")
    };
    let added = add("added", &stage.raw_file("added", 4)?, 1)?;
    let config = stage
        .tiny(&[READY])?
        .with([root_port("rp0", [stage.drive("d0")?])]);
    let mut machine = stage.create(config)?;

    let missing = add("missing", &stage.folder().join("nobody.raw"), 1)?;
    refused(
        machine.client().add_device(&missing),
        ErrorCode::FileMissing,
    )?;
    ensure!(behind_port(&machine)? == ["d0"], "the machine has changed");
    machine.start()?;
    machine.ready()?;

    let told = refused(machine.client().add_device(&added), ErrorCode::WrongState)?;
    ensure!(told.contains("vm.shutdown"), "{told}");
    refused(machine.client().remove_device("d0"), ErrorCode::WrongState)?;

    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.stopped_by(Cause::Shutdown)?;
    let answer = machine.client().add_device(&added);
    ensure!(
        answer.context("vm.add-device failed")?.id == "added",
        "another device was added"
    );
    ensure!(
        machine.state()? == VmState::Shutdown,
        "it is no longer shut down"
    );
    ensure!(
        behind_port(&machine)? == ["d0", "added"],
        "the device is not there"
    );
    machine.is_changed()?;
    let boot = machine.client().info().context("vm.info failed")?.boot;
    ensure!(boot == 1, "the boot has the number {boot}");
    ensure!(machine.report(1)?.number == 1, "the report is another one");

    machine.start()?;
    machine.ready()?;
    let report = machine.reboot()?;
    machine.ready()?;
    ensure!(
        report.devices.iter().any(|device| device.id == "added"),
        "the device was not shut down"
    );
    machine.client().shutdown().context("vm.shutdown failed")?;
    machine.stopped_by(Cause::Shutdown)?;
    let gone = machine.client().remove_device("added");
    gone.context("vm.remove-device failed")?;
    ensure!(
        behind_port(&machine)? == ["d0"],
        "the device is still there"
    );
    refused(machine.client().remove_device("added"), ErrorCode::NotFound)?;
    machine.is_changed()?;
    machine.start()?;
    machine.ready()?;
    machine.end()
}
