//! Where a browser draws what a page has: bars where the report says, nothing cut, nothing overlapping.

use std::collections::HashMap;

use api::config::TeardownPolicy;
use api::report::TeardownReport;
use serde::Deserialize;
use vmm::page::document;

use super::browser::{self, Window};
use super::samples::{self, Guest};

/// How far a bar may be off, in pixels.
const OFF: f64 = 1.5;
/// The least width of a bar.
const LEAST: f64 = 2.0;

#[derive(Deserialize)]
struct Measured {
    viewport: f64,
    page: f64,
    height: f64,
    tiles: Vec<TextBox>,
    chart: Vec<ChartBar>,
    stuck: Stuck,
    timelines: Vec<Timeline>,
}

#[derive(Deserialize)]
struct ChartBar {
    who: TextBox,
    stack: Rect,
    teardown: Rect,
    total: TextBox,
}

#[derive(Deserialize)]
struct Stuck {
    head: Rect,
    details: Rect,
}

#[derive(Deserialize)]
struct Timeline {
    guest: Option<Side>,
    host: Side,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Side {
    left: f64,
    width: f64,
    from: f64,
    to: f64,
    unit: String,
    ticks: Vec<Tick>,
}

#[derive(Deserialize)]
struct Tick {
    text: String,
    left: f64,
    right: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    row: Rect,
    name: TextBox,
    class: Option<TextBox>,
    took: TextBox,
    bar: Option<Rect>,
    handshake: Option<Rect>,
    guest_lane: Option<Rect>,
    host_lane: Rect,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Rect {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

#[derive(Debug, Deserialize)]
struct TextBox {
    #[serde(flatten)]
    at: Rect,
    cut: bool,
}

impl Rect {
    fn lies_in(&self, outer: &Self) -> bool {
        self.top >= outer.top - 0.5
            && self.bottom <= outer.bottom + 0.5
            && self.left >= outer.left - 0.5
            && self.right <= outer.right + 0.5
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right - 0.1
            && other.left < self.right - 0.1
            && self.top < other.bottom - 0.1
            && other.top < self.bottom - 0.1
    }
}

impl Side {
    fn x(&self, ns: f64) -> f64 {
        self.left + (ns - self.from) / (self.to - self.from) * self.width
    }

    /// The bar from `start` to `end` is where they are, or as narrow as bars get.
    fn assert_shows(&self, bar: &Rect, start: f64, end: f64, what: &str) {
        let (left, width) = (self.x(start), self.x(end) - self.x(start));
        assert!(
            (bar.left - left).abs() <= OFF,
            "{what} begins at {} instead of {left}",
            bar.left
        );
        let drawn = bar.right - bar.left;
        assert!(
            (drawn - width.max(LEAST)).abs() <= OFF,
            "{what} is {drawn} wide instead of {width}"
        );
    }

    /// The ticks' labels name the moments where they are, and can be told apart.
    fn assert_ticks(&self, least: usize) {
        let ticks = self.ticks.len();
        assert!(
            ticks >= least,
            "{ticks} ticks are too few to read the axis by"
        );
        let unit = if self.unit == "ms" { 1e6 } else { 1e3 };
        for tick in &self.ticks {
            let text = tick.text.replace(',', "").replace('−', "-");
            let at = self.x(text.parse::<f64>().unwrap() * unit);
            let near = (tick.left - 6.0)..=(tick.right + 6.0);
            assert!(near.contains(&at), "tick {} is not at {at}", tick.text);
        }
        for pair in self.ticks.windows(2) {
            assert!(
                pair[0].right + 2.0 <= pair[1].left,
                "ticks {} and {} run into each other",
                pair[0].text,
                pair[1].text
            );
        }
    }
}

fn measure(reports: &[TeardownReport], width: u32) -> Measured {
    let found = browser::run(
        &document(reports),
        Window::wide(width),
        include_str!("measure.js"),
    );
    serde_json::from_value(found).unwrap()
}

fn assert_nothing_overflows(measured: &Measured) {
    assert!(
        measured.page <= measured.viewport,
        "the page is {} wide in a window of {}",
        measured.page,
        measured.viewport
    );
    assert!(
        measured.tiles.iter().all(|tile| !tile.cut),
        "a total is cut: {:?}",
        measured.tiles
    );
}

/// The comparison's bars are on one scale, and its texts beside them.
fn assert_chart(reports: &[TeardownReport], measured: &Measured) {
    let pixels: Vec<f64> = measured
        .chart
        .iter()
        .zip(reports)
        .map(|(bar, report)| {
            assert!(!bar.who.at.overlaps(&bar.stack), "{:?}", bar.who);
            assert!(!bar.total.at.overlaps(&bar.stack), "{:?}", bar.total);
            assert!(bar.total.at.right <= measured.viewport, "{:?}", bar.total);
            (bar.teardown.right - bar.teardown.left) / report.teardown_ns as f64
        })
        .collect();
    for scale in &pixels {
        assert!((scale / pixels[0] - 1.0).abs() < 0.02, "{pixels:?}");
    }
}

fn assert_bars(report: &TeardownReport, timeline: &Timeline) {
    assert_eq!(timeline.rows.len(), report.devices.len());
    let rows: HashMap<&str, &Row> = timeline
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row))
        .collect();
    let bar = |id: &str| rows[id].bar.expect("a row without a bar");
    for device in &report.devices {
        let id = &device.id;
        let (start, end) = (device.start_ns as f64, device.end_ns as f64);
        timeline.host.assert_shows(&bar(id), start, end, id);
        for other in device.waited_on.iter().chain(&device.held_up_by) {
            assert!(
                bar(other).right <= bar(id).left + LEAST + 0.5,
                "{id} is drawn before the end of {other}, which it waited for"
            );
        }
    }
    for device in &report.guest.devices {
        let handshake = device.handshake.unwrap();
        let guest = timeline.guest.as_ref().unwrap();
        let end = device.handshake_end_ns().unwrap();
        let bar = rows[device.id.as_str()].handshake.unwrap();
        let what = format!("the handshake of {}", device.id);
        guest.assert_shows(&bar, handshake.requested_ns as f64, end as f64, &what);
    }
}

fn assert_rows(timeline: &Timeline) {
    for pair in timeline.rows.windows(2) {
        assert!(
            pair[0].row.bottom <= pair[1].row.top + 0.1,
            "{} and {} overlap",
            pair[0].id,
            pair[1].id
        );
    }
    for row in &timeline.rows {
        let texts = [Some(&row.name), row.class.as_ref(), Some(&row.took)];
        for text in texts.into_iter().flatten() {
            assert!(!text.cut, "a text of {} is cut", row.id);
            assert!(
                text.at.lies_in(&row.row),
                "a text of {} leaves its row: {:?} in {:?}",
                row.id,
                text.at,
                row.row
            );
        }
        let lanes = [row.guest_lane, Some(row.host_lane)];
        for lane in lanes.into_iter().flatten() {
            let on = |text: &TextBox| text.at.overlaps(&lane);
            assert!(!on(&row.name), "the name of {} lies on its bars", row.id);
            assert!(!on(&row.took), "the figure of {} lies on its bars", row.id);
            assert!(!row.class.as_ref().is_some_and(on), "{}", row.id);
        }
        for bar in [row.bar, row.handshake].into_iter().flatten() {
            assert!(
                bar.top >= row.row.top && bar.bottom <= row.row.bottom,
                "the bar of {} leaves its row",
                row.id
            );
        }
    }
}

/// All that a page must keep to, in both windows.
fn check(reports: &[TeardownReport]) {
    for width in [1280, 800] {
        let measured = measure(reports, width);
        assert_nothing_overflows(&measured);
        assert_eq!(measured.timelines.len(), reports.len());
        if reports.len() > 1 {
            assert_eq!(measured.chart.len(), reports.len());
            assert_chart(reports, &measured);
        }
        for (report, timeline) in reports.iter().zip(&measured.timelines) {
            timeline.host.assert_ticks(2);
            if let Some(guest) = &timeline.guest {
                // The 0 is the host's.
                guest.assert_ticks(1);
            }
            assert_bars(report, timeline);
            assert_rows(timeline);
        }
    }
}

fn sized(devices: usize, guest: Guest) -> TeardownReport {
    let machine = samples::devices(devices);
    let report = machine.report(1, TeardownPolicy::Completion, guest);
    assert_eq!(report.devices.len(), devices);
    report
}

#[test]
fn eight_devices_are_drawn_where_they_belong() {
    check(&[sized(8, Guest::Serial(200))]);
}

#[test]
fn sixty_four_devices_are_drawn_where_they_belong() {
    check(&[sized(64, Guest::Serial(20))]);
}

#[test]
fn five_hundred_and_twelve_devices_are_drawn_where_they_belong() {
    check(&[sized(512, Guest::Parallel(150))]);
}

#[test]
fn a_long_list_keeps_its_head_and_its_details_in_view() {
    let report = sized(512, Guest::Serial(20));
    let measured = measure(&[report], 1280);
    let Stuck { head, details } = measured.stuck;
    assert!(head.top.abs() <= 1.0, "the head is at {}", head.top);
    assert!(
        (details.bottom - measured.height).abs() <= 1.0,
        "the details end at {} in a window of {}",
        details.bottom,
        measured.height
    );
}

#[test]
fn deep_trees_troubles_and_comparisons_are_drawn_where_they_belong() {
    let mut reports = samples::compared();
    reports.push(TeardownReport {
        number: 5,
        ..samples::troubled()
    });
    check(&reports);
}
