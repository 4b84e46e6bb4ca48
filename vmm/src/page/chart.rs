//! Several teardowns beside each other: what each policy came to, and a bar a teardown on one scale.

use api::config::TeardownPolicy;
use api::report::TeardownReport;
use maud::{Markup, html};

use super::facts::{order, some_time, time};
use super::scale::{guest_start_ns, last_ns};
use crate::measure::Spread;
use crate::picture::milliseconds;

/// The comparison.
pub(super) fn comparison(reports: &[TeardownReport], keys: &[u64]) -> Markup {
    html! {
        @if reports.is_empty() {
            p { "No teardown has been recorded yet: the page of a machine that was never reset is empty." }
        } @else {
            section class="comparison" aria-label="Comparison" {
                (policies(reports))
                (bars(reports, keys))
            }
        }
    }
}

/// Median, least and most of the teardowns under each policy.
fn policies(reports: &[TeardownReport]) -> Markup {
    let groups: Vec<_> = TeardownPolicy::ALL
        .into_iter()
        .map(|policy| {
            let group = reports.iter().filter(|report| report.policy == policy);
            (policy, group.collect::<Vec<_>>())
        })
        .filter(|(_, group)| !group.is_empty())
        .collect();
    let teardowns =
        |group: &[&TeardownReport]| Spread::of_ns(group.iter().map(|report| report.teardown_ns));
    let slowest = groups
        .iter()
        .filter_map(|(_, group)| Some(teardowns(group)?.median))
        .max();
    html! {
        div class="table" {
            table class="policies" {
                thead { tr {
                    th scope="col" { "Policy" }
                    @for head in ["Teardowns", "Teardown, median", "least", "most", "Speed", "Guest handshakes, median", "Request to ready, median"] {
                        th scope="col" class="number" { (head) }
                    }
                } }
                tbody {
                    @for (policy, group) in &groups {
                        @let times = teardowns(group);
                        tr {
                            th scope="row" { span class={ "policy " (policy) } { (policy) } }
                            td class="number" { (group.len()) }
                            td class="number" { strong { (some_time(times.map(|times| times.median))) } }
                            td class="number" { (some_time(times.map(|times| times.min))) }
                            td class="number" { (some_time(times.map(|times| times.max))) }
                            td class="number" { (speed(slowest, times.map(|times| times.median))) }
                            td class="number" { (some_time(median(spans(group)))) }
                            td class="number" {
                                (some_time(median(group.iter().filter_map(|report| report.reset_to_ready_ns))))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn spans(group: &[&TeardownReport]) -> impl Iterator<Item = u64> {
    let spans = group.iter().map(|report| report.guest.span_ns);
    spans.filter(|&span| span > 0)
}

/// How fast a time is, the slowest being 1.
fn speed(slowest: Option<u64>, ns: Option<u64>) -> String {
    match (slowest, ns) {
        (Some(slowest), Some(ns)) => format!("{:.1} ×", slowest as f64 / ns.max(1) as f64),
        _ => "–".to_owned(),
    }
}

/// The median as a measurement's summary has it.
fn median(times: impl Iterator<Item = u64>) -> Option<u64> {
    Spread::of_ns(times).map(|spread| spread.median)
}

/// A bar a teardown. Each is also the way to its section.
fn bars(reports: &[TeardownReport], keys: &[u64]) -> Markup {
    let length = |report: &TeardownReport| {
        let parts = parts(report);
        parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.1))
    };
    let longest = reports.iter().map(length).max().unwrap_or(1).max(1);
    let slowest = reports.iter().map(|report| report.teardown_ns).max();
    let percent = |ns: u64| format!("{:.4}%", ns as f64 * 100.0 / longest as f64);
    let guest = reports
        .iter()
        .any(|report| guest_start_ns(&report.guest).is_some());
    html! {
        nav class="chart" aria-label="Teardowns" {
            ol {
                @for (report, key) in reports.iter().zip(keys) {
                    li {
                        a href={ "#teardown-" (key) } {
                            span class="who" {
                                "Teardown " (report.number) " "
                                span class={ "policy " (report.policy) } { (report.policy) }
                            }
                            span class="stack" aria-hidden="true" {
                                @for (class, ns) in parts(report) {
                                    @if ns > 0 { i class=(class) style={ "width:" (percent(ns)) } title={ (class) ": " (milliseconds(ns)) } {} }
                                }
                            }
                            span class="total" {
                                (time(report.teardown_ns)) " "
                                span class="speed" { (speed(slowest, Some(report.teardown_ns))) }
                            }
                        }
                    }
                }
            }
            ul class="keys" {
                @if guest { li { i class="swatch guest" {} "guest’s way down" (verdicts(reports)) } }
                li { i class="swatch pause" {} "vCPU pause" }
                li { i class="swatch teardown" {} "teardown (the figure, and how fast against the slowest)" }
                li { i class="swatch rest" {} "rest of reset" }
            }
        }
    }
}

/// How the guest went, if it went the same way each time.
fn verdicts(reports: &[TeardownReport]) -> String {
    let mut orders = reports.iter().map(|report| report.guest.order);
    match orders.next() {
        Some(first) if orders.all(|other| other == first) => format!(" ({})", order(first)),
        _ => String::new(),
    }
}

/// The parts of a bar.
fn parts(report: &TeardownReport) -> [(&'static str, u64); 4] {
    let end = report.reset_ns.unwrap_or_else(|| last_ns(report));
    let teardown_end = report.teardown_start_ns.saturating_add(report.teardown_ns);
    [
        (
            "guest",
            guest_start_ns(&report.guest).map_or(0, i64::unsigned_abs),
        ),
        ("pause", report.teardown_start_ns),
        ("teardown", report.teardown_ns),
        ("rest", end.saturating_sub(teardown_end)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_has_speed_one_and_the_others_are_so_many_times_as_fast() {
        assert_eq!(speed(Some(1000), Some(1000)), "1.0 ×");
        assert_eq!(speed(Some(1000), Some(100)), "10.0 ×");
        assert_eq!(speed(Some(1000), Some(0)), "1000.0 ×");
        assert_eq!(speed(None, Some(100)), "–");
    }
}
