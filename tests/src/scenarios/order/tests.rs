//! The checker finds each kind of fault that it is there for.

use std::path::Path;

use api::report::{Cause, GuestReport, Outcome};

use super::super::plan::{Plan, drive, machine, root_port};
use super::*;

fn config() -> VmConfig {
    machine(Path::new("/kernel"))
        .with([
            root_port("rp", [drive("a", "/a")]),
            drive("b", "/b").synchronous(),
        ])
        .link("b", "rp")
}

fn device(id: &str, parent: Option<&str>, start: u64, end: u64) -> DeviceReport {
    DeviceReport {
        id: id.to_owned(),
        address: None,
        class: String::new(),
        parent: parent.map(str::to_owned),
        suppliers: Vec::new(),
        asynchronous: false,
        position: 0,
        parent_lock: false,
        cookie: None,
        waited_for_cookie: None,
        ready_ns: start,
        start_ns: start,
        end_ns: end,
        phases: Vec::new(),
        waited_on: Vec::new(),
        held_up_by: None,
        critical: false,
        outcome: Outcome::Done,
    }
}

/// a and b overlap, the port follows, then the legacy devices.
fn good() -> TeardownReport {
    let mut a = device("a", Some("rp"), 100, 300);
    a.asynchronous = true;
    let mut b = device("b", None, 110, 250);
    b.suppliers = vec!["rp".to_owned()];
    let mut port = device("rp", None, 300, 310);
    port.asynchronous = true;
    port.waited_on = vec!["a".to_owned(), "b".to_owned()];
    let mut devices = vec![b, a, port];
    let legacy = LEGACY.iter().chain(&["serial"]).enumerate();
    devices.extend(legacy.map(|(number, id)| {
        let at = 310 + number as u64;
        device(id, None, at, at)
    }));
    TeardownReport {
        number: 1,
        boot: 1,
        cause: Cause::Api,
        policy: TeardownPolicy::Completion,
        workers: 1,
        workers_used: 1,
        at_ns: 0,
        vcpu_pause_ns: 90,
        teardown_ns: 215,
        teardown_start_ns: 100,
        reset_rest_ns: Some(5),
        reset_ns: Some(310),
        reset_to_ready_ns: None,
        serial_sum_ns: 350,
        critical_path_ns: 210,
        efficiency: 0.97,
        devices,
        warnings: Vec::new(),
        guest: GuestReport::default(),
    }
}

#[track_caller]
fn fault(change: impl FnOnce(&mut TeardownReport), wanted: &str) {
    let mut report = good();
    change(&mut report);
    let error = check(&report, &config()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn a_good_report_passes() {
    check(&good(), &config()).unwrap();
}

#[test]
fn missing_doubled_and_unknown_devices_are_found() {
    fault(|report| drop(report.devices.remove(0)), "missing: [\"b\"]");
    fault(
        |report| report.devices.push(report.devices[0].clone()),
        "twice",
    );
    fault(
        |report| report.devices.push(device("c", None, 400, 400)),
        "not configured: [\"c\"]",
    );
}

#[test]
fn a_parent_or_supplier_that_begins_too_soon_is_found() {
    fault(
        |report| {
            report.devices[2].ready_ns = 299;
            report.devices[2].start_ns = 299;
            report.devices[2].waited_on.clear();
        },
        "its parent rp",
    );
    fault(
        |report| {
            report.devices[0].end_ns = 305;
            report.devices.swap(0, 1);
            report.devices[2].waited_on.clear();
        },
        "its supplier rp",
    );
}

#[test]
fn overlaps_are_found() {
    fault(
        |report| report.policy = TeardownPolicy::Serial,
        "a and b overlap",
    );
    fault(|report| report.devices[1].asynchronous = false, "overlap");
}

#[test]
fn wrong_sums_are_found() {
    fault(|report| report.serial_sum_ns = 100, "the serial sum");
    fault(
        |report| report.critical_path_ns = 150,
        "shorter than one device",
    );
    fault(|report| report.teardown_ns = 900, "the teardown is given");
    fault(|report| report.reset_ns = Some(999), "the reset");
    fault(|report| report.vcpu_pause_ns = 105, "before the vCPUs");
}
