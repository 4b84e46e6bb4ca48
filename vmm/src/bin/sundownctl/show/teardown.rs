//! Teardowns: the list, and where the time of one went.

use std::fmt::Write;

use api::report::{DeviceReport, Outcome, TeardownReport, TeardownSummary};

use super::{guest, ms, name};
use crate::table::{Align, Table};

/// Where the column of modelled latencies stands, where there are any: behind what was measured.
const MODEL: usize = 7;

/// The list.
pub fn list(teardowns: &[TeardownSummary]) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        right("NO"),
        right("BOOT"),
        ("CAUSE", Align::Left),
        ("POLICY", Align::Left),
        right("TEARDOWN MS"),
        right("RESET MS"),
        right("READY MS"),
        right("FAILED"),
        ("GUEST", Align::Left),
        right("GUEST MS"),
    ]);
    for teardown in teardowns {
        table.row(vec![
            teardown.number.to_string(),
            teardown.boot.to_string(),
            name(teardown.cause),
            teardown.policy.to_string(),
            ms(teardown.teardown_ns),
            some_ms(teardown.reset_ns),
            some_ms(teardown.reset_to_ready_ns),
            teardown.failed.to_string(),
            name(teardown.guest_order),
            some_ms(Some(teardown.guest_span_ns).filter(|&ns| ns > 0)),
        ]);
    }
    table.draw()
}

/// One teardown: a line a device, in the order in which they ended, then the totals.
pub fn report(report: &TeardownReport) -> String {
    let (left, right) = (|name| (name, Align::Left), |name| (name, Align::Right));
    let modelled = report.devices.iter().any(|one| one.modelled_ns.is_some());
    let mut heads = vec![
        left("DEVICE"),
        left("ADDRESS"),
        left("ASYNC"),
        right("READY MS"),
        right("START MS"),
        right("END MS"),
        right("TOOK MS"),
        left("HELD UP BY"),
        left("OUTCOME"),
    ];
    if modelled {
        heads.insert(MODEL, right("MODEL MS"));
    }
    let mut table = Table::new(&heads);
    for device in &report.devices {
        let mut row = row(device);
        if modelled {
            row.insert(MODEL, some_ms(device.modelled_ns));
        }
        table.row(row);
    }
    let mut text = format!(
        "teardown {} ended boot {}: {}, policy {}, {} of {} workers used\n\n{}\n",
        report.number,
        report.boot,
        name(report.cause),
        report.policy,
        report.workers_used,
        report.workers,
        table.draw()
    );
    let totals = [
        ("vCPU pause", Some(report.vcpu_pause_ns)),
        ("teardown", Some(report.teardown_ns)),
        ("rest of the reset", report.reset_rest_ns),
        ("reset", report.reset_ns),
        ("reset to ready", report.reset_to_ready_ns),
        ("sum of all devices", Some(report.serial_sum_ns)),
        ("critical path", Some(report.critical_path_ns)),
    ];
    for (what, ns) in totals {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{what:<20} {:>12} ms", some_ms(ns));
    }
    let _ = writeln!(
        text,
        "{:<20} {:>12.1} %",
        "efficiency",
        report.efficiency * 100.0
    );
    text.push('\n');
    text += &guest::part(&report.guest);
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn row(device: &DeviceReport) -> Vec<String> {
    let outcome = match &device.outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Failed { error } => format!("failed: {error}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Removed => "removed".to_owned(),
    };
    vec![
        format!("{}{}", device.id, if device.critical { " *" } else { "" }),
        device.address.clone().unwrap_or_else(|| "-".to_owned()),
        if device.asynchronous { "yes" } else { "no" }.to_owned(),
        ms(device.ready_ns),
        ms(device.start_ns),
        ms(device.end_ns),
        ms(device.end_ns.saturating_sub(device.start_ns)),
        device.held_up_by.clone().unwrap_or_default(),
        outcome,
    ]
}

fn some_ms(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), ms)
}
