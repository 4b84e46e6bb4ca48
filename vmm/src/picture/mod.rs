//! A picture of teardowns: one self-contained SVG with a bar per device on a time axis. Made from reports
//! alone; knows no KVM and no device.

pub(crate) mod axis;
mod canvas;
mod device_row;
pub(crate) mod legend;
mod panel;
pub(crate) mod rows;

use api::config::TeardownPolicy;
use api::report::{Cause, TeardownReport};

use axis::Axis;
use canvas::{Anchor, Canvas};
use panel::Panel;

/// Width of a picture.
const WIDTH: f64 = 1200.0;
/// Empty space around everything.
const MARGIN: f64 = 24.0;
/// Where the bars begin; left of it are names.
const BARS: f64 = 300.0;
/// Where the time axis ends; right of it is room for a figure.
const BARS_END: f64 = WIDTH - 110.0;

/// How much a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Every device has a row of its own.
    Full,
    /// Only what teardowns can differ by.
    Comparison,
}

/// A picture of one teardown.
pub fn svg(report: &TeardownReport) -> String {
    picture(std::slice::from_ref(report), Detail::Full)
}

/// A picture of several teardowns, one below the other on one scale.
pub fn svg_comparison(reports: &[TeardownReport]) -> String {
    picture(reports, Detail::Comparison)
}

fn picture(reports: &[TeardownReport], detail: Detail) -> String {
    let longest = reports.iter().map(panel::length_ns).max().unwrap_or(0);
    let axis = Axis::new(longest, BARS, BARS_END);
    let phases = legend::phase_names(reports);
    let mut canvas = Canvas::default();
    let mut y = MARGIN;
    if reports.len() > 1 {
        y = overview(&mut canvas, reports, y);
    }
    for report in reports {
        y = Panel::new(report, &axis, detail, &phases).draw(&mut canvas, y) + 1.5 * MARGIN;
    }
    y = legend::legend(&mut canvas, reports, &phases, y);
    canvas.finish(WIDTH, y + MARGIN)
}

/// The teardowns' totals, one bar each.
fn overview(canvas: &mut Canvas, reports: &[TeardownReport], mut y: f64) -> f64 {
    let longest = reports
        .iter()
        .map(|report| report.teardown_ns)
        .max()
        .unwrap_or(0);
    let axis = Axis::new(longest, BARS, BARS_END);
    canvas.text(
        MARGIN,
        y + 14.0,
        "heading",
        Anchor::Start,
        &format!("{} teardowns", reports.len()),
    );
    y += 28.0;
    for report in reports {
        let label = format!(
            "{}. {}, {}",
            report.number,
            policy(report.policy),
            cause(report.cause)
        );
        canvas.text(MARGIN, y + 12.0, "name", Anchor::Start, &label);
        let (left, right) = (axis.x(0), axis.x(report.teardown_ns));
        let class = match report.policy {
            TeardownPolicy::Serial => "serial",
            _ => "parallel",
        };
        canvas.rect(left, y, (right - left).max(1.0), 15.0, class, "");
        let critical = axis.x(report.critical_path_ns).max(left + 1.0);
        canvas.line(critical, y - 2.0, critical, y + 17.0, "ideal");
        canvas.text(
            right + 6.0,
            y + 12.0,
            "figure",
            Anchor::Start,
            &format!(
                "{}{}",
                milliseconds(report.teardown_ns),
                faster(report.teardown_ns, longest)
            ),
        );
        y += 21.0;
    }
    canvas.text(
        BARS,
        y + 12.0,
        "note",
        Anchor::Start,
        "The red line is the critical path: the least that the policy completion needs.",
    );
    y + 40.0
}

/// How much faster a teardown is than the longest; nothing where it is not worth a word.
fn faster(ns: u64, longest: u64) -> String {
    let times = longest as f64 / ns.max(1) as f64;
    if times < 1.1 {
        return String::new();
    }
    format!(", {times:.1} × as fast as the slowest")
}

fn policy(policy: TeardownPolicy) -> String {
    policy.to_string()
}

fn cause(cause: Cause) -> String {
    word(&cause)
}

/// The word that stands for a variant in the API.
pub(crate) fn word(variant: &impl serde::Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A time as people read it: 12,345.6 ms, and microseconds below one.
pub(crate) fn milliseconds(ns: u64) -> String {
    if ns < 1_000_000 {
        return format!("{:.1} µs", ns as f64 / 1e3);
    }
    let tenths = ns.saturating_add(50_000) / 100_000;
    let whole = (tenths / 10).to_string();
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}.{} ms", tenths % 10)
}

#[cfg(test)]
mod tests;
