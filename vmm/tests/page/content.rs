//! What a page must hold, whatever is in its reports.

use std::collections::HashSet;

use api::config::TeardownPolicy;
use api::report::TeardownReport;
use scraper::{Html, Selector};
use vmm::page::document;

use super::samples::{self, Guest};

pub fn select<'a>(page: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

pub fn text(element: scraper::ElementRef<'_>) -> String {
    element.text().collect()
}

/// Parses the page as the standard's parser does; whatever that had to mend is an error here.
pub fn parse(name: &str, reports: &[TeardownReport]) -> Html {
    let page = document(reports);
    if let Some(folder) = std::env::var_os("SUNDOWN_PAGES") {
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.html")),
            &page,
        )
        .unwrap();
    }
    for address in ["http:", "https:", "src=", "@import", "url("] {
        assert!(
            !page.contains(address),
            "the page asks for something by {address}"
        );
    }
    let parsed = Html::parse_document(&page);
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let ids: Vec<_> = select(&parsed, "[id]");
    let distinct: HashSet<_> = ids.iter().map(|element| element.value().id()).collect();
    assert_eq!(distinct.len(), ids.len(), "an id is used twice");
    parsed
}

pub fn one(machine: &samples::Machine, policy: TeardownPolicy, guest: Guest) -> TeardownReport {
    machine.report(7, policy, guest)
}

#[test]
fn every_device_has_a_bar_a_row_and_a_line_in_the_table() {
    for drives in [8, 64, 512] {
        let machine = samples::shelves(drives);
        let report = one(&machine, TeardownPolicy::Completion, Guest::Parallel(200));
        let page = parse(&format!("shelves-{drives}"), std::slice::from_ref(&report));
        let rows = select(&page, "li.row");
        assert_eq!(rows.len(), report.devices.len());
        assert_eq!(select(&page, "li.row .host .bar").len(), rows.len());
        assert_eq!(
            select(&page, "li.row .guest .handshake").len() as u64,
            drives
        );
        assert_eq!(select(&page, "tbody tr").len(), rows.len());
        let names: HashSet<_> = rows.iter().filter_map(|row| row.attr("data-id")).collect();
        assert!(
            report
                .devices
                .iter()
                .all(|device| names.contains(device.id.as_str()))
        );
    }
}

#[test]
fn what_a_device_says_of_its_failure_is_text_and_nothing_else() {
    let report = samples::troubled();
    let page = parse("troubled", std::slice::from_ref(&report));
    // The report's own script element and the page's script.
    assert_eq!(select(&page, "script").len(), 2);
    assert!(
        select(&page, "b")
            .iter()
            .all(|b| !text(*b).contains("alert"))
    );
    let warnings = text(select(&page, ".warnings")[0]);
    assert!(
        warnings.contains("</script><script>document.title"),
        "{warnings}"
    );
    let cells: String = select(&page, "td.bad").into_iter().map(text).collect();
    assert!(
        cells.contains("<script>alert(1)</script> & \"more\""),
        "{cells}"
    );
    for fate in ["timed out", "failed", "removed"] {
        assert!(
            select(&page, "li.row .took strong")
                .into_iter()
                .any(|strong| text(strong) == fate),
            "no row says {fate}"
        );
    }
}

#[test]
fn the_report_in_the_page_is_the_report() {
    let report = samples::troubled();
    let page = parse("troubled", std::slice::from_ref(&report));
    let json = text(select(&page, "script[type='application/json']")[0]);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    let whole = serde_json::to_string(&report).unwrap();
    assert_eq!(
        read,
        serde_json::from_str::<serde_json::Value>(&whole).unwrap()
    );
}

#[test]
fn a_guest_that_did_nothing_has_no_lane() {
    let report = one(
        &samples::devices(8),
        TeardownPolicy::Completion,
        Guest::Silent,
    );
    let page = parse("silent", std::slice::from_ref(&report));
    assert_eq!(select(&page, ".timeline.no-guest li.row").len(), 8);
    assert_eq!(select(&page, ".lane.guest").len(), 0);
}

#[test]
fn a_comparison_leads_to_every_teardown() {
    let reports = samples::compared();
    let page = parse("compared", &reports);
    let links: Vec<_> = select(&page, "nav a")
        .iter()
        .filter_map(|link| link.attr("href").map(str::to_owned))
        .collect();
    assert_eq!(
        links,
        ["#teardown-1", "#teardown-2", "#teardown-3", "#teardown-4"]
    );
    for link in links {
        assert_eq!(select(&page, &link).len(), 1, "{link} leads nowhere");
    }
    assert_eq!(select(&page, ".policies tbody tr").len(), 3);
    let cookie = text(select(&page, "#table-2")[0]);
    assert!(
        cookie.contains("(after "),
        "no cookie says what it waited for"
    );
}

#[test]
fn reports_of_two_machines_may_have_one_number() {
    let report = samples::troubled();
    let page = parse("twins", &[report.clone(), report]);
    assert_eq!(select(&page, "#teardown-1, #teardown-2").len(), 2);
}

#[test]
fn a_device_that_only_the_guest_saw_has_a_row() {
    let mut report = samples::troubled();
    report.devices.retain(|device| device.id != "nvme7");
    let page = parse("unplugged", &[report]);
    let row = select(&page, "li.row[data-id='nvme7']");
    assert_eq!(row.len(), 1);
    assert_eq!(row[0].attr("data-device"), None);
    assert_eq!(select(&page, "li.row[data-id='nvme7'] .handshake").len(), 1);
}

#[test]
fn reports_in_any_order_and_of_machines_at_the_same_time_make_a_page() {
    let mut reports = samples::compared();
    reports.reverse();
    for report in &mut reports {
        report.number = 3;
    }
    let page = parse("unsorted", &reports);
    assert_eq!(select(&page, "section.teardown").len(), 4);
    assert_eq!(select(&page, "nav a").len(), 4);
}

#[test]
fn whatever_figures_a_report_holds_there_is_a_page() {
    for (start, end) in [(u64::MAX, u64::MAX), (u64::MAX, 0), (0, u64::MAX), (0, 0)] {
        let mut report = samples::troubled();
        for device in &mut report.devices {
            (device.ready_ns, device.start_ns, device.end_ns) = (end, start, end);
        }
        for device in &mut report.guest.devices {
            for event in &mut device.events {
                (event.first_ns, event.last_ns) = (i64::MIN, i64::MAX);
            }
            if let Some(handshake) = &mut device.handshake {
                handshake.requested_ns = i64::MIN;
                handshake.completed_ns = Some(i64::MAX);
                handshake.seen_ns = Some(i64::MIN);
            }
        }
        (report.teardown_start_ns, report.teardown_ns) = (start, end);
        (report.reset_ns, report.reset_to_ready_ns) = (Some(start), Some(end));
        report.efficiency = f64::NAN;
        let page = document(&[report.clone(), report]);
        assert!(Html::parse_document(&page).errors.is_empty());
        assert!(!page.contains(":NaN") && !page.contains(":inf"));
    }
}

#[test]
fn an_empty_report_and_no_report_make_a_page() {
    let mut report = samples::troubled();
    report.devices.clear();
    report.guest = api::report::GuestReport::default();
    report.teardown_ns = 0;
    report.critical_path_ns = 0;
    report.reset_ns = None;
    report.reset_to_ready_ns = None;
    let page = parse("empty", &[report]);
    assert!(text(select(&page, ".verdict")[0]).contains("no device to shut down"));
    let none = parse("none", &[]);
    assert_eq!(select(&none, "section.teardown").len(), 0);
}
