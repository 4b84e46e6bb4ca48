//! The guest's part of a report: that it lies before the reset, and that its figures are those of its
//! handshakes.

use api::report::{
    GuestAct, GuestDevice, GuestOrder, GuestReport, ShutdownHandshake, TeardownReport,
};

use super::violation::{Found, Rule};

/// How far the overlap may be from the quotient that it is: it goes through text.
const CLOSE: f64 = 1e-6;

/// Checks the guest's part.
pub(super) fn check(report: &TeardownReport, found: &mut Found) {
    let guest = &report.guest;
    // A vCPU that did not ask for the reset runs on until it is paused.
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    let last = signed(report.vcpu_pause_ns);
    // A queue is deleted by a thread of the drive, which may come to it later.
    let served = signed(report.teardown_start_ns).max(last);
    for device in &guest.devices {
        let id = &device.id;
        let mut unless = |holds: bool, message: String| {
            found.unless(holds, Rule::Guest, &[], || message);
        };
        for event in &device.events {
            let act = event.act;
            unless(
                event.first_ns <= event.last_ns && event.count > 0,
                format!("{act:?} of {id} has an end before its begin, or no count"),
            );
            let (until, what) = match act {
                GuestAct::DeleteSubmissionQueue | GuestAct::DeleteCompletionQueue => {
                    (served, "the teardown had begun")
                }
                _ => (last, "the vCPUs stood still"),
            };
            unless(
                event.last_ns <= until,
                format!("{act:?} of {id} is stamped after {what}"),
            );
        }
        if let Some(handshake) = &device.handshake {
            unless(
                handshake.requested_ns <= last,
                format!("the shutdown handshake of {id} began after the vCPUs stood still"),
            );
            unless(
                in_order(handshake),
                format!(
                    "the shutdown handshake of {id} was seen or complete before it was asked for"
                ),
            );
        }
    }
    check_figures(guest, found);
}

fn in_order(handshake: &ShutdownHandshake) -> bool {
    let ShutdownHandshake {
        requested_ns,
        completed_ns,
        seen_ns,
        ..
    } = *handshake;
    completed_ns.is_none_or(|completed| requested_ns <= completed)
        && seen_ns.is_none_or(|seen| completed_ns.is_some_and(|completed| completed <= seen))
}

/// Sum, span and overlap from the finished handshakes, the order from all.
fn check_figures(guest: &GuestReport, found: &mut Found) {
    let handshakes = guest.devices.iter().filter_map(|device| device.handshake);
    let mut spans: Vec<(i64, i64)> = handshakes
        .filter_map(|handshake| Some((handshake.requested_ns, handshake.completed_ns?)))
        .collect();
    spans.sort_unstable();
    let sum = spans.iter().fold(0_u64, |sum, (begin, end)| {
        sum.saturating_add(end.abs_diff(*begin))
    });
    let begin = spans.first().map_or(0, |(begin, _)| *begin);
    let end = spans.iter().map(|(_, end)| *end).max().unwrap_or(begin);
    let span = end.abs_diff(begin);
    let mut same = |what: &str, told: u64, stamped: u64| {
        found.unless(told == stamped, Rule::Guest, &[], || {
            format!("the guest's {what} is given as {told} ns, but its handshakes say {stamped} ns")
        });
    };
    same("sum of handshakes", guest.handshake_sum_ns, sum);
    same("span of handshakes", guest.span_ns, span);
    let close = match guest.overlap {
        None => span == 0,
        Some(overlap) => span > 0 && (overlap - sum as f64 / span as f64).abs() <= CLOSE,
    };
    found.unless(close, Rule::Guest, &[], || {
        format!(
            "the guest's overlap is given as {:?}, but {sum} ns ÷ {span} ns is not that",
            guest.overlap
        )
    });
    let order = order(guest);
    found.unless(guest.order == order, Rule::Guest, &[], || {
        format!(
            "the guest's handshakes are said to be {:?}, but they are {order:?}",
            guest.order
        )
    });
}

fn order(guest: &GuestReport) -> GuestOrder {
    let mut spans: Vec<_> = guest.devices.iter().filter_map(span).collect();
    spans.sort_unstable();
    match spans.len() {
        0 => GuestOrder::None,
        1 => GuestOrder::Single,
        _ if spans.windows(2).all(|pair| pair[0].1 <= pair[1].0) => GuestOrder::Serial,
        _ => GuestOrder::Parallel,
    }
}

/// A device's handshake. One that never ended lasts until the guest last looked at it.
fn span(device: &GuestDevice) -> Option<(i64, i64)> {
    let handshake = device.handshake?;
    let polls = device
        .events
        .iter()
        .find(|event| event.act == GuestAct::Poll);
    let end = handshake.completed_ns.or(polls.map(|polls| polls.last_ns));
    let begin = handshake.requested_ns;
    Some((begin, end.unwrap_or(begin).max(begin)))
}
