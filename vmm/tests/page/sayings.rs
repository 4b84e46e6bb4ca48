//! What a page says of a report: its sentences, its totals, its medians, and when a handshake ended.

use api::config::TeardownPolicy;
use api::report::TeardownReport;

use vmm::device_manager::teardown::Cost;

use super::content::{one, parse, select, text};
use super::samples::{self, Guest};

#[test]
fn too_few_workers_are_named() {
    let mut machine = samples::eight();
    machine.workers = 2;
    machine.cost = Cost::work;
    let report = one(&machine, TeardownPolicy::Completion, Guest::Silent);
    assert_eq!(report.workers_used, 2);
    let page = parse("few-workers", &[report]);
    let verdict = text(select(&page, ".verdict")[0]);
    assert!(
        verdict.contains("devices waited for one of the 2 workers"),
        "{verdict}"
    );
}

#[test]
fn workers_that_nobody_waited_for_are_not_blamed() {
    let verdict = |report: &TeardownReport| {
        let page = parse("late", std::slice::from_ref(report));
        text(select(&page, ".verdict")[0])
    };
    let mut report = one(&samples::eight(), TeardownPolicy::Completion, Guest::Silent);
    report.workers = report.workers_used;
    report.teardown_ns += 200_000_000;
    let said = verdict(&report);
    assert!(said.contains("200.0 ms beyond its critical path"), "{said}");
    assert!(said.contains("it lies in several gaps"), "{said}");
    assert!(!said.contains("workers"), "{said}");

    // A synchronous device needs no worker.
    let late = |device: &&mut api::report::DeviceReport| device.id == "i8042";
    let device = report.devices.iter_mut().find(late).unwrap();
    device.start_ns = device.ready_ns + 150_000_000;
    device.end_ns = device.start_ns + 3_000;
    let said = verdict(&report);
    let expected = "i8042 was ready 150.0 ms before it was called, and that was not for want";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_handshake_that_was_left_ends_where_the_guest_left_it() {
    let report = samples::troubled();
    let device = report.guest.devices.last().unwrap();
    let left = device.handshake_end_ns().unwrap();
    assert!(left < -1_000_000, "not at the reset request: {left}");
    let page = parse("left", std::slice::from_ref(&report));
    let id = &device.id;
    let bar = select(&page, &format!("li.row[data-id='{id}'] .handshake"))[0];
    assert!(bar.attr("class").unwrap().contains("unfinished"));
    let end: f64 = bar
        .attr("style")
        .and_then(|style| style.split_once("--e:"))
        .map(|(_, end)| end.parse().unwrap())
        .unwrap();
    let side = select(&page, ".ticks .lane.guest")[0];
    let from: f64 = side.attr("data-from").unwrap().parse().unwrap();
    assert!((end - (1.0 - left as f64 / from)).abs() < 1e-6, "{end}");
}

#[test]
fn medians_are_those_of_a_measurement() {
    let machine = samples::eight();
    let mut reports: Vec<_> = (1..=2)
        .map(|number| machine.report(number, TeardownPolicy::Completion, Guest::Silent))
        .collect();
    reports[0].teardown_ns = 100_000_000;
    reports[1].teardown_ns = 300_000_000;
    let page = parse("medians", &reports);
    let row: Vec<_> = select(&page, ".policies tbody tr data")
        .iter()
        .filter_map(|data| data.attr("value"))
        .take(3)
        .collect();
    assert_eq!(row, ["200000000", "100000000", "300000000"]);
}

#[test]
fn a_page_says_what_held_everything_up_and_how_the_guest_went() {
    let report = one(
        &samples::eight(),
        TeardownPolicy::Completion,
        Guest::Serial(200),
    );
    let page = parse("eight-completion", std::slice::from_ref(&report));
    let verdict = text(select(&page, ".verdict")[0]);
    assert!(
        verdict.contains("nvme4 held everything up: it took 240.0 ms"),
        "{verdict}"
    );
    assert!(
        verdict.contains("The guest went serial: 8 shutdown handshakes"),
        "{verdict}"
    );
    let critical: Vec<_> = select(&page, "li.critical")
        .iter()
        .filter_map(|row| row.attr("data-id"))
        .collect();
    assert_eq!(critical, ["rp1", "bridge0", "nvme4"]);
    let plain = text(select(&page, "pre")[0]);
    assert!(
        plain.lines().all(|line| line.chars().count() <= 72),
        "{plain}"
    );
    assert!(
        plain.contains("nvme4") && plain.contains(" 240.000 *"),
        "{plain}"
    );
}

#[test]
fn exact_nanoseconds_stand_beside_every_total() {
    let report = one(
        &samples::eight(),
        TeardownPolicy::Serial,
        Guest::Serial(200),
    );
    let page = parse("eight-serial", std::slice::from_ref(&report));
    let values: Vec<_> = select(&page, ".figures data")
        .iter()
        .filter_map(|data| data.attr("value").map(str::to_owned))
        .collect();
    for ns in [
        report.guest.span_ns,
        report.vcpu_pause_ns,
        report.teardown_ns,
        report.critical_path_ns,
        report.serial_sum_ns,
    ] {
        assert!(values.contains(&ns.to_string()), "{ns} in {values:?}");
    }
}
