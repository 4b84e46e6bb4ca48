//! The host takes a passed-through drive back while its guest uses it.

use std::fs;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use api::events::EventKind;
use api::report::Outcome;

use super::super::design::{Design, root_port};
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{check_resets, device, forget, host_drives, ids, sees, write_on};

pub(super) const SCENARIOS: &[Scenario] =
    &[Scenario::new("a_drive_that_the_host_takes_back_is_let_go", 180, unbound).with_vfio()];

const DRIVER: &str = "/sys/bus/pci/drivers/vfio-pci";

fn unbound(stage: &mut Stage) -> Result<()> {
    let address = stage
        .files
        .passed_through
        .first()
        .context("the host has no drive that is bound to VFIO")?
        .clone();
    let drives = host_drives(stage, 2)?;
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=2 sundown.wait=5")
        .with(ports);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    pattern(&mut machine, 1)?;
    write_on(&mut machine)?;
    // Returns when nobody has the device open any more.
    let unbind = {
        let address = address.clone();
        thread::spawn(move || fs::write(format!("{DRIVER}/unbind"), address))
    };
    let reason = machine.event("device-gone", |event| match event {
        EventKind::DeviceGone { id, reason } if id == "v0" => Some(reason.clone()),
        _ => None,
    })?;
    stage.note(format!("the machine says: {reason}"));
    let unbound = unbind
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that unbinds panicked"))?;
    unbound.context("the host could not unbind the drive")?;
    ensure!(
        !fs::exists(format!("{DRIVER}/{address}"))?,
        "the drive is still bound"
    );
    machine.run("true").context("the guest did not live on")?;
    let report = machine.reboot()?;
    let Outcome::Failed { error } = &device(&report, "v0")?.outcome else {
        bail!("v0 ended with {:?}", device(&report, "v0")?.outcome);
    };
    ensure!(error.contains("gone"), "the report says: {error}");
    check_resets(&report, &["v1".to_owned()], true)?;
    machine.ready()?;
    sees(&mut machine, 1)?;

    // And back: bound again, the guest has it from its next boot on.
    fs::write(format!("{DRIVER}/bind"), &address).context("could not bind the drive again")?;
    machine.reboot()?;
    machine.ready()?;
    sees(&mut machine, 2)?;
    pattern(&mut machine, 2)?;
    let report = machine.reboot()?;
    check_resets(&report, &ids(2), true)?;
    machine.ready()?;
    machine.end()
}
