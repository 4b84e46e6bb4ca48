//! What a report comes to, in sentences: what held everything up, and how the guest went.

use api::config::TeardownPolicy;
use api::report::{DeviceReport, GuestOrder, Outcome, TeardownReport};

use super::facts::{count, grouped, handshakes, longest_critical, percent, took};
use crate::picture::milliseconds;

/// The sentences, the most important one first.
pub(super) fn sentences(report: &TeardownReport) -> Vec<String> {
    let mut sentences = vec![held_up(report)];
    sentences.extend(beyond(report));
    sentences.extend(troubles(report));
    sentences.extend(guest(report));
    sentences
}

/// What held everything up.
fn held_up(report: &TeardownReport) -> String {
    if report.devices.is_empty() {
        return "There was no device to shut down.".to_owned();
    }
    let chain = report.devices.iter().filter(|device| device.critical);
    let chain = count(chain.count(), "device");
    let critical_path = milliseconds(report.critical_path_ns);
    let Some(longest) = longest_critical(report) else {
        return "No device held the others up.".to_owned();
    };
    let (id, its) = (&longest.id, took(longest));
    let peers = report
        .devices
        .iter()
        .filter(|device| device.id != longest.id && took(device) >= its - its / 20)
        .count();
    let peers = match peers {
        0 => String::new(),
        1 => " One more device took about as long.".to_owned(),
        _ => format!(" {peers} more devices took about as long."),
    };
    let (took, part) = (milliseconds(its), percent(its, report.critical_path_ns));
    match report.policy {
        TeardownPolicy::Serial => format!(
            "The host shut its devices down one after the other: {}, where {critical_path} would do side by side. \
             Of these {id} needs {took} ({part}).{peers}",
            milliseconds(report.teardown_ns)
        ),
        TeardownPolicy::Cookie | TeardownPolicy::Completion => format!(
            "{id} held everything up: it took {took} of the {critical_path} ({part}) \
             of the critical path of {chain}.{peers}"
        ),
    }
}

/// What the critical path does not account for, if that is a tenth of it and a millisecond.
fn beyond(report: &TeardownReport) -> Option<String> {
    let more = report.teardown_ns.saturating_sub(report.critical_path_ns);
    let least = (report.critical_path_ns / 10).max(1_000_000);
    if report.policy == TeardownPolicy::Serial || more < least {
        return None;
    }
    let waited = |device: &&DeviceReport| device.start_ns.saturating_sub(device.ready_ns);
    let long = |device: &&DeviceReport| waited(device) >= more.div_ceil(2);
    let all_used = report.workers_used >= report.workers;
    let delayed = report.devices.iter().filter(long);
    let why = if all_used && delayed.clone().any(|device| device.asynchronous) {
        format!(
            "devices waited for one of the {} workers",
            grouped(u64::from(report.workers))
        )
    } else if let Some(longest) = delayed.max_by_key(waited) {
        format!(
            "{} was ready {} before it was called, and that was not for want of a worker",
            longest.id,
            milliseconds(waited(&longest))
        )
    } else {
        "no device waited for half of that; it lies in several gaps between a device being ready \
         and being called"
            .to_owned()
    };
    Some(format!(
        "The teardown took {} beyond its critical path: {why}.",
        milliseconds(more)
    ))
}

/// Devices that did not end as they should, at most three by name.
fn troubles(report: &TeardownReport) -> Option<String> {
    const NAMED: usize = 3;
    let troubled: Vec<_> = report
        .devices
        .iter()
        .filter(|device| device.outcome != Outcome::Done)
        .collect();
    if troubled.is_empty() {
        return None;
    }
    let mut parts: Vec<_> = troubled
        .iter()
        .take(NAMED)
        .map(|device| match &device.outcome {
            Outcome::TimedOut => format!(
                "{} was given up at its deadline, after {}",
                device.id,
                milliseconds(took(device))
            ),
            Outcome::Failed { error } => format!("{} failed: {error}", device.id),
            Outcome::Removed => format!("{} was removed before its turn came", device.id),
            Outcome::Done => String::new(),
        })
        .collect();
    if let Some(more) = troubled.len().checked_sub(NAMED).filter(|&more| more > 0) {
        parts.push(format!(
            "{} more did not end as they should",
            count(more, "device")
        ));
    }
    Some(format!("{}.", parts.join("; ")))
}

/// How the guest went.
fn guest(report: &TeardownReport) -> Option<String> {
    let guest = &report.guest;
    let span = milliseconds(guest.span_ns);
    let drives = handshakes(guest);
    match guest.order {
        GuestOrder::None => None,
        GuestOrder::Single => Some(format!("The guest shut one drive down, in {span}.")),
        GuestOrder::Serial => {
            let times = guest.span_ns as f64 / report.teardown_ns.max(1) as f64;
            let beside = if times >= 1.5 {
                format!(", {times:.1} times as long as the host’s teardown")
            } else {
                String::new()
            };
            Some(format!(
                "The guest went serial: {drives} shutdown handshakes one after the other, {span}{beside}."
            ))
        }
        GuestOrder::Parallel => {
            let overlap = guest.overlap.map_or(String::new(), |overlap| {
                format!(", {overlap:.1} at once on average")
            });
            Some(format!(
                "The guest went parallel: {drives} shutdown handshakes in {span}{overlap}."
            ))
        }
    }
}
