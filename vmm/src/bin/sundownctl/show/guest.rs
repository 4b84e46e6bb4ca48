//! The guest's part of a teardown's report: what it did to which device, and what that came to.

use std::fmt::Write;

use api::report::{GuestAct, GuestDevice, GuestOrder, GuestReport};

use super::{ms, name};
use crate::table::{Align, Table};

/// A table of the devices that the guest took down, and a line on how it did it.
pub fn part(guest: &GuestReport) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("BY THE GUEST", Align::Left),
        right("QUEUES DELETED"),
        right("SHN MS"),
        right("SHST MS"),
        right("TOOK MS"),
        right("POLLS"),
        ("ALSO", Align::Left),
    ]);
    let mut text = String::new();
    let mut down = guest
        .devices
        .iter()
        .filter(|device| is_taken_down(device))
        .peekable();
    if down.peek().is_some() {
        down.for_each(|device| table.row(row(device)));
        text += &table.draw();
        text.push('\n');
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", summary(guest));
    text
}

/// How the guest shut its drives down, in a line.
fn summary(guest: &GuestReport) -> String {
    let handshakes = || guest.devices.iter().filter_map(|device| device.handshake);
    let how = match guest.order {
        GuestOrder::None => return "the guest shut no drive down before the reset".to_owned(),
        GuestOrder::Single => "",
        GuestOrder::Serial => " one after the other",
        GuestOrder::Parallel => " in parallel",
    };
    let count = handshakes().count();
    let drives = if count == 1 { "drive" } else { "drives" };
    let mut line = format!("the guest shut {count} {drives} down{how}");
    if let Some(overlap) = guest.overlap {
        line += &format!(
            ": {} of handshakes in {} (overlap {overlap:.2})",
            time(guest.handshake_sum_ns),
            time(guest.span_ns)
        );
    }
    match handshakes()
        .filter(|handshake| handshake.completed_ns.is_none())
        .count()
    {
        0 => line,
        unfinished => line + &format!("; {unfinished} of {count} never completed"),
    }
}

fn is_taken_down(device: &GuestDevice) -> bool {
    let enabled = |act| act == GuestAct::Enable;
    device.handshake.is_some() || device.events.iter().any(|event| !enabled(event.act))
}

fn row(device: &GuestDevice) -> Vec<String> {
    let count = |act| {
        let events = device.events.iter();
        events
            .filter(|event| event.act == act)
            .map(|event| event.count)
            .sum::<u64>()
    };
    let deleted = count(GuestAct::DeleteSubmissionQueue) + count(GuestAct::DeleteCompletionQueue);
    let handshake = device.handshake.as_ref();
    let completed = handshake.and_then(|handshake| handshake.completed_ns);
    let took = handshake
        .zip(completed)
        .map(|(handshake, completed)| completed.saturating_sub(handshake.requested_ns));
    let or_dash = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), signed_ms);
    vec![
        device.id.clone(),
        deleted.to_string(),
        or_dash(handshake.map(|handshake| handshake.requested_ns)),
        or_dash(completed),
        or_dash(took),
        handshake.map_or_else(|| "-".to_owned(), |handshake| handshake.polls.to_string()),
        also(device),
    ]
}

/// What else the guest did, in the order in which it began with it.
fn also(device: &GuestDevice) -> String {
    let events = device.events.iter().filter(|event| match event.act {
        GuestAct::ShutdownAbrupt
        | GuestAct::Disable
        | GuestAct::BusMasterOff
        | GuestAct::FunctionReset
        | GuestAct::SecondaryBusReset
        | GuestAct::SubsystemReset => true,
        GuestAct::Enable
        | GuestAct::DeleteSubmissionQueue
        | GuestAct::DeleteCompletionQueue
        | GuestAct::ShutdownNormal
        | GuestAct::Poll => false,
    });
    events
        .map(|event| match event.count {
            1 => name(event.act),
            count => format!("{} × {count}", name(event.act)),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn signed_ms(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    format!("{sign}{}", ms(ns.unsigned_abs()))
}

/// Seconds, or milliseconds where it is less than one.
fn time(ns: u64) -> String {
    if ns < 1_000_000_000 {
        return format!("{} ms", ms(ns));
    }
    format!("{:.2} s", ns as f64 / 1e9)
}
