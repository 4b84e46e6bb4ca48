//! What the colours and shapes of a timeline mean; only what occurs in it.

use api::report::{DeviceReport, GuestAct, Outcome, TeardownReport};
use maud::{Markup, html};

use super::lane::colour;

/// The legend.
pub(super) fn legend(report: &TeardownReport, phases: &[String]) -> Markup {
    let any = |of: fn(&DeviceReport) -> bool| report.devices.iter().any(of);
    let handshakes = || {
        report
            .guest
            .devices
            .iter()
            .filter_map(|device| device.handshake)
    };
    let acts = |of: fn(GuestAct) -> bool| {
        let events = report
            .guest
            .devices
            .iter()
            .flat_map(|device| &device.events);
        events.map(|event| event.act).any(of)
    };
    let guest = [
        (
            "delete",
            "queues deleted",
            acts(|act| {
                matches!(
                    act,
                    GuestAct::DeleteSubmissionQueue | GuestAct::DeleteCompletionQueue
                )
            }),
        ),
        (
            "handshake",
            "shutdown handshake",
            handshakes().next().is_some(),
        ),
        (
            "handshake unfinished",
            "not finished before the reset",
            handshakes().any(|handshake| handshake.completed_ns.is_none()),
        ),
        (
            "seen",
            "done, not yet seen by the guest",
            handshakes().any(|handshake| handshake.seen_ns.is_some()),
        ),
        (
            "act",
            "disabled, bus master off or reset",
            acts(|act| {
                matches!(
                    act,
                    GuestAct::Disable
                        | GuestAct::BusMasterOff
                        | GuestAct::FunctionReset
                        | GuestAct::SecondaryBusReset
                        | GuestAct::SubsystemReset
                )
            }),
        ),
    ];
    let host = [
        ("bar", "outside any phase", true),
        (
            "waiting",
            "waiting for others",
            any(|device| device.held_up_by.is_some()),
        ),
        (
            "queued",
            "ready, not yet called",
            any(|device| device.ready_ns < device.start_ns),
        ),
        (
            "frame",
            "on the critical path (◆)",
            any(|device| device.critical),
        ),
        (
            "fate timed-out",
            "given up at its deadline",
            any(|device| device.outcome == Outcome::TimedOut),
        ),
        (
            "fate failed",
            "failed",
            any(|device| matches!(device.outcome, Outcome::Failed { .. })),
        ),
        (
            "fate removed",
            "removed before its turn",
            any(|device| device.outcome == Outcome::Removed),
        ),
    ];
    let occurring = phases.iter().filter(|name| {
        let mut phases = report.devices.iter().flat_map(|device| &device.phases);
        phases.any(|phase| phase.name == **name)
    });
    html! {
        div class="legend" {
            @if guest.iter().any(|mark| mark.2) {
                ul class="keys" aria-label="What the guest’s marks mean" {
                    li class="side" { "Guest" }
                    @for (class, name, _) in guest.iter().filter(|mark| mark.2) {
                        li { i class={ "swatch " (class) } {} (name) }
                    }
                }
            }
            ul class="keys" aria-label="What the host’s marks mean" {
                li class="side" { "Host" }
                @for name in occurring {
                    li { i class={ "swatch phase p" (colour(phases, name)) } {} (name) }
                }
                @for (class, name, _) in host.iter().filter(|mark| mark.2) {
                    li { i class={ "swatch " (class) } {} (name) }
                }
            }
        }
    }
}
