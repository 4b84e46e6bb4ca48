//! The timeline: a row a device, in the order of the tree; left of the reset request what the guest did,
//! right of it what the host did. The two sides have scales of their own where one would hide either.

use std::collections::HashMap;

use api::report::{DeviceReport, GuestDevice, Outcome, TeardownReport};
use maud::{Markup, html};

use super::axis;
use super::facts::{moment, took, trouble};
use super::lane;
use super::scale::{Lanes, Scale, signed_ns};
use crate::picture::rows::{Row, rows};
use crate::picture::{Detail, milliseconds};

/// A line of the timeline.
struct Line<'a> {
    id: &'a str,
    class: &'a str,
    depth: usize,
    /// The device and its place in the report; none for one that only the guest saw.
    host: Option<(usize, &'a DeviceReport)>,
    guest: Option<&'a GuestDevice>,
}

/// The timeline of a teardown.
pub(super) fn timeline(report: &TeardownReport, key: u64, phases: &[String]) -> Markup {
    let lanes = Lanes::of(report);
    let lines = lines(report);
    let (guest_fr, host_fr) = shares(lanes.guest_share);
    let (guest_one, host_one) = shares(lanes.honest_share());
    let size = match lines.len() {
        0..=40 => "roomy",
        41..=120 => "close",
        _ => "dense",
    };
    let side = if lanes.guest.is_some() {
        ""
    } else {
        " no-guest"
    };
    let (name, label) = label_widths(&lines);
    html! {
        div class={ "timeline " (size) (side) } id={ "timeline-" (key) }
            data-report={ "report-" (key) } data-table={ "table-" (key) }
            data-one={ (guest_one) " " (host_one) }
            style={ "--name:" (name) ";--label:" (label) ";--g:" (guest_fr) ";--h:" (host_fr) } {
            (axis::axis(report, &lanes))
            div class="rows" {
                div class="grid lanes" aria-hidden="true" {
                    @if let Some(guest) = &lanes.guest { span class="lane guest" { (axis::lines(guest)) } }
                    span class="lane host" { (axis::lines(&lanes.host)) (links(report, &lines, &lanes.host)) }
                }
                ol role="tree" aria-label={ "Devices of teardown " (report.number) } {
                    @for (number, line) in lines.iter().enumerate() {
                        (row(report, line, number, &lanes, phases))
                    }
                }
            }
            div class="details scripted" {
                p { "Point at a device, or press Tab and then " kbd { "↓" } ", to see what it waited for. " kbd { "?" } " shows all keys." }
            }
        }
    }
}

/// The two sides' parts of the width, as the style sheet wants them.
fn shares(guest: f64) -> (String, String) {
    (
        format!("{:.4}fr", guest * 100.0),
        format!("{:.4}fr", (1.0 - guest) * 100.0),
    )
}

/// The rows: the host's devices, then those that only the guest saw.
fn lines(report: &TeardownReport) -> Vec<Line<'_>> {
    let numbers: HashMap<*const DeviceReport, usize> = report
        .devices
        .iter()
        .enumerate()
        .map(|(number, device)| (std::ptr::from_ref(device), number))
        .collect();
    let mut guest: HashMap<&str, &GuestDevice> = report
        .guest
        .devices
        .iter()
        .map(|device| (device.id.as_str(), device))
        .collect();
    let mut lines = Vec::with_capacity(report.devices.len());
    for row in rows(report, Detail::Full) {
        let Row::Device { device, depth } = row else {
            continue;
        };
        let number = numbers.get(&std::ptr::from_ref(device)).copied();
        lines.push(Line {
            id: &device.id,
            class: &device.class,
            depth,
            host: number.map(|number| (number, device)),
            guest: guest.remove(device.id.as_str()),
        });
    }
    let gone = report.guest.devices.iter();
    lines.extend(
        gone.filter(|device| guest.contains_key(device.id.as_str()))
            .map(|device| Line {
                id: &device.id,
                class: &device.class,
                depth: 0,
                host: None,
                guest: Some(device),
            }),
    );
    lines
}

/// Room for the widest name with its indentation, in characters; and the same with the class beside it,
/// whose characters are narrower.
fn label_widths(lines: &[Line<'_>]) -> (usize, usize) {
    let name = |line: &Line<'_>| 2 * line.depth.min(MOST_INDENT) + line.id.chars().count() + 4;
    let class = |line: &Line<'_>| name(line) + class(line).chars().count() + 2;
    let widest = |widths: Option<usize>| widths.unwrap_or(0).clamp(12, 64);
    (
        widest(lines.iter().map(name).max()),
        widest(lines.iter().map(class).max()),
    )
}

/// What a line's device is, and how it was called if that is the exception.
fn class(line: &Line<'_>) -> String {
    match line.host {
        Some((_, device)) if !device.asynchronous => format!("{}, sync", line.class),
        _ => line.class.to_owned(),
    }
}

/// Deeper than this in the tree, names are not indented any more.
const MOST_INDENT: usize = 10;

/// The critical path's steps from row to row: at the end of the device that held up, down or up to the
/// one that was held up.
fn links(report: &TeardownReport, lines: &[Line<'_>], scale: &Scale) -> Markup {
    let places: HashMap<&str, usize> = lines
        .iter()
        .enumerate()
        .map(|(place, line)| (line.id, place))
        .collect();
    let critical = report.devices.iter().filter(|device| device.critical);
    let steps = critical.filter_map(|device| {
        let holder = device.held_up_by.as_deref()?;
        let holder = report
            .devices
            .iter()
            .find(|other| other.id == holder && other.critical)?;
        let (from, to) = (
            places.get(holder.id.as_str())?,
            places.get(device.id.as_str())?,
        );
        let (top, height) = (from.min(to), from.abs_diff(*to));
        let at = scale.place(signed_ns(holder.end_ns));
        Some(format!("--s:{at:.9};--top:{top};--rows:{height}"))
    });
    html! { @for step in steps { i class="link" style=(step) {} } }
}

/// A device's row.
fn row(
    report: &TeardownReport,
    line: &Line<'_>,
    number: usize,
    lanes: &Lanes,
    phases: &[String],
) -> Markup {
    let device = line.host.map(|(_, device)| device);
    let critical = device.is_some_and(|device| device.critical);
    let fate = device.and_then(|device| trouble(&device.outcome));
    let tab = if number == 0 { "0" } else { "-1" };
    let indent = line.depth.min(MOST_INDENT);
    html! {
        li class={ "row lanes" @if critical { " critical" } @if fate.is_some() { " trouble" } }
            role="treeitem" aria-level=(line.depth + 1) tabindex=(tab) data-id=(line.id)
            data-device=[line.host.map(|(number, _)| number)]
            aria-label=(spoken(line))
            style={ "--depth:" (indent) } {
            span class="label" {
                span class="mark" title=[critical.then_some("on the critical path")] { @if critical { "◆" } }
                span class="id" title=(line.id) { (line.id) }
                span class="class" { (class(line)) }
            }
            @if let Some(scale) = &lanes.guest { (lane::guest(scale, line.guest)) }
            @match device {
                Some(device) => (lane::host(&lanes.host, device, phases, report.teardown_start_ns)),
                None => span class="lane host" {},
            }
            span class="took" {
                @if let Some(fate) = fate { strong class="bad" { (fate) } } @else if let Some(device) = device {
                    (milliseconds(took(device)))
                }
            }
        }
    }
}

/// A row as a screen reader says it.
fn spoken(line: &Line<'_>) -> String {
    let mut text = format!("{}, {}", line.id, line.class);
    if let Some((_, device)) = line.host {
        text += &format!(
            ": took {}, from {} to {}",
            milliseconds(took(device)),
            milliseconds(device.start_ns),
            milliseconds(device.end_ns)
        );
        if let Some(other) = &device.held_up_by {
            text += &format!(", held up by {other}");
        }
        if device.critical {
            text += ", on the critical path";
        }
        match &device.outcome {
            Outcome::Failed { error } => text += &format!(", failed: {error}"),
            outcome => text.extend(trouble(outcome).map(|fate| format!(", {fate}"))),
        }
    }
    if let Some(handshake) = line.guest.and_then(|guest| guest.handshake) {
        let abrupt = if handshake.abrupt { "abrupt " } else { "" };
        text += &format!(
            ", guest’s {abrupt}handshake from {}",
            moment(handshake.requested_ns)
        );
        text += &match handshake.completed_ns {
            Some(end) => format!(" to {}", moment(end)),
            None => ", never completed".to_owned(),
        };
    }
    text
}
