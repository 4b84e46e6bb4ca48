//! One teardown's part of the page: what it came to, its figures, its timeline, its table, its report.

use api::report::TeardownReport;
use maud::{Markup, PreEscaped, html};

use super::facts::{cause, count, grouped, handshakes, order, some_time, time, trouble};
use super::scale::{guest_start_ns, last_ns};
use super::{legend, table, text, timeline, verdict};

/// The section. Its parts are called by `key`; one that is `alone` bears the page's heading.
pub(super) fn section(report: &TeardownReport, key: u64, phases: &[String], alone: bool) -> Markup {
    let title = html! {
        "Teardown " (report.number) " " span class={ "policy " (report.policy) } { (report.policy) }
    };
    let sentences = verdict::sentences(report);
    html! {
        section class="teardown" id={ "teardown-" (key) } aria-labelledby={ "title-" (key) } {
            header {
                @if alone {
                    h1 id={ "title-" (key) } { (title) }
                } @else {
                    h2 id={ "title-" (key) } { (title) }
                }
                p class="origin" { (origin(report)) }
            }
            @if let Some((first, others)) = sentences.split_first() {
                div class="verdict" {
                    p { strong { (first) } }
                    @for sentence in others { p { (sentence) } }
                }
            }
            @if !report.warnings.is_empty() {
                div class="warnings" role="note" {
                    h3 { (count(report.warnings.len(), "warning")) }
                    ul { @for warning in &report.warnings { li { (warning) } } }
                }
            }
            (figures(report))
            (strip(report))
            (legend::legend(report, phases))
            (timeline::timeline(report, key, phases))
            (table::table(report, key))
            (copies(report, key))
        }
    }
}

/// Where it came from, and what it ran with.
fn origin(report: &TeardownReport) -> Markup {
    let devices = &report.devices;
    let asynchronous = devices.iter().filter(|device| device.asynchronous).count();
    let troubled = devices
        .iter()
        .filter(|device| trouble(&device.outcome).is_some())
        .count();
    html! {
        "Asked for by " (cause(report.cause)) ", ended boot " (report.boot) " · "
        (count(devices.len(), "device")) ", " (grouped(asynchronous as u64)) " asynchronous · "
        (report.workers_used) " of " (report.workers) " workers used"
        @if troubled > 0 { " · " strong class="bad" { (troubled) " not as they should" } }
    }
}

/// The totals.
fn figures(report: &TeardownReport) -> Markup {
    let guest = &report.guest;
    let drives = handshakes(guest);
    let boot = report
        .reset_to_ready_ns
        .map(|ready| ready.saturating_sub(report.reset_ns.unwrap_or(0)));
    let overlap = guest
        .overlap
        .map_or(String::new(), |overlap| format!(", overlap {overlap:.2}"));
    let guest_note = if drives == 0 {
        "the guest shut no drive down".to_owned()
    } else {
        format!(
            "{}, {}{overlap}",
            count(drives, "drive"),
            order(guest.order)
        )
    };
    let efficiency = format!("{:.1} %", report.efficiency * 100.0);
    let tile = |name: &str, figure: Markup, note: String| {
        html! { div { dt { (name) } dd { (figure) } @if !note.is_empty() { dd class="note" { (note) } } } }
    };
    html! {
        dl class="figures" {
            (tile("Guest handshakes", some_time((drives > 0).then_some(guest.span_ns)), guest_note))
            (tile("vCPU pause", time(report.vcpu_pause_ns), "request to standstill".to_owned()))
            (tile("Teardown", time(report.teardown_ns), "first start to last end".to_owned()))
            (tile("Critical path", time(report.critical_path_ns), "least with any workers".to_owned()))
            (tile("Efficiency", html! { data value=(report.efficiency) { (efficiency) } }, "critical path ÷ teardown".to_owned()))
            (tile("Sum of devices", time(report.serial_sum_ns), "one after the other".to_owned()))
            (tile("Rest of reset", some_time(report.reset_rest_ns), "until the vCPUs run".to_owned()))
            (tile("Boot until ready", some_time(boot), "vCPUs run to boot marker".to_owned()))
        }
    }
}

/// The whole way from the first handshake to a guest that is ready, to scale.
fn strip(report: &TeardownReport) -> Markup {
    let reset_end = report.reset_ns.unwrap_or_else(|| last_ns(report));
    let teardown_end = report.teardown_start_ns.saturating_add(report.teardown_ns);
    let guest = guest_start_ns(&report.guest).map_or(0, i64::unsigned_abs);
    let ready = report.reset_to_ready_ns.unwrap_or(reset_end);
    let parts = [
        ("guest", "guest’s way down", guest),
        (
            "pause",
            "vCPU pause",
            report.teardown_start_ns.min(report.vcpu_pause_ns),
        ),
        ("teardown", "teardown", report.teardown_ns),
        (
            "rest",
            "rest of reset",
            reset_end.saturating_sub(teardown_end),
        ),
        ("boot", "boot until ready", ready.saturating_sub(reset_end)),
    ];
    let parts = || parts.iter().filter(|part| part.2 > 0);
    let whole = parts().fold(0, |sum: u64, part| sum.saturating_add(part.2));
    html! {
        figure class="strip" {
            figcaption { "The whole way, to scale: " (time(whole)) }
            div class="strip-bar" aria-hidden="true" {
                @for (class, _, ns) in parts() {
                    i class=(class) style={ "flex-grow:" (ns / 1000 + 1) } {}
                }
            }
            ul class="keys" {
                @for (class, name, ns) in parts() {
                    li { i class={ "swatch " (class) } {} (name) " " (time(*ns)) }
                }
            }
        }
    }
}

/// What is to be taken along: the figures as text, and the report itself.
fn copies(report: &TeardownReport, key: u64) -> Markup {
    html! {
        details class="copies" {
            summary { "As plain text, for a mail" }
            pre id={ "text-" (key) } { (text::text(report)) }
        }
        div class="tools scripted" {
            button type="button" data-copy={ "text-" (key) } { "Copy plain text" }
            button type="button" data-copy={ "report-" (key) } { "Copy report (JSON)" }
            button type="button" data-copy-table={ "table-" (key) } { "Copy table (TSV, ns)" }
        }
        script type="application/json" id={ "report-" (key) } { (PreEscaped(json(report))) }
    }
}

/// The report as it may stand in a script element: nothing in it can end that.
fn json(report: &TeardownReport) -> String {
    serde_json::to_string(report)
        .unwrap_or_default()
        .replace('<', "\\u003c")
}
