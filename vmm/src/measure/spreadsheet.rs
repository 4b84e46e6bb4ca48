//! Reboots and devices as CSV (RFC 4180), a row each. Times are nanoseconds, empty where there is none.

use api::report::{GuestOrder, Outcome};
use serde::Serialize;

use super::Reboot;

#[derive(Serialize)]
struct TeardownRow<'a> {
    reboot: usize,
    round: u64,
    policy: &'a str,
    teardown: u64,
    boot: u64,
    cause: api::report::Cause,
    teardown_ns: u64,
    critical_path_ns: u64,
    efficiency: f64,
    serial_sum_ns: u64,
    vcpu_pause_ns: u64,
    reset_rest_ns: Option<u64>,
    reset_ns: Option<u64>,
    ready_ns: Option<u64>,
    workers_used: u16,
    guest_order: GuestOrder,
    guest_handshake_sum_ns: u64,
    guest_span_ns: u64,
    guest_overlap: Option<f64>,
    failed_devices: usize,
    violations: usize,
}

#[derive(Serialize)]
struct DeviceRow<'a> {
    reboot: usize,
    round: u64,
    policy: &'a str,
    teardown: u64,
    device: &'a str,
    class: &'a str,
    address: Option<&'a str>,
    parent: Option<&'a str>,
    #[serde(rename = "async")]
    asynchronous: bool,
    position: u64,
    cookie: Option<u64>,
    ready_ns: u64,
    start_ns: u64,
    end_ns: u64,
    took_ns: u64,
    held_up_by: Option<&'a str>,
    critical: bool,
    outcome: &'a str,
    error: Option<&'a str>,
    guest_requested_ns: Option<i64>,
    guest_completed_ns: Option<i64>,
}

/// A row a reboot, in the order in which they ran.
///
/// # Errors
/// A row cannot be written as text; none of these is such a row.
pub fn teardowns_csv(reboots: &[Reboot]) -> Result<String, csv::Error> {
    let rows = reboots.iter().zip(1..).map(|(measured, reboot)| {
        let report = &measured.report;
        TeardownRow {
            reboot,
            round: measured.round,
            policy: measured.policy.name(),
            teardown: report.number,
            boot: report.boot,
            cause: report.cause,
            teardown_ns: report.teardown_ns,
            critical_path_ns: report.critical_path_ns,
            efficiency: report.efficiency,
            serial_sum_ns: report.serial_sum_ns,
            vcpu_pause_ns: report.vcpu_pause_ns,
            reset_rest_ns: report.reset_rest_ns,
            reset_ns: report.reset_ns,
            ready_ns: measured.ready_ns,
            workers_used: report.workers_used,
            guest_order: report.guest.order,
            guest_handshake_sum_ns: report.guest.handshake_sum_ns,
            guest_span_ns: report.guest.span_ns,
            guest_overlap: report.guest.overlap,
            failed_devices: measured.failed().count(),
            violations: measured.violations.len(),
        }
    });
    text(rows)
}

/// A row a device and reboot, in the order in which they ended.
///
/// # Errors
/// As [`teardowns_csv`].
pub fn devices_csv(reboots: &[Reboot]) -> Result<String, csv::Error> {
    let rows = reboots.iter().zip(1..).flat_map(|(measured, reboot)| {
        let report = &measured.report;
        report.devices.iter().map(move |device| {
            let mut guest = report.guest.devices.iter();
            let guest = guest.find(|guest| guest.id == device.id);
            let handshake = guest.and_then(|guest| guest.handshake);
            let (outcome, error) = match &device.outcome {
                Outcome::Done => ("done", None),
                Outcome::Failed { error } => ("failed", Some(error.as_str())),
                Outcome::TimedOut => ("timed-out", None),
                Outcome::Removed => ("removed", None),
            };
            DeviceRow {
                reboot,
                round: measured.round,
                policy: measured.policy.name(),
                teardown: report.number,
                device: &device.id,
                class: &device.class,
                address: device.address.as_deref(),
                parent: device.parent.as_deref(),
                asynchronous: device.asynchronous,
                position: device.position,
                cookie: device.cookie,
                ready_ns: device.ready_ns,
                start_ns: device.start_ns,
                end_ns: device.end_ns,
                took_ns: device.end_ns.saturating_sub(device.start_ns),
                held_up_by: device.held_up_by.as_deref(),
                critical: device.critical,
                outcome,
                error,
                guest_requested_ns: handshake.map(|handshake| handshake.requested_ns),
                guest_completed_ns: handshake.and_then(|handshake| handshake.completed_ns),
            }
        })
    });
    text(rows)
}

fn text(rows: impl Iterator<Item = impl Serialize>) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
