//! The head of a timeline: what its sides are, their ticks, and the whole machine's part.

use api::report::{GuestDevice, TeardownReport};
use maud::{Markup, html};

use super::lane::place;
use super::scale::{Lanes, Scale, last_ns, signed_ns};
use crate::picture::milliseconds;

/// At most so many ticks on each side. The script makes as many as there is room for.
const GUEST_TICKS: u64 = 3;
const HOST_TICKS: u64 = 5;

/// The head.
pub(super) fn axis(report: &TeardownReport, lanes: &Lanes) -> Markup {
    let (guest, host) = (lanes.guest, &lanes.host);
    html! {
        div class="axis" {
            div class="captions lanes" {
                span class="label" { "Device" }
                @if guest.is_some() { span class="lane guest" { "Guest, before the reset request" } }
                span class="lane host" { "Host, from the reset request" }
                span class="took" { "took" }
            }
            div class="ticks lanes" aria-hidden="true" {
                span class="label scripted" {
                    span class="zoom" {
                        button type="button" data-do="zoom-in" title="Zoom in (+)" aria-label="Zoom in" { "+" }
                        button type="button" data-do="zoom-out" title="Zoom out (−)" aria-label="Zoom out" { "−" }
                        button type="button" data-do="zoom-all" title="Show all (0)" { "all" }
                        @if guest.is_some() && lanes.host_stretch().is_some() {
                            button type="button" data-do="scale" aria-pressed="false"
                                title="Guest and host on one scale (s)" { "1:1" }
                        }
                    }
                }
                @if let Some(guest) = &guest { (ticks(guest, "guest")) }
                (ticks(host, "host"))
            }
            (whole(report, lanes))
            @if let Some(stretch) = lanes.host_stretch() {
                p class="scales" { (two_scales(stretch)) }
            }
        }
    }
}

fn two_scales(stretch: f64) -> String {
    let (times, which, other) = if stretch >= 1.0 {
        (stretch, "right", "left")
    } else {
        (1.0 / stretch, "left", "right")
    };
    format!(
        "Two scales: time {which} of the reset request is drawn {times:.1} times as wide as {other} of it."
    )
}

/// A side's ticks.
fn ticks(scale: &Scale, side: &str) -> Markup {
    let (ticks, unit) = scale.ticks(most(scale));
    html! {
        span class={ "lane " (side) } data-from=(scale.from_ns) data-to=(scale.to_ns) {
            @for (at, label) in &ticks {
                // The moment of the request is the host's.
                @if side == "host" || *at < 0 {
                    b style={ "--s:" (format!("{:.9}", scale.place(*at))) } { (label) }
                }
            }
            em { (unit) }
        }
    }
}

/// A side's lines from its ticks down.
pub(super) fn lines(scale: &Scale) -> Markup {
    let (ticks, _) = scale.ticks(most(scale));
    html! {
        @for (at, _) in &ticks {
            u style={ "--s:" (format!("{:.9}", scale.place(*at))) } {}
        }
    }
}

/// The whole machine: the guest's handshakes, then pause, teardown and the rest.
fn whole(report: &TeardownReport, lanes: &Lanes) -> Markup {
    let end = last_ns(report);
    let teardown_end = report.teardown_start_ns.saturating_add(report.teardown_ns);
    let parts = [
        ("pause", "vCPU pause", 0, report.vcpu_pause_ns),
        (
            "teardown",
            "teardown",
            report.teardown_start_ns,
            teardown_end,
        ),
        (
            "rest",
            "rest of the reset",
            teardown_end,
            report.reset_ns.unwrap_or(0),
        ),
    ];
    html! {
        div class="whole lanes" {
            span class="label" { "whole machine" }
            @if let Some(scale) = &lanes.guest { span class="lane guest" {
                @if let Some((first, last)) = span(report) {
                    i class="guest-span" style=(place(scale, first, last))
                        title={ "guest’s handshakes: " (milliseconds(first.abs_diff(last))) } {}
                }
            } }
            span class="lane host" {
                @for (class, name, start, end) in parts {
                    @if end > start {
                        i class=(class) style=(place(&lanes.host, signed_ns(start), signed_ns(end)))
                            title={ (name) ": " (milliseconds(end - start)) } {}
                    }
                }
            }
            span class="took" { (milliseconds(end)) }
        }
    }
}

/// From the first handshake's begin to the last one's end.
fn span(report: &TeardownReport) -> Option<(i64, i64)> {
    let devices = || report.guest.devices.iter();
    let first = devices().filter_map(|one| Some(one.handshake?.requested_ns));
    let last = devices().filter_map(GuestDevice::handshake_end_ns);
    first.min().zip(last.max())
}

/// How many ticks a side has without the script.
fn most(scale: &Scale) -> u64 {
    if scale.from_ns < 0 {
        GUEST_TICKS
    } else {
        HOST_TICKS
    }
}
