//! All devices of a teardown in a table, in the order in which they ended.

use api::report::{DeviceReport, Outcome, TeardownReport};
use maud::{Markup, html};

use super::facts::{grouped, took, trouble};

/// The table.
pub(super) fn table(report: &TeardownReport, key: u64) -> Markup {
    let cookies = report.devices.iter().any(|device| device.cookie.is_some());
    let id = format!("table-{key}");
    let heads = [
        ("Device", false),
        ("Address", false),
        ("Class", false),
        ("Async", false),
        ("Cookie", true),
        ("Ready", true),
        ("Start", true),
        ("End", true),
        ("Took", true),
        ("Held up by", false),
        ("Outcome", false),
    ];
    let heads = heads.iter().filter(|head| cookies || head.0 != "Cookie");
    html! {
        h3 id={ (id) "-title" } { "Devices" }
        p class="hint" { "Milliseconds from the reset request, in the order in which they ended. ◆ lies on the critical path." }
        div class="table" role="region" tabindex="0" aria-labelledby={ (id) "-title" } {
            table id=(id) {
                thead { tr {
                    @for (name, number) in heads {
                        th scope="col" class=[number.then_some("number")] {
                            button type="button" { (name) }
                        }
                    }
                } }
                tbody {
                    @for (number, device) in report.devices.iter().enumerate() {
                        (line(device, number, cookies))
                    }
                }
            }
        }
    }
}

fn line(device: &DeviceReport, number: usize, cookies: bool) -> Markup {
    let outcome = match &device.outcome {
        Outcome::Failed { error } => format!("failed: {error}"),
        outcome => trouble(outcome).unwrap_or("done").to_owned(),
    };
    html! {
        tr data-device=(number) class=[device.critical.then_some("critical")] {
            th scope="row" { (device.id) @if device.critical { " ◆" } }
            td { (device.address.as_deref().unwrap_or("–")) }
            td { (device.class) }
            td { @if device.asynchronous { "async" } @else { "sync" } }
            @if cookies { td class="number" data-ns=(device.cookie.unwrap_or(0)) { (cookie(device)) } }
            (cell(device.ready_ns)) (cell(device.start_ns)) (cell(device.end_ns)) (cell(took(device)))
            td { (device.held_up_by.as_deref().unwrap_or("–")) }
            td class=[trouble(&device.outcome).map(|_| "bad")] { (outcome) }
        }
    }
}

/// A task's number, and the task up to which it waited.
fn cookie(device: &DeviceReport) -> String {
    match (device.cookie, device.waited_for_cookie) {
        (Some(cookie), Some(before)) => format!("{cookie} (after {before})"),
        (Some(cookie), None) => cookie.to_string(),
        (None, _) => "–".to_owned(),
    }
}

/// A time to the microsecond; its nanoseconds are in the title, and what sorting and copying go by.
fn cell(ns: u64) -> Markup {
    let micros = ns / 1000 + u64::from(ns % 1000 >= 500);
    html! {
        td class="number" data-ns=(ns) title={ (grouped(ns)) " ns" } {
            (grouped(micros / 1000)) "." (format!("{:03}", micros % 1000))
        }
    }
}
