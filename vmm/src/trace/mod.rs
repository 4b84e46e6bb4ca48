//! Teardowns as a trace: what the guest did and what the host did on one clock, in the JSON of Chrome's
//! trace events, which the Perfetto UI opens. Made from reports alone; knows no KVM and no device.
//!
//! Two processes, `guest` and `host`. The guest has a track for its handshakes together and one for every
//! device that it did something to; the host has one for the steps of the reset and one for every device,
//! in the order of the tree. Arrows lead from a device to the one that waited for its end.

mod event;
mod guest;
mod host;
mod tracks;

use api::report::TeardownReport;

pub use event::{Event, Kind, Micros, Trace};
use tracks::Tracks;

/// The trace of teardowns of one machine. Times are CLOCK_MONOTONIC, so that several reboots lie behind
/// each other.
pub fn trace(reports: &[TeardownReport]) -> Trace {
    let mut reports: Vec<&TeardownReport> = reports.iter().collect();
    reports.sort_by_key(|report| report.at_ns);
    let tracks = Tracks::new(&reports);
    let mut events = tracks.names();
    let mut flow = 0;
    for report in reports {
        guest::draw(report, &tracks, &mut events);
        host::draw(report, &tracks, &mut events, &mut flow);
    }
    Trace::of(events)
}

/// The moment `ns` after a report's reset request, on the host's clock.
fn absolute(report: &TeardownReport, ns: i64) -> u64 {
    report.at_ns.saturating_add_signed(ns)
}

#[cfg(test)]
mod tests;
