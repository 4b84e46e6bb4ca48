//! What a reader can do with a page: keys, pointer, zoom, sorting; and whether its colours can be told
//! apart, light and dark.

use std::sync::OnceLock;

use api::config::TeardownPolicy;
use api::report::TeardownReport;
use serde_json::Value;
use vmm::page::document;

use super::browser::{self, Window};
use super::samples::{self, Guest};

fn report() -> TeardownReport {
    samples::eight().report(1, TeardownPolicy::Completion, Guest::Serial(200))
}

/// What a reader does, and what comes of it; done once for all tests.
fn acted() -> &'static Value {
    static ACTED: OnceLock<Value> = OnceLock::new();
    ACTED.get_or_init(|| {
        let page = document(&[report()]);
        browser::run(&page, Window::wide(1280), include_str!("act.js"))
    })
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn keys_and_pointer_lead_through_the_devices() {
    let found = acted();
    let text = |name: &str| found[name].as_str().unwrap_or("nothing").to_owned();

    assert!(text("before").contains("Point at a device"));
    assert_eq!(text("first"), "rp0");
    assert_eq!(text("down"), "switch0");
    assert_eq!(found["inTabOrder"], serde_json::json!(["switch0"]));
    assert_eq!(text("up"), "rp0");
    assert_eq!(text("end"), "serial");
    assert_eq!(text("home"), "rp0");
    assert_eq!(text("right"), "switch0");
    assert_eq!(text("left"), "rp0");

    let details = text("details");
    assert!(details.contains("held up byswitch0-port3"), "{details}");
    assert!(
        details.contains("upstream-port · 0000:02:00.0"),
        "{details}"
    );
    let ports: Vec<_> = (0..4).map(|port| format!("switch0-port{port}")).collect();
    assert_eq!(found["related"], serde_json::json!(ports));
    assert_eq!(found["holder"], serde_json::json!(["switch0-port3"]));
    for off in numbers(&found["arrow"]) {
        assert!(off.abs() <= 1.5, "the arrow misses its rows by {off}");
    }
    assert_eq!(text("heldUpBy"), "switch0-port3");
    assert_eq!(text("critical"), "rp1");

    assert_eq!(text("selected"), "true");
    assert!(text("held").starts_with("nvme1 "), "{}", text("held"));
    assert!(text("hovered").starts_with("nvme2 "), "{}", text("hovered"));
    assert_eq!(text("line"), "nvme1");
    assert_eq!(found["help"], Value::Bool(true));
}

#[test]
fn the_axis_zooms_and_has_one_scale_on_demand() {
    let found = acted();
    let widths = numbers(&found["widths"]);
    assert!(widths[1] > 1.1 * widths[0], "z does not zoom: {widths:?}");
    assert!((widths[2] - widths[0]).abs() < 0.1, "0 does not lead back");
    let two = numbers(&found["twoScales"]);
    assert!(two[0] > 2.0 * two[1], "the guest has more time to show");
    let one = numbers(&found["oneScale"]);
    assert!((one[0] / one[1] - 1.0).abs() < 0.02, "{one:?}");
}

#[test]
fn a_click_on_a_column_sorts_by_it() {
    let found = acted();
    let ascending = numbers(&found["ascending"]);
    assert_eq!(ascending.len(), report().devices.len());
    assert!(ascending.is_sorted(), "{ascending:?}");
    let descending = numbers(&found["descending"]);
    assert!(descending.iter().rev().is_sorted(), "{descending:?}");
    assert_eq!(found["sorted"], "ascending");
}

/// WCAG 2.2's contrast ratio.
fn contrast(one: &Value, other: &Value) -> f64 {
    let luminance = |colour: &Value| {
        let linear: Vec<f64> = numbers(colour)
            .iter()
            .map(|part| part / 255.0)
            .map(|part| {
                if part <= 0.04045 {
                    part / 12.92
                } else {
                    ((part + 0.055) / 1.055).powf(2.4)
                }
            })
            .collect();
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05
    };
    let (one, other) = (luminance(one), luminance(other));
    one.max(other) / one.min(other)
}

fn assert_contrast(dark: bool) {
    let mut reports = samples::compared();
    reports.truncate(2);
    reports.push(samples::troubled());
    let window = Window { width: 1280, dark };
    let found = browser::run(&document(&reports), window, include_str!("contrast.js"));
    let paper = &found["paper"];
    let is_dark = numbers(paper).iter().sum::<f64>() < 200.0;
    assert_eq!(is_dark, dark, "the paper is {paper}");
    let pairs = found["pairs"].as_array().unwrap();
    assert!(pairs.len() > 5, "{pairs:?}");
    for pair in pairs {
        let ratio = contrast(&pair["text"], &pair["paper"]);
        assert!(ratio >= 4.5, "{ratio:.2} of text is under AA: {pair}");
    }
    let bars = found["bars"].as_array().unwrap();
    assert!(bars.len() > 5, "{bars:?}");
    for bar in bars {
        let ratio = contrast(&bar["bar"], paper);
        assert!(ratio >= 3.0, "{ratio:.2} of a bar is too faint: {bar}");
    }
}

#[test]
fn text_can_be_read_on_light_paper() {
    assert_contrast(false);
}

#[test]
fn text_can_be_read_on_dark_paper() {
    assert_contrast(true);
}
