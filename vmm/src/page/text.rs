//! A teardown as plain text, no wider than a mail.

use std::fmt::Write;

use api::report::TeardownReport;

use super::facts::{cause, grouped, handshakes, order, took, trouble};
use super::verdict;

/// Where lines are broken.
const WIDTH: usize = 72;
/// So many devices are named, those that took longest.
const NAMED: usize = 8;

/// The text.
pub(super) fn text(report: &TeardownReport) -> String {
    let mut text = String::new();
    let head = format!(
        "Teardown {}, policy {}, asked for by {}, ended boot {}",
        report.number,
        report.policy,
        cause(report.cause),
        report.boot
    );
    for line in wrapped(&head) {
        text += &line;
        text.push('\n');
    }
    text.push('\n');
    for sentence in verdict::sentences(report) {
        for line in wrapped(&sentence) {
            text += &line;
            text.push('\n');
        }
    }
    text.push('\n');
    let guest = (handshakes(&report.guest) > 0).then_some(report.guest.span_ns);
    let figures = [
        ("guest handshakes", guest),
        ("vCPU pause", Some(report.vcpu_pause_ns)),
        ("teardown", Some(report.teardown_ns)),
        ("critical path", Some(report.critical_path_ns)),
        ("sum of devices", Some(report.serial_sum_ns)),
        ("rest of reset", report.reset_rest_ns),
        ("request to ready", report.reset_to_ready_ns),
    ];
    for (name, ns) in figures {
        if let Some(ns) = ns {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<18} {:>18} ns", grouped(ns));
        }
    }
    let _ = writeln!(
        text,
        "  {:<18} {:>18.1} %",
        "efficiency",
        report.efficiency * 100.0
    );
    if let Some(overlap) = report.guest.overlap {
        let _ = writeln!(
            text,
            "  {:<18} {overlap:>18.2}   {}",
            "guest overlap",
            order(report.guest.order)
        );
    }
    text += &devices(report);
    for warning in &report.warnings {
        for line in wrapped(&format!("warning: {warning}")) {
            text += &line;
            text.push('\n');
        }
    }
    text
}

/// The devices that took longest, as a table.
fn devices(report: &TeardownReport) -> String {
    let mut devices: Vec<_> = report.devices.iter().collect();
    devices.sort_by_key(|device| (std::cmp::Reverse(took(device)), device.end_ns));
    let named = &devices[..devices.len().min(NAMED)];
    let width = named.iter().map(|device| device.id.chars().count()).max();
    let width = width.unwrap_or(0).max(6);
    let mut text = format!(
        "\n  {:width$}  {:>12}  {:>12}  {:>12}\n",
        "device", "start ms", "end ms", "took ms"
    );
    for device in named {
        let ms = |ns: u64| format!("{:.3}", ns as f64 / 1e6);
        let critical = if device.critical { " *" } else { "" };
        let fate = trouble(&device.outcome).map_or(String::new(), |fate| format!(" {fate}"));
        let _ = writeln!(
            text,
            "  {:width$}  {:>12}  {:>12}  {:>12}{critical}{fate}",
            device.id,
            ms(device.start_ns),
            ms(device.end_ns),
            ms(took(device))
        );
    }
    if devices.len() > NAMED {
        let _ = writeln!(text, "  and {} more", devices.len() - NAMED);
    }
    text += "  (* on the critical path; times from the reset request)\n";
    text
}

/// A text in lines that are no wider than [`WIDTH`], unless a word is.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            let joined = line.chars().count() + 1 + word.chars().count();
            if line.is_empty() {
                line.push_str(word);
            } else if joined <= WIDTH {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines
}
