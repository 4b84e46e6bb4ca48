//! Good reports, broken in one thing each.

mod guest;
mod order;

use api::report::{DeviceReport, GuestReport};

use super::*;

/// A report of the machine above with a guest's part. Under the virtual clock, for which device ends last
/// before another begins must not hang on the host's load.
fn good(policy: TeardownPolicy) -> TeardownReport {
    let mut report = predicted(&machine(), policy, 4);
    let drive = |id: &str, requested: i64, completed: i64| GuestDevice {
        id: id.to_owned(),
        class: "nvme".to_owned(),
        address: None,
        events: vec![GuestEvent {
            act: GuestAct::ShutdownNormal,
            first_ns: requested,
            last_ns: requested,
            count: 1,
        }],
        handshake: Some(ShutdownHandshake {
            requested_ns: requested,
            completed_ns: Some(completed),
            seen_ns: Some(completed + 5),
            polls: 2,
            abrupt: false,
            modelled_ns: 0,
        }),
    };
    report.guest.devices = vec![drive("a", -100, -60), drive("b", -50, -10)];
    report.guest.order = GuestOrder::Serial;
    report.guest.handshake_sum_ns = 80;
    report.guest.span_ns = 90;
    report.guest.overlap = Some(80.0 / 90.0);
    passes(&report);
    report
}

fn at(report: &TeardownReport, id: &str) -> usize {
    let place = report.devices.iter().position(|device| device.id == id);
    place.unwrap()
}

/// Breaks a good report; the rule must be named with these devices.
#[track_caller]
fn broken(
    policy: TeardownPolicy,
    change: impl FnOnce(&mut TeardownReport),
    rule: Rule,
    devices: &[&str],
) {
    let mut report = good(policy);
    change(&mut report);
    let violations = check(&report);
    let named = violations.iter().any(|violation| {
        let ids: Vec<_> = violation
            .devices
            .iter()
            .map(|device| device.id.as_str())
            .collect();
        violation.rule == rule && devices.iter().all(|device| ids.contains(device))
    });
    assert!(
        named,
        "{rule} of {devices:?} is not among: {}",
        all(&violations)
    );
}

/// Has `id` begin a nanosecond before `before` ends.
fn too_soon<'a>(id: &'a str, before: &'a str) -> impl FnOnce(&mut TeardownReport) + 'a {
    move |report| {
        let (device, before) = (at(report, id), at(report, before));
        let start = report.devices[before].end_ns - 1;
        report.devices[device].start_ns = start;
        report.devices[device].ready_ns = start;
    }
}

#[test]
fn the_lock_of_a_parent() {
    for policy in [Cookie, Completion] {
        let overlap = |report: &mut TeardownReport| {
            let (stick, camera) = (at(report, "stick"), at(report, "camera"));
            report.devices[stick].start_ns = report.devices[camera].start_ns;
        };
        broken(policy, overlap, Rule::ParentLock, &["stick", "camera"]);
    }
}

#[test]
fn devices_list_and_flags() {
    for policy in POLICIES {
        let twice = |report: &mut TeardownReport| {
            let again = report.devices[at(report, "a")].clone();
            report.devices.push(again);
        };
        broken(policy, twice, Rule::DeviceOnce, &["a"]);
        let gone = |report: &mut TeardownReport| drop(report.devices.remove(at(report, "switch")));
        broken(policy, gone, Rule::KnownDevice, &["a"]);
        let place = |report: &mut TeardownReport| {
            let (a, b) = (at(report, "a"), at(report, "b"));
            report.devices[a].position = report.devices[b].position;
        };
        broken(policy, place, Rule::ListPosition, &["a", "b"]);
        let beyond = |report: &mut TeardownReport| {
            let a = at(report, "a");
            report.devices[a].position = u64::MAX;
        };
        broken(policy, beyond, Rule::ListPosition, &["a"]);
        let itself = |report: &mut TeardownReport| {
            let a = at(report, "a");
            report.devices[a].parent = Some("a".to_owned());
        };
        broken(policy, itself, Rule::KnownDevice, &["a"]);
    }
    let asynchronous = |report: &mut TeardownReport| {
        let a = at(report, "a");
        report.devices[a].asynchronous = true;
    };
    broken(Serial, asynchronous, Rule::Flags, &["a"]);
    let numbered = |report: &mut TeardownReport| {
        let a = at(report, "a");
        report.devices[a].cookie = Some(1);
    };
    broken(Completion, numbered, Rule::Flags, &["a"]);
}

#[test]
fn stamps() {
    for policy in POLICIES {
        let change = |change: fn(&mut TeardownReport, usize)| {
            move |report: &mut TeardownReport| change(report, at(report, "a"))
        };
        let stamps = Rule::Stamps;
        let early = change(|report, a| report.vcpu_pause_ns = report.devices[a].start_ns + 1);
        broken(policy, early, stamps, &["a"]);
        let unready =
            change(|report, a| report.devices[a].ready_ns = report.devices[a].start_ns + 1);
        broken(policy, unready, stamps, &["a"]);
        let backwards =
            change(|report, a| report.devices[a].end_ns = report.devices[a].start_ns - 1);
        broken(policy, backwards, stamps, &["a"]);
        let phase =
            change(|report, a| report.devices[a].phases[0].end_ns = report.devices[a].end_ns + 1);
        broken(policy, phase, stamps, &["a"]);
        let phase = change(|report, a| {
            report.devices[a].phases[0].start_ns = report.devices[a].start_ns - 1
        });
        broken(policy, phase, stamps, &["a"]);
        let listed = |report: &mut TeardownReport| {
            let last = report.devices.len() - 1;
            report.devices.swap(0, last);
        };
        broken(policy, listed, stamps, &[]);
        let removed = change(|report, a| report.devices[a].outcome = Outcome::Removed);
        broken(policy, removed, Rule::Removed, &["a"]);
    }
}

#[test]
fn what_is_told_of_waits() {
    for policy in POLICIES {
        let held = |report: &mut TeardownReport| {
            let switch = at(report, "switch");
            report.devices[switch].held_up_by = Some("camera".to_owned());
        };
        broken(policy, held, Rule::HeldUpBy, &["switch"]);
        let nobody = |report: &mut TeardownReport| {
            let switch = at(report, "switch");
            report.devices[switch].held_up_by = None;
        };
        broken(policy, nobody, Rule::HeldUpBy, &["switch"]);
        let ready = |report: &mut TeardownReport| {
            let switch = at(report, "switch");
            report.devices[switch].ready_ns -= 1;
        };
        broken(policy, ready, Rule::HeldUpBy, &["switch"]);
        let waited = |report: &mut TeardownReport| {
            let switch = at(report, "switch");
            report.devices[switch].waited_on.push("camera".to_owned());
        };
        broken(policy, waited, Rule::WaitedOn, &["switch"]);
        let first = |report: &mut TeardownReport| {
            let list = |device: &&mut DeviceReport| device.held_up_by.is_none();
            let first = report.devices.iter_mut().find(list).unwrap();
            first.held_up_by = Some("serial".to_owned());
        };
        broken(policy, first, Rule::HeldUpBy, &[]);
    }
}

#[test]
fn totals() {
    for policy in POLICIES {
        let sum = Rule::Sum;
        broken(policy, |report| report.teardown_ns += 1, sum, &[]);
        broken(policy, |report| report.teardown_start_ns -= 1, sum, &[]);
        broken(policy, |report| report.serial_sum_ns += 1, sum, &[]);
        broken(
            policy,
            |report| report.reset_ns = report.reset_ns.map(|ns| ns + 1),
            sum,
            &[],
        );
        broken(policy, |report| report.reset_rest_ns = None, sum, &[]);
        broken(
            policy,
            |report| report.reset_to_ready_ns = Some(5),
            sum,
            &[],
        );
        broken(policy, |report| report.efficiency += 0.001, sum, &[]);
        let path = Rule::CriticalPath;
        broken(policy, |report| report.critical_path_ns += 1, path, &[]);
        broken(policy, |report| report.critical_path_ns = 0, path, &[]);
        let unmarked = |report: &mut TeardownReport| {
            let critical = |device: &&mut DeviceReport| device.critical;
            report.devices.iter_mut().find(critical).unwrap().critical = false;
        };
        broken(policy, unmarked, path, &[]);
        broken(policy, |report| report.workers_used = 5, Rule::Workers, &[]);
    }
    broken(Serial, |report| report.workers_used = 1, Rule::Workers, &[]);
}

#[test]
fn a_critical_path_that_leaves_part_of_the_chain_out() {
    let machine = Machine::new()
        .with_async("port", "", 1)
        .with_async("a", "port", 4)
        .with_async("b", "", 2);
    for policy in [Cookie, Completion] {
        let mut report = predicted(&machine, policy, 4);
        passes(&report);
        // The longest device alone: within the bounds, and as long as the devices that are marked.
        let length = |device: &DeviceReport| device.end_ns - device.start_ns;
        let longest = report.devices.iter().map(length).max().unwrap();
        for device in &mut report.devices {
            device.critical = length(device) == longest;
        }
        report.critical_path_ns = longest;
        report.efficiency = report.critical_path_ns as f64 / report.teardown_ns as f64;
        let violations = check(&report);
        assert_eq!(violations.len(), 1, "{}", all(&violations));
        assert_eq!(violations[0].rule, Rule::CriticalPath);
    }
}

#[test]
fn a_violation_names_both_devices_and_their_times() {
    let mut report = good(Completion);
    too_soon("switch", "a")(&mut report);
    let violations = check(&report);
    let violation = violations
        .iter()
        .find(|found| found.rule == Rule::ChildrenFirst);
    let said = violation.unwrap().to_string();
    assert!(
        said.starts_with(
            "children-first: a had not ended when switch, of which it is a child, began (a "
        ),
        "{said}"
    );
    let (a, switch) = (
        &report.devices[at(&report, "a")],
        &report.devices[at(&report, "switch")],
    );
    for ns in [a.start_ns, a.end_ns, switch.start_ns, switch.end_ns] {
        assert!(said.contains(&violation::ms(ns)), "{said} lacks {ns} ns");
    }
}

#[test]
fn numbers_out_of_all_bounds_are_no_panic() {
    for policy in POLICIES {
        let mut report = good(policy);
        for device in &mut report.devices {
            device.start_ns = 0;
            device.end_ns = u64::MAX;
        }
        report.vcpu_pause_ns = u64::MAX;
        report.teardown_ns = u64::MAX;
        for device in &mut report.guest.devices {
            device.handshake.as_mut().unwrap().requested_ns = i64::MIN;
            device.handshake.as_mut().unwrap().completed_ns = Some(i64::MAX);
        }
        assert!(!check(&report).is_empty());
    }
}
