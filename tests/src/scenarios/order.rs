//! The checker that every teardown report of every scenario goes through: whether the stamps keep the
//! order that tree, links, flags and policy ask for, and whether the sums are those of the stamps.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use api::config::{SerialMode, TeardownPolicy, VmConfig};
use api::report::{DeviceReport, TeardownReport};

/// The devices that every machine has beside those of its configuration; `serial` unless it is off.
const LEGACY: [&str; 5] = ["i8042", "rtc", "acpi", "reset", "boot-marker"];

/// Checks a report against the configuration of its machine.
pub(super) fn check(report: &TeardownReport, config: &VmConfig) -> Result<()> {
    let devices = by_id(report)?;
    check_devices(&devices, config)
        .and_then(|()| check_stamps(report))
        .and_then(|()| check_order(&devices))
        .and_then(|()| check_overlap(report))
        .and_then(|()| check_sums(report))
        .with_context(|| {
            format!(
                "the report of teardown {} ({:?}, {:?}) is wrong",
                report.number, report.cause, report.policy
            )
        })
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

fn check_stamps(report: &TeardownReport) -> Result<()> {
    let mut last_end = 0;
    for device in &report.devices {
        let id = &device.id;
        ensure!(
            device.start_ns >= report.vcpu_pause_ns,
            "{id} began before the vCPUs stood still"
        );
        ensure!(
            device.ready_ns <= device.start_ns && device.start_ns <= device.end_ns,
            "{id} was ready at {}, began at {} and ended at {} ns",
            device.ready_ns,
            device.start_ns,
            device.end_ns
        );
        ensure!(
            device.end_ns >= last_end,
            "{id} is listed after a device that ended later"
        );
        last_end = device.end_ns;
        for phase in &device.phases {
            ensure!(
                device.start_ns <= phase.start_ns
                    && phase.start_ns <= phase.end_ns
                    && phase.end_ns <= device.end_ns,
                "the phase {} of {id} is not within its teardown",
                phase.name
            );
        }
    }
    Ok(())
}

/// A child ends before its parent begins, a consumer before its supplier.
fn check_order(devices: &HashMap<&str, &DeviceReport>) -> Result<()> {
    let before = |first: &DeviceReport, then: &str, what: &str| {
        let Some(then) = devices.get(then) else {
            bail!("{} names {then}, which is not in the report", first.id);
        };
        ensure!(
            first.end_ns <= then.start_ns,
            "{} ended at {} ns, after its {what} {} had begun at {} ns",
            first.id,
            first.end_ns,
            then.id,
            then.start_ns
        );
        Ok(())
    };
    for device in devices.values() {
        if let Some(parent) = &device.parent {
            before(device, parent, "parent")?;
        }
        for supplier in &device.suppliers {
            before(device, supplier, "supplier")?;
        }
        for id in &device.waited_on {
            let on = devices
                .get(id.as_str())
                .with_context(|| format!("{} waited on {id}, which is unknown", device.id))?;
            before(on, &device.id, "dependant")?;
        }
    }
    Ok(())
}

/// Under `serial` nothing overlaps; under `completion` no two synchronous devices do.
fn check_overlap(report: &TeardownReport) -> Result<()> {
    let mut on_one_thread: Vec<_> = report
        .devices
        .iter()
        .filter(|device| report.policy == TeardownPolicy::Serial || !device.asynchronous)
        .collect();
    on_one_thread.sort_by_key(|device| (device.start_ns, device.end_ns));
    for pair in on_one_thread.windows(2) {
        ensure!(
            pair[0].end_ns <= pair[1].start_ns,
            "{} and {} overlap, which neither may",
            pair[0].id,
            pair[1].id
        );
    }
    Ok(())
}

fn check_sums(report: &TeardownReport) -> Result<()> {
    let start = report.devices.iter().map(|device| device.start_ns).min();
    let end = report.devices.iter().map(|device| device.end_ns).max();
    let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
    let length = |device: &DeviceReport| device.end_ns - device.start_ns;
    let sum: u64 = report.devices.iter().map(length).sum();
    let longest = report.devices.iter().map(length).max().unwrap_or(0);
    // Each stamp is rounded by itself.
    let slack = report.devices.len() as u64 + 1;
    let about = |what: &str, told: u64, stamped: u64| {
        ensure!(
            told.abs_diff(stamped) <= slack,
            "{what} is given as {told} ns, but the stamps say {stamped} ns"
        );
        Ok(())
    };
    about("the teardown", report.teardown_ns, end - start)?;
    about("its begin", report.teardown_start_ns, start)?;
    about("the serial sum", report.serial_sum_ns, sum)?;
    let path = report.critical_path_ns;
    ensure!(
        path + slack >= longest && path <= sum + slack,
        "the critical path of {path} ns is shorter than one device ({longest} ns) or longer than all ({sum} ns)"
    );
    ensure!(
        path <= report.teardown_ns + slack,
        "the critical path of {path} ns is longer than the teardown of {} ns",
        report.teardown_ns
    );
    if let (Some(reset), Some(rest)) = (report.reset_ns, report.reset_rest_ns) {
        about(
            "the reset",
            reset,
            report.vcpu_pause_ns + report.teardown_ns + rest,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
