//! From what the devices noted to the guest report: who was shut down when, and whether the guest did it
//! one after the other.

use std::time::Instant;

use api::report::{GuestAct, GuestDevice, GuestEvent, GuestOrder, GuestReport, ShutdownHandshake};
use devices::guest_acts::{Act, GuestActs, Handshake, Times};

use super::graph::Graph;

/// The guest's part of a reset that was requested `at` this moment. `acts` are the devices' notes, by
/// their numbers in `graph`; a device without one did not have anything done to it.
///
/// A handshake that never ended lasts, for the order, until the guest last looked at it: there it gave up.
/// The sums are of those that ended. A drive that was shut down twice counts with its last handshake.
pub fn guest_report(graph: &Graph, acts: &[GuestActs], at: Instant) -> GuestReport {
    let touched = || {
        graph
            .nodes()
            .iter()
            .zip(acts)
            .filter(|(_, acts)| !acts.is_empty())
    };
    let mut devices: Vec<_> = touched()
        .map(|(node, acts)| {
            let device = GuestDevice {
                id: node.id.clone(),
                class: node.class.clone(),
                address: node.address.clone(),
                events: events(acts, at),
                handshake: acts.handshake.map(|handshake| relative(&handshake, at)),
            };
            (begin(acts), device)
        })
        .collect();
    // None sorts before Some: a drive that was only used was not yet begun with.
    devices.sort_by_key(|(begin, _)| (begin.is_none(), *begin));

    let ended: Vec<(Instant, Instant)> = touched()
        .filter_map(|(_, acts)| acts.handshake)
        .filter_map(|handshake| Some((handshake.requested, handshake.completed?)))
        .collect();
    let sum: u64 = ended
        .iter()
        .map(|&(from, to)| nanos(from, to))
        .fold(0, u64::saturating_add);
    let first = ended.iter().map(|&(from, _)| from).min();
    let last = ended.iter().map(|&(_, to)| to).max();
    let span = first.zip(last).map_or(0, |(from, to)| nanos(from, to));
    GuestReport {
        order: order(
            devices
                .iter()
                .filter_map(|(_, one)| Some((one.handshake?.requested_ns, one.handshake_end_ns()?)))
                .collect(),
        ),
        handshake_sum_ns: sum,
        span_ns: span,
        overlap: (span > 0).then(|| sum as f64 / span as f64),
        devices: devices.into_iter().map(|(_, device)| device).collect(),
    }
}

/// How the handshakes lie to each other: one that begins in the moment in which another ends overlaps
/// nothing.
fn order(mut handshakes: Vec<(i64, i64)>) -> GuestOrder {
    handshakes.sort_unstable();
    let overlapped = || handshakes.windows(2).any(|pair| pair[1].0 < pair[0].1);
    match handshakes.len() {
        0 => GuestOrder::None,
        1 => GuestOrder::Single,
        _ if overlapped() => GuestOrder::Parallel,
        _ => GuestOrder::Serial,
    }
}

/// When the guest began to take the device down. That it had started it is no part of it.
fn begin(acts: &GuestActs) -> Option<Instant> {
    let down = acts.iter().filter(|(act, _)| *act != Act::Enable);
    down.map(|(_, times)| times.first).min()
}

fn events(acts: &GuestActs, at: Instant) -> Vec<GuestEvent> {
    let mut events: Vec<_> = acts
        .iter()
        .map(|(act, Times { first, last, count })| GuestEvent {
            act: named(act),
            first_ns: since(first, at),
            last_ns: since(last, at),
            count,
        })
        .collect();
    events.sort_by_key(|event| (event.first_ns, event.last_ns));
    events
}

fn relative(handshake: &Handshake, at: Instant) -> ShutdownHandshake {
    ShutdownHandshake {
        requested_ns: since(handshake.requested, at),
        completed_ns: handshake.completed.map(|moment| since(moment, at)),
        seen_ns: handshake.seen.map(|moment| since(moment, at)),
        polls: handshake.polls,
        abrupt: handshake.abrupt,
        modelled_ns: u64::try_from(handshake.modelled.as_nanos()).unwrap_or(u64::MAX),
    }
}

fn named(act: Act) -> GuestAct {
    match act {
        Act::Enable => GuestAct::Enable,
        Act::DeleteSubmissionQueue => GuestAct::DeleteSubmissionQueue,
        Act::DeleteCompletionQueue => GuestAct::DeleteCompletionQueue,
        Act::ShutdownNormal => GuestAct::ShutdownNormal,
        Act::ShutdownAbrupt => GuestAct::ShutdownAbrupt,
        Act::Poll => GuestAct::Poll,
        Act::Disable => GuestAct::Disable,
        Act::BusMasterOff => GuestAct::BusMasterOff,
        Act::FunctionReset => GuestAct::FunctionReset,
        Act::SecondaryBusReset => GuestAct::SecondaryBusReset,
        Act::SubsystemReset => GuestAct::SubsystemReset,
    }
}

/// Nanoseconds from `at` to `moment`, negative where it lies before.
fn since(moment: Instant, at: Instant) -> i64 {
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    if moment < at {
        -signed(nanos(moment, at))
    } else {
        signed(nanos(at, moment))
    }
}

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
