//! The checker that every teardown report of every scenario goes through: whether it is of the machine that
//! was configured, and whether it keeps the rules of its policy, as `sundownctl check` has them.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use api::config::{SerialMode, VmConfig};
use api::report::{DeviceReport, TeardownReport};

/// The devices that every machine has beside those of its configuration; `serial` unless it is off.
const LEGACY: [&str; 5] = ["i8042", "rtc", "acpi", "reset", "boot-marker"];

/// Checks a report against the configuration of its machine.
pub(super) fn check(report: &TeardownReport, config: &VmConfig) -> Result<()> {
    by_id(report)
        .and_then(|devices| check_devices(&devices, config))
        .and_then(|()| check_rules(report))
        .with_context(|| {
            format!(
                "the report of teardown {} ({:?}, {:?}) is wrong",
                report.number, report.cause, report.policy
            )
        })
}

fn check_rules(report: &TeardownReport) -> Result<()> {
    let violations = vmm::check::check(report);
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    ensure!(lines.is_empty(), "{}", lines.join("\n"));
    Ok(())
}

fn by_id(report: &TeardownReport) -> Result<HashMap<&str, &DeviceReport>> {
    let mut devices = HashMap::new();
    for device in &report.devices {
        ensure!(
            devices.insert(device.id.as_str(), device).is_none(),
            "{} was shut down twice",
            device.id
        );
    }
    Ok(devices)
}

/// Every device exactly once, with the parent, suppliers and flag of its configuration.
fn check_devices(devices: &HashMap<&str, &DeviceReport>, config: &VmConfig) -> Result<()> {
    let mut wanted: BTreeSet<&str> = LEGACY.into_iter().collect();
    if config.serial.mode != SerialMode::Off {
        wanted.insert("serial");
    }
    wanted.extend(config.devices().map(|(_, device)| device.id()));
    let found: BTreeSet<&str> = devices.keys().copied().collect();
    ensure!(
        wanted == found,
        "missing: {:?}; not configured: {:?}",
        wanted.difference(&found).collect::<Vec<_>>(),
        found.difference(&wanted).collect::<Vec<_>>()
    );
    for (parent, device) in config.devices() {
        let (id, reported) = (device.id(), devices[device.id()]);
        ensure!(
            reported.parent.as_deref() == parent,
            "{id} has the parent {:?}, not {parent:?}",
            reported.parent
        );
        let suppliers: BTreeSet<&str> = config
            .links
            .iter()
            .filter(|link| link.consumer == id && !link.sync_state_only)
            .map(|link| link.supplier.as_str())
            .collect();
        let reported_suppliers: BTreeSet<&str> =
            reported.suppliers.iter().map(String::as_str).collect();
        ensure!(
            suppliers == reported_suppliers,
            "{id} has the suppliers {reported_suppliers:?}, not {suppliers:?}"
        );
        ensure!(
            !reported.asynchronous || device.options().is_async(),
            "{id} was shut down asynchronously although it is synchronous"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
