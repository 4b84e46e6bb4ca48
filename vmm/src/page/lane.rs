//! The two lanes of a device's row: what the guest did to it, and its teardown. A bar's place is given
//! as fractions of its lane's scale, `--s` and `--e`; the style sheet and a zoom make widths of them.

use api::report::{DeviceReport, GuestAct, GuestDevice, Outcome};
use maud::{Markup, html};

use super::facts::{moment, took, trouble};
use super::scale::{Scale, signed_ns};
use crate::picture::legend::COLOURS;
use crate::picture::{milliseconds, word};

/// The place of a stretch of time.
pub(super) fn place(scale: &Scale, start: i64, end: i64) -> String {
    let (start, end) = (scale.place(start), scale.place(end.max(start)));
    format!("--s:{start:.9};--e:{end:.9}")
}

/// A teardown's lane.
pub(super) fn host(scale: &Scale, device: &DeviceReport, phases: &[String], begin: u64) -> Markup {
    let at = |start: u64, end: u64| place(scale, signed_ns(start), signed_ns(end));
    let (start, end) = (device.start_ns, device.end_ns.max(device.start_ns));
    let ready = device.ready_ns.min(start);
    let held = device.held_up_by.is_some() && ready > begin;
    let fate = match device.outcome {
        Outcome::Done => "",
        Outcome::Failed { .. } => " failed",
        Outcome::TimedOut => " timed-out",
        Outcome::Removed => " removed",
    };
    html! {
        span class="lane host" {
            @if held { i class="waiting" style=(at(begin, ready)) {} }
            @if ready < start { i class="queued" style=(at(ready, start)) {} }
            i class={ "bar" (fate) } style=(at(start, end)) title=(hover(device)) {}
            @for phase in &device.phases {
                @let from = phase.start_ns.clamp(start, end);
                @let to = phase.end_ns.clamp(from, end);
                @if to > from {
                    i class={ "phase p" (colour(phases, &phase.name)) } style=(at(from, to)) {}
                }
            }
            @if trouble(&device.outcome).is_some() {
                i class={ "fate" (fate) } style=(at(start, end)) {}
            }
            @if device.critical { i class="frame" style=(at(start, end)) {} }
        }
    }
}

/// The number of a phase's colour.
pub(super) fn colour(phases: &[String], name: &str) -> usize {
    phases.iter().position(|phase| phase == name).unwrap_or(0) % COLOURS
}

/// What the guest did, drawn; `device` is none for one that it did nothing to.
pub(super) fn guest(scale: &Scale, device: Option<&GuestDevice>) -> Markup {
    let deletion = device.and_then(deletion);
    let handshake = device.and_then(|device| device.handshake.zip(device.handshake_end_ns()));
    let marks = device.into_iter().flat_map(|device| &device.events);
    let marks = marks.filter(|event| mark(event.act) && event.last_ns >= scale.from_ns);
    let title = device.map(guest_hover).unwrap_or_default();
    html! {
        span class="lane guest" {
            @if let Some((first, last)) = deletion {
                @if last >= scale.from_ns {
                    i class="delete" style=(place(scale, first, last)) title=(title) {}
                }
            }
            @if let Some((handshake, end)) = handshake {
                @let unfinished = if handshake.completed_ns.is_none() { " unfinished" } else { "" };
                i class={ "handshake" (unfinished) }
                    style=(place(scale, handshake.requested_ns, end)) title=(title) {}
                @if let Some(seen) = handshake.seen_ns {
                    @if seen > end { i class="seen" style=(place(scale, end, seen)) title=(title) {} }
                }
            }
            @for event in marks {
                i class="act" style=(place(scale, event.last_ns, event.last_ns))
                    title={ (act(event.act)) ", " (moment(event.last_ns)) } {}
            }
        }
    }
}

/// From the first queue's deletion to the last one's.
fn deletion(device: &GuestDevice) -> Option<(i64, i64)> {
    let deletes = || {
        device.events.iter().filter(|event| {
            matches!(
                event.act,
                GuestAct::DeleteSubmissionQueue | GuestAct::DeleteCompletionQueue
            )
        })
    };
    let first = deletes().map(|event| event.first_ns).min()?;
    let last = deletes().map(|event| event.last_ns).max()?;
    Some((first, last))
}

/// Whether an act is drawn as a mark of its own; the others are bars.
fn mark(act: GuestAct) -> bool {
    match act {
        GuestAct::Disable
        | GuestAct::BusMasterOff
        | GuestAct::FunctionReset
        | GuestAct::SecondaryBusReset
        | GuestAct::SubsystemReset => true,
        GuestAct::Enable
        | GuestAct::DeleteSubmissionQueue
        | GuestAct::DeleteCompletionQueue
        | GuestAct::ShutdownNormal
        | GuestAct::ShutdownAbrupt
        | GuestAct::Poll => false,
    }
}

fn act(act: GuestAct) -> String {
    word(&act).replace('-', " ")
}

/// What is shown when a pointer rests on a teardown's bar.
fn hover(device: &DeviceReport) -> String {
    let mut lines = vec![
        format!("{}: {}", device.id, milliseconds(took(device))),
        format!(
            "from {} to {}",
            milliseconds(device.start_ns),
            milliseconds(device.end_ns)
        ),
    ];
    lines.extend(device.phases.iter().map(|phase| {
        let took = phase.end_ns.saturating_sub(phase.start_ns);
        format!("{}: {}", phase.name, milliseconds(took))
    }));
    if let Some(other) = &device.held_up_by {
        lines.push(format!("held up by {other}"));
    }
    match &device.outcome {
        Outcome::Failed { error } => lines.push(format!("failed: {error}")),
        outcome => lines.extend(trouble(outcome).map(str::to_owned)),
    }
    lines.join("\n")
}

/// What is shown when a pointer rests on a guest's bar.
fn guest_hover(device: &GuestDevice) -> String {
    let mut lines = vec![format!("{}, by the guest", device.id)];
    if let Some(handshake) = device.handshake {
        let requested = moment(handshake.requested_ns);
        let kind = if handshake.abrupt {
            "abrupt handshake"
        } else {
            "handshake"
        };
        lines.push(match handshake.completed_ns {
            Some(end) => format!(
                "{kind}: {} from {requested}",
                milliseconds(end.abs_diff(handshake.requested_ns))
            ),
            None => format!(
                "{kind} from {requested}, never completed; left at {}",
                moment(device.handshake_end_ns().unwrap_or(handshake.requested_ns))
            ),
        });
    }
    lines.extend(device.events.iter().map(|event| {
        format!(
            "{} × {}, last at {}",
            event.count,
            act(event.act),
            moment(event.last_ns)
        )
    }));
    lines.join("\n")
}
