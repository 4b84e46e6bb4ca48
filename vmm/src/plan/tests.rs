//! Plans of whole configurations, and what must hold of every plan.

use std::time::Duration;

use api::config::TeardownPolicy;
use proptest::prelude::*;

use super::*;
use crate::device_manager::resets::SharedReset;
use crate::device_manager::teardown::tests::oracle::machines;
use crate::device_manager::teardown::{Cost, Node, predict};

use TeardownPolicy::{Completion, Cookie, Serial};

/// Two drives, each behind a port: the host waits for `teardown`, the guest for `shutdown`.
fn config(teardown: [u64; 2], shutdown: [u64; 2], rest: &str) -> VmConfig {
    let drive = |at: usize| {
        format!(
            r#"{{"type": "root-port", "id": "port{at}", "async": false, "children": [
                {{"type": "nvme", "id": "drive{at}", "namespaces": [{{"path": "{at}.raw"}}],
                  "shutdown": {{"latency": {{"kind": "fixed", "ms": {}}}}},
                  "teardown": {{"latency": {{"kind": "fixed", "ms": {}}}}}}}]}}"#,
            shutdown[at], teardown[at]
        )
    };
    let (first, second) = (drive(0), drive(1));
    let document =
        format!(r#"{{"payload": {{"kernel": "k"}}, {rest} "pci": [{first}, {second}]}}"#);
    VmConfig::from_json(document.as_bytes()).unwrap()
}

fn totals_ms(report: &api::plan::PlanReport) -> Vec<(TeardownPolicy, u64)> {
    let plans = report.policies.iter();
    plans
        .map(|plan| (plan.policy, plan.total_ns / 1_000_000))
        .collect()
}

#[test]
fn host_and_guest_are_planned_with_their_own_latencies() {
    let plans = of_config(&config([300, 500], [100, 40], "")).unwrap();
    assert_eq!(plans.policy, Completion);
    assert_eq!(
        totals_ms(&plans.host),
        [(Serial, 800), (Cookie, 500), (Completion, 500)]
    );
    let guest = plans.guest.unwrap();
    assert_eq!(
        totals_ms(&guest),
        [(Serial, 140), (Cookie, 100), (Completion, 100)]
    );
    assert_eq!(guest.lower_bound_ns, 100_000_000);
    assert_eq!((guest.devices, guest.workers), (10, 64));
}

#[test]
fn without_a_modelled_handshake_there_is_no_plan_of_the_guest() {
    assert_eq!(of_config(&config([1, 1], [0, 0], "")).unwrap().guest, None);
}

#[test]
fn devices_passed_through_block_a_worker_for_the_reset_that_is_expected() {
    let device = |at: usize| {
        format!(
            r#"{{"type": "vfio", "id": "d{at}", "path": "01:00.{at}", "expected_reset_ms": 80}}"#
        )
    };
    let devices: Vec<_> = (0..5).map(device).collect();
    let plan = |workers: u16| {
        let document = format!(
            r#"{{"payload": {{"kernel": "k"}}, "teardown": {{"workers": {workers}}}, "pci": [{}]}}"#,
            devices.join(", ")
        );
        of_config(&VmConfig::from_json(document.as_bytes()).unwrap()).unwrap()
    };
    let ms = [(Serial, 400), (Cookie, 80), (Completion, 80)];
    assert_eq!(totals_ms(&plan(64).host), ms);
    // Four workers, and the fifth call has to wait for one of them.
    assert_eq!(totals_ms(&plan(4).host)[2], (Completion, 160));
    let host = plan(64).host;
    assert_eq!(
        host.assumptions,
        ["d0, d1, d2 and 2 more: passed through; planned with the reset that is expected, 80ms"]
    );
    assert_eq!(plan(64).guest, None);
}

#[test]
fn devices_that_are_reset_together_cost_one_reset_the_slowest() {
    let device = |id: &str, at: usize, ms: u64| {
        format!(
            r#"{{"type": "vfio", "id": "{id}", "path": "01:00.{at}", "expected_reset_ms": {ms}}}"#
        )
    };
    let devices = [
        device("a", 0, 30),
        device("b", 1, 80),
        device("alone", 2, 20),
    ];
    let document = format!(
        r#"{{"payload": {{"kernel": "k"}}, "pci": [{}]}}"#,
        devices.join(", ")
    );
    let set = SharedReset {
        name: "slot 0000:01:00".to_owned(),
        ids: vec!["a".to_owned(), "b".to_owned()],
    };
    let resets = Resets {
        sets: vec![set],
        none: vec!["alone".to_owned()],
    };
    let config = VmConfig::from_json(document.as_bytes()).unwrap();
    let host = of_machine(&config, &resets).unwrap().host;
    assert_eq!(
        totals_ms(&host),
        [(Serial, 100), (Cookie, 80), (Completion, 80)]
    );
    let assumed = "a, b share slot 0000:01:00: they are reset together, by whichever comes last; planned with one reset";
    assert_eq!(host.assumptions.last().map(String::as_str), Some(assumed));
    assert!(
        host.warnings[0].starts_with("alone has no reset"),
        "{:?}",
        host.warnings
    );
}

#[test]
fn a_plan_names_who_holds_whom_up() {
    let plans = of_config(&config(
        [300, 500],
        [0, 0],
        r#""links": [{"consumer": "drive0", "supplier": "drive1"}],"#,
    ))
    .unwrap();
    let plan = &plans.host.policies[2];
    assert_eq!(plan.policy, Completion);
    assert_eq!(plan.critical[..2], ["drive0", "drive1"]);
    let drive1 = plan
        .order
        .iter()
        .find(|device| device.id == "drive1")
        .unwrap();
    assert_eq!(drive1.held_up_by.as_deref(), Some("drive0"));
    assert_eq!(
        (drive1.ready_ns, drive1.start_ns, drive1.end_ns),
        (300_000_000, 300_000_000, 800_000_000)
    );
    assert!(drive1.critical && drive1.asynchronous && !drive1.timed_out);
    assert_eq!(drive1.parent.as_deref(), Some("port1"));
    assert_eq!(drive1.cookie, None);
    let cookies = &plans.host.policies[1].order;
    assert!(cookies.iter().all(|device| device.cookie.is_some()));
}

#[test]
fn a_device_slower_than_its_deadline_is_told_of() {
    let mut config = config([300, 90_000], [0, 0], "");
    config.teardown.workers = Some(1);
    let host = of_config(&config).unwrap().host;
    assert_eq!(
        host.warnings,
        ["drive1 takes 90s and is given up at its deadline of 30s"]
    );
    assert_eq!(host.serial_sum_ns, 30_300_000_000);
}

#[test]
fn latencies_that_vary_are_planned_with_what_to_expect_and_told_of() {
    let drive = |id: &str, teardown: &str, more: &str| {
        format!(
            r#"{{"type": "nvme", "id": "{id}", "namespaces": [{{"path": "{id}.raw"}}], {more}
                "teardown": {{"latency": {teardown}}}}}"#
        )
    };
    let even = r#"{"kind": "log-normal", "median_ms": 500, "sigma": 0.4}"#;
    let drives = [
        drive("a", even, ""),
        drive("b", even, r#""faults": {"flush": "stuck"},"#),
        drive(
            "c",
            r#"{"kind": "uniform", "min_ms": 100, "max_ms": 200}"#,
            "",
        ),
        drive(
            "d",
            r#"{"kind": "written", "base_ms": 20, "ms_per_mib": 4, "cap_ms": 900}"#,
            "",
        ),
        drive("e", r#"{"kind": "fixed", "ms": 30}"#, ""),
        drive("f", even, ""),
        drive("g", even, ""),
    ];
    let document = format!(
        r#"{{"payload": {{"kernel": "k"}}, "pci": [{}]}}"#,
        drives.join(",")
    );
    let config = VmConfig::from_json(document.as_bytes()).unwrap();
    let host = of_config(&config).unwrap().host;
    assert_eq!(host.serial_sum_ns, (4 * 500 + 150 + 20 + 30) * 1_000_000);
    let expected = [
        "a, b, f and 1 more: log-normal, median 500 ms, σ 0.4; planned with the median",
        "c: uniform, 100 to 200 ms; planned with the mean, 150ms",
        "d: 20 ms and 4 ms for each MiB written, at most 900 ms; planned with nothing written",
        "b: a fault is set (of its flushes) that is not planned for",
    ];
    assert_eq!(host.assumptions, expected);
}

/// The machine that a plan has to be quick for: 512 drives behind 64 ports, every second one synchronous.
#[test]
fn a_large_machine_is_planned_with_all_its_devices() {
    let mut model = Model::host(&config([0, 0], [0, 0], "")).unwrap();
    for port in 0..64 {
        let node = |id: String, parent| Node {
            parent,
            asynchronous: port % 2 == 0,
            ..Node::new(id, "test")
        };
        let number = model.listing.nodes.len();
        model.listing.nodes.push(node(format!("p{port}"), None));
        for drive in 0..7 {
            model
                .listing
                .nodes
                .push(node(format!("p{port}d{drive}"), Some(number)));
        }
    }
    model.costs = vec![Cost::latency(Duration::from_millis(10)); model.listing.nodes.len()];
    let report = model.report().unwrap();
    assert_eq!(report.devices, 522);
    let [serial, cookie, completion] = &report.policies[..] else {
        panic!("three policies")
    };
    assert_eq!(serial.total_ns, 5_220_000_000);
    assert!(cookie.total_ns < serial.total_ns && completion.total_ns <= cookie.total_ns);
    assert_eq!(report.lower_bound_ns, 20_000_000);
    assert!(!completion.savings.is_empty());
}

proptest! {
    /// Every policy that keeps the tree and the links stays above the bound, whatever the workers.
    #[test]
    fn no_order_gets_below_the_bound(machine in machines(24, Duration::from_millis(20), true), workers in 1..5u16) {
        let bound = bound::lower(&machine.graph, &machine.costs, workers);
        for policy in [Serial, Completion] {
            let plan = predict(&machine.graph, policy, &machine.costs, workers.into());
            // A list that puts a sync device before its dependants lets two of a chain go as they come.
            if plan.rules.warnings.is_empty() {
                prop_assert!(plan.total >= bound, "{policy}: {:?} < {bound:?}", plan.total);
            }
        }
    }
}
