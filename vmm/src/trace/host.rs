//! The host's part of a trace: the steps of the reset, and the teardown of every device.

use std::collections::HashMap;

use api::report::{DeviceReport, TeardownReport};

use super::absolute;
use super::event::{Args, Event, Kind, Micros};
use super::tracks::{HOST, RESET, Tracks};

/// Draws one report. `flow` is the number of the last arrow.
pub(super) fn draw(
    report: &TeardownReport,
    tracks: &Tracks<'_>,
    events: &mut Vec<Event>,
    flow: &mut u64,
) {
    steps(report, events);
    for device in &report.devices {
        teardown(report, device, tracks.host(&device.id), events);
    }
    let devices: HashMap<&str, &DeviceReport> = report
        .devices
        .iter()
        .map(|device| (device.id.as_str(), device))
        .collect();
    for waiter in &report.devices {
        let holder = waiter.held_up_by.as_deref().and_then(|id| devices.get(id));
        if let Some(holder) = holder {
            *flow += 1;
            arrow(report, holder, waiter, tracks, *flow, events);
        }
    }
}

/// The reset as a whole and its steps inside, and the boot that follows.
fn steps(report: &TeardownReport, events: &mut Vec<Event>) {
    let torn_down = report.teardown_start_ns.saturating_add(report.teardown_ns);
    let end = torn_down
        .max(report.vcpu_pause_ns)
        .max(report.reset_ns.unwrap_or(0));
    let mut step = |name: &str, from: u64, to: u64, args: Option<Args>| {
        events.push(Event {
            name: name.to_owned(),
            cat: "reset",
            pid: HOST,
            tid: RESET,
            kind: Kind::stretch(at(report, from), at(report, to)),
            args,
        });
    };
    let args = Args::Reset {
        number: report.number,
        boot: report.boot,
        cause: report.cause,
        policy: report.policy,
        workers: report.workers,
        workers_used: report.workers_used,
        serial_sum_ns: report.serial_sum_ns,
        critical_path_ns: report.critical_path_ns,
        efficiency: report.efficiency,
        warnings: report.warnings.clone(),
    };
    step(&format!("reset {}", report.number), 0, end, Some(args));
    step("vCPU pause", 0, report.vcpu_pause_ns, None);
    let begin = report.teardown_start_ns.max(report.vcpu_pause_ns);
    step("teardown", begin, torn_down, None);
    if let Some(reset) = report.reset_ns {
        step("rest of the reset", torn_down, reset, None);
        if let Some(ready) = report.reset_to_ready_ns {
            step("boot until ready", end, ready, None);
        }
    }
    events.push(Event {
        name: "reset requested".to_owned(),
        cat: "reset",
        pid: HOST,
        tid: RESET,
        kind: Kind::moment(report.at_ns),
        args: None,
    });
}

/// A device's teardown with its phases inside, one after the other.
fn teardown(report: &TeardownReport, device: &DeviceReport, tid: u32, events: &mut Vec<Event>) {
    let stretch = |from, to| Kind::stretch(at(report, from), at(report, to));
    events.push(Event {
        name: device.id.clone(),
        cat: "teardown",
        pid: HOST,
        tid,
        kind: stretch(device.start_ns, device.end_ns),
        args: Some(Args::Device {
            class: device.class.clone(),
            address: device.address.clone(),
            asynchronous: device.asynchronous,
            policy: report.policy,
            ready_ns: device.ready_ns,
            modelled_ns: device.modelled_ns,
            waited_on: device.waited_on.clone(),
            held_up_by: device.held_up_by.clone(),
            critical: device.critical,
            outcome: device.outcome.clone(),
        }),
    });
    // Stretches of a track must lie inside each other or apart; a saved report may say otherwise.
    let mut free = device.start_ns;
    for phase in &device.phases {
        let start = phase.start_ns.max(free);
        let end = phase.end_ns.min(device.end_ns);
        if start > end {
            continue;
        }
        free = end;
        events.push(Event {
            name: phase.name.clone(),
            cat: "phase",
            pid: HOST,
            tid,
            kind: stretch(start, end),
            args: None,
        });
    }
}

/// From the last moment of the device that held up to the first of the one that waited.
fn arrow(
    report: &TeardownReport,
    holder: &DeviceReport,
    waiter: &DeviceReport,
    tracks: &Tracks<'_>,
    id: u64,
    events: &mut Vec<Event>,
) {
    // The end itself lies outside of the stretch.
    let last = holder.end_ns.saturating_sub(1).max(holder.start_ns);
    let from = Kind::FlowStart {
        ts: Micros(at(report, last)),
        id,
    };
    let to = Kind::FlowEnd {
        ts: Micros(at(report, waiter.start_ns.max(last))),
        id,
        bp: 'e',
    };
    for (device, kind) in [(holder, from), (waiter, to)] {
        events.push(Event {
            name: "held up".to_owned(),
            cat: "wait",
            pid: HOST,
            tid: tracks.host(&device.id),
            kind,
            args: None,
        });
    }
}

fn at(report: &TeardownReport, ns: u64) -> u64 {
    absolute(report, i64::try_from(ns).unwrap_or(i64::MAX))
}
