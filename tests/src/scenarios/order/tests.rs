//! The checker finds each kind of fault that it is there for.

use std::path::Path;

use api::config::TeardownPolicy;
use api::report::{Cause, DeviceReport, GuestReport, Outcome};

use super::super::design::{Design, drive, machine, root_port};
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
        modelled_ns: None,
        waited_on: Vec::new(),
        held_up_by: None,
        critical: false,
        reset_set: None,
        outcome: Outcome::Done,
    }
}

/// a and b overlap, the port follows, then the legacy devices.
fn good() -> TeardownReport {
    let mut a = device("a", Some("rp"), 100, 300);
    a.asynchronous = true;
    a.critical = true;
    let mut b = device("b", None, 110, 250);
    b.ready_ns = 100;
    b.suppliers = vec!["rp".to_owned()];
    let mut port = device("rp", None, 300, 310);
    port.asynchronous = true;
    port.critical = true;
    port.waited_on = vec!["a".to_owned(), "b".to_owned()];
    port.held_up_by = Some("a".to_owned());
    let mut devices = vec![b, a, port];
    let mut before = ("b".to_owned(), 250);
    for (id, at) in LEGACY.iter().chain(&["serial"]).zip(310..) {
        let mut legacy = device(id, None, at, at);
        legacy.ready_ns = before.1;
        legacy.waited_on = vec![before.0.clone()];
        legacy.held_up_by = Some(before.0);
        before = ((*id).to_owned(), at);
        devices.push(legacy);
    }
    // The list is walked backwards.
    for (device, position) in devices.iter_mut().rev().zip(0..) {
        device.position = position;
    }
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
        efficiency: 210.0 / 215.0,
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
fn parents_suppliers_and_flags_are_those_of_the_configuration() {
    fault(|report| report.devices[1].parent = None, "the parent None");
    fault(
        |report| report.devices[0].suppliers.clear(),
        "has the suppliers {}",
    );
    fault(
        |report| report.devices[0].asynchronous = true,
        "asynchronously",
    );
}

#[test]
fn a_broken_rule_is_named() {
    fault(
        |report| report.serial_sum_ns = 100,
        "sum: the sum of all devices",
    );
}
