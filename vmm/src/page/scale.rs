//! From nanoseconds to places in a lane, and how much room the guest's part gets beside the host's.

use api::report::{GuestAct, GuestReport, TeardownReport};

use crate::picture::axis::{step, unit};

/// A stretch of time, drawn from left to right. Nanoseconds from the reset request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Its left end.
    pub(super) from_ns: i64,
    /// Its right end.
    pub(super) to_ns: i64,
}

impl Scale {
    /// A scale between two moments; it is a microsecond long at least.
    pub(super) fn new(from_ns: i64, to_ns: i64) -> Self {
        let to_ns = to_ns.max(from_ns.saturating_add(1000));
        Self { from_ns, to_ns }
    }

    /// How long it is.
    pub(super) fn length_ns(&self) -> u64 {
        self.to_ns.abs_diff(self.from_ns)
    }

    /// Where a moment is: 0 is the left end, 1 the right one. What lies outside is at an end.
    pub(super) fn place(&self, ns: i64) -> f64 {
        let from_left = ns.saturating_sub(self.from_ns) as f64;
        (from_left / self.length_ns() as f64).clamp(0.0, 1.0)
    }

    /// At most `most` and one ticks at round moments, each with its figure; and the unit of all of them.
    pub(super) fn ticks(&self, most: u64) -> (Vec<(i64, String)>, &'static str) {
        let step = step(self.length_ns(), most);
        let (unit, name) = unit(step);
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let first = -self.from_ns.saturating_neg().div_euclid(step);
        let last = self.to_ns.div_euclid(step);
        let ticks = (first..=last)
            .map(|tick| {
                let at = tick.saturating_mul(step);
                (at, signed(at as f64 / unit))
            })
            .collect();
        (ticks, name)
    }
}

/// A figure with a true minus sign and its thousands apart.
fn signed(figure: f64) -> String {
    let text = figure.abs().to_string();
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    if figure < 0.0 {
        grouped.push('−');
    }
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !rest.is_empty() {
        grouped.push('.');
        grouped.push_str(rest);
    }
    grouped
}

/// The lanes of one teardown: what the guest did lies left of the reset request, what the host did right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    /// Up to the reset request; none if the guest did nothing on its way down.
    pub(super) guest: Option<Scale>,
    /// From the reset request.
    pub(super) host: Scale,
    /// The guest's part of the width.
    pub(super) guest_share: f64,
}

/// Between these parts of the width, both sides are readable on one scale.
const ONE_SCALE: std::ops::RangeInclusive<f64> = 0.22..=0.72;
/// The guest's part where its side would be too narrow, and where it would be too wide.
const NARROW: f64 = 0.3;
const WIDE: f64 = 0.55;

impl Lanes {
    /// The lanes that a report needs.
    pub(super) fn of(report: &TeardownReport) -> Self {
        let end = signed_ns(last_ns(report));
        // A hundredth more, so that the last bar does not touch the edge.
        let host = Scale::new(0, end.saturating_add(end / 100));
        let guest = guest_start_ns(&report.guest)
            .map(|start| Scale::new(start.saturating_add(start / 100), 0));
        let guest_share = guest.map_or(0.0, |guest| {
            let natural =
                guest.length_ns() as f64 / (guest.length_ns() as f64 + host.length_ns() as f64);
            if ONE_SCALE.contains(&natural) {
                natural
            } else {
                natural.clamp(NARROW, WIDE)
            }
        });
        Self {
            guest,
            host,
            guest_share,
        }
    }

    /// How much wider a millisecond of the host is drawn than one of the guest; none if as wide.
    pub(super) fn host_stretch(&self) -> Option<f64> {
        let guest = self.guest?;
        let width_of_guest = self.guest_share / guest.length_ns() as f64;
        let width_of_host = (1.0 - self.guest_share) / self.host.length_ns() as f64;
        let stretch = width_of_host / width_of_guest;
        ((stretch - 1.0).abs() > 1e-6).then_some(stretch)
    }

    /// The guest's part of the width if both were drawn on one scale.
    pub(super) fn honest_share(&self) -> f64 {
        self.guest.map_or(0.0, |guest| {
            guest.length_ns() as f64 / (guest.length_ns() as f64 + self.host.length_ns() as f64)
        })
    }
}

/// When the last of what a report has of the host ended.
pub(super) fn last_ns(report: &TeardownReport) -> u64 {
    let ends = report.devices.iter().map(|device| device.end_ns);
    ends.max()
        .unwrap_or(0)
        .max(report.reset_ns.unwrap_or(0))
        .max(report.teardown_start_ns.saturating_add(report.teardown_ns))
}

/// Where the guest's side begins: at the first handshake or at what it did shortly before it. What it
/// did long ago, at its boot for one, would leave no room for what is looked for.
pub(super) fn guest_start_ns(guest: &GuestReport) -> Option<i64> {
    let requests = || {
        let handshakes = guest.devices.iter().filter_map(|device| device.handshake);
        handshakes.map(|handshake| handshake.requested_ns)
    };
    // That a drive was started is no part of the way down, however shortly before. Of an act that came at
    // boot and came again, the last time is what may lie near.
    let acts = || {
        let events = guest.devices.iter().flat_map(|device| &device.events);
        let down = events.filter(|event| event.act != GuestAct::Enable);
        down.flat_map(|event| [event.first_ns, event.last_ns])
            .filter(|&at| at < 0)
    };
    match requests().filter(|&at| at < 0).min() {
        Some(first) => {
            let reach = first.saturating_sub(first.saturating_neg().max(100_000_000));
            acts().filter(|&at| at >= reach).chain([first]).min()
        }
        None => {
            const REACH_NS: i64 = -10_000_000_000;
            acts().filter(|&at| at >= REACH_NS).min()
        }
    }
}

/// Nanoseconds that a report counts from the reset request, as the guest's are counted.
pub(super) fn signed_ns(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use api::report::{GuestDevice, GuestEvent, ShutdownHandshake};

    use super::*;

    const MS: i64 = 1_000_000;

    /// A guest with one drive. Acts are first and last milliseconds.
    fn guest(acts: &[(GuestAct, i64, i64)], handshake_ms: Option<i64>) -> GuestReport {
        let event = |&(act, first, last): &(GuestAct, i64, i64)| GuestEvent {
            act,
            first_ns: first * MS,
            last_ns: last * MS,
            count: 2,
        };
        let handshake = |at: i64| ShutdownHandshake {
            requested_ns: at * MS,
            completed_ns: None,
            seen_ns: None,
            polls: 0,
            abrupt: false,
            modelled_ns: 0,
        };
        GuestReport {
            devices: vec![GuestDevice {
                id: "nvme0".to_owned(),
                class: "nvme".to_owned(),
                address: None,
                events: acts.iter().map(event).collect(),
                handshake: handshake_ms.map(handshake),
            }],
            ..GuestReport::default()
        }
    }

    #[test]
    fn that_a_drive_was_started_does_not_stretch_the_guests_side() {
        let started = (GuestAct::Enable, -3_000, -3_000);
        let start = |acts: &[_], handshake| guest_start_ns(&guest(acts, handshake));
        assert_eq!(start(&[started], None), None);
        assert_eq!(start(&[started], Some(-200)), Some(-200 * MS));
        let just = (GuestAct::Enable, -250, -250);
        assert_eq!(start(&[just], Some(-200)), Some(-200 * MS));
        let off = (GuestAct::BusMasterOff, -50, -50);
        assert_eq!(start(&[started, off], None), Some(-50 * MS));
    }

    #[test]
    fn what_came_at_boot_too_begins_the_side_where_it_came_last() {
        let off = (GuestAct::BusMasterOff, -60_000, -50);
        assert_eq!(guest_start_ns(&guest(&[off], None)), Some(-50 * MS));
        let deletes = (GuestAct::DeleteSubmissionQueue, -60_000, -210);
        let start = guest_start_ns(&guest(&[deletes], Some(-200)));
        assert_eq!(start, Some(-210 * MS));
    }

    #[test]
    fn ticks_lie_on_the_scale_and_are_round() {
        let (ticks, unit) = Scale::new(-1_640_000_000, 0).ticks(5);
        let labels: Vec<_> = ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["−1,500", "−1,000", "−500", "0"]);
        assert_eq!(unit, "ms");
        let (ticks, unit) = Scale::new(0, 2_500).ticks(5);
        let labels: Vec<_> = ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(labels, ["0", "0.5", "1", "1.5", "2", "2.5"]);
        assert_eq!(unit, "µs");
    }

    #[test]
    fn places_are_fractions_and_stay_inside() {
        let scale = Scale::new(-100, 1_000_000);
        assert_eq!(scale.place(-100), 0.0);
        assert_eq!(scale.place(1_000_000), 1.0);
        assert_eq!(scale.place(i64::MAX), 1.0);
        assert_eq!(scale.place(i64::MIN), 0.0);
        assert_eq!(Scale::new(5, 5).place(5), 0.0);
    }
}
