//! What people are shown, line by line.

use api::report::TeardownReport;
use api::state::{Topology, TopologyNode};
use serde_json::{Value, json};

use super::*;

fn shown(path: &str, body: Value) -> String {
    answer(path, body.to_string().as_bytes()).unwrap()
}

fn node(id: &str, children: Vec<Value>) -> Value {
    json!({
        "id": id, "class": "root-port", "address": "0000:00:01.0", "async": true, "deadline_ms": 30000,
        "on_timeout": "quarantine", "suppliers": [], "consumers": [], "quarantined": false, "children": children,
    })
}

#[test]
fn the_tree_is_drawn_with_its_branches() {
    let tree = node(
        "rp",
        vec![node("a", vec![node("b", vec![])]), node("c", vec![])],
    );
    let text = shown("/vm.topology", json!({ "pci": [tree], "legacy": [] }));
    let names: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| line.split("root-port").next().unwrap().trim_end())
        .collect();
    assert_eq!(names, ["rp", "├─ a", "│  └─ b", "└─ c"]);
    let bare: TopologyNode = serde_json::from_value(node("x", vec![])).unwrap();
    let bare = Topology {
        pci: vec![TopologyNode {
            address: None,
            quarantined: true,
            ..bare
        }],
        legacy: vec![],
    };
    assert!(topology::tree(&bare).contains("not numbered"));
    assert!(topology::tree(&bare).contains("QUARANTINED"));
}

#[test]
fn what_is_behind_a_device_is_shown_with_it() {
    let mut device = node("v", vec![]);
    device["passthrough"] = json!({ "host": "0000:03:00.0", "reset_set": "slot 0000:03:00" });
    let text = shown("/vm.topology", json!({ "pci": [device], "legacy": [] }));
    assert!(
        text.contains("0000:03:00.0, reset with slot 0000:03:00"),
        "{text}"
    );
    device["passthrough"] = json!({ "host": "/run/u.sock", "gone": "the server has ended" });
    let text = shown("/vm.topology", json!({ "pci": [device], "legacy": [] }));
    assert!(text.contains("GONE: the server has ended"), "{text}");
    device["quarantined"] = json!(true);
    let text = shown("/vm.topology", json!({ "pci": [device], "legacy": [] }));
    assert!(text.contains("QUARANTINED: the server has ended"), "{text}");
    assert_eq!(
        shown("/vm.add-device", json!({ "id": "v" })),
        "v is added\n"
    );
}

/// A report, of which nothing hangs together.
pub(crate) fn report() -> TeardownReport {
    let device = json!({
        "id": "d0", "address": "0000:01:00.0", "class": "nvme", "parent": "rp", "suppliers": [], "async": true, "position": 0,
        "ready_ns": 0, "start_ns": 1_000_000, "end_ns": 501_500_000, "phases": [], "waited_on": [], "held_up_by": "x",
        "critical": true, "outcome": { "result": "failed", "error": "no answer" },
    });
    let report = json!({
        "number": 3, "boot": 2, "cause": "triple-fault", "policy": "completion", "workers": 64, "workers_used": 1,
        "at_ns": 5, "vcpu_pause_ns": 100_000, "teardown_ns": 500_500_000, "teardown_start_ns": 1, "reset_rest_ns": null,
        "reset_ns": null, "reset_to_ready_ns": null, "serial_sum_ns": 500_500_000, "critical_path_ns": 500_500_000,
        "efficiency": 0.987, "devices": [device], "warnings": ["forced to sync"],
    });
    serde_json::from_value(report).unwrap()
}

#[test]
fn a_report_shows_devices_and_totals() {
    let text = shown("/vm.teardowns/3", serde_json::to_value(report()).unwrap());
    for expected in [
        "teardown 3 ended boot 2: triple-fault",
        "d0 *",
        "500.500",
        "failed: no answer",
        "98.7 %",
        "warning: forced",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

fn drive(id: &str, shn_ms: i64, shst_ms: Option<i64>) -> Value {
    json!({
        "id": id, "class": "nvme", "address": "0000:01:00.0",
        "events": [
            { "act": "enable", "first_ns": -9_000_000_000i64, "last_ns": -9_000_000_000i64, "count": 1 },
            { "act": "delete-submission-queue", "first_ns": 0, "last_ns": 0, "count": 4 },
            { "act": "delete-completion-queue", "first_ns": 0, "last_ns": 0, "count": 4 },
            { "act": "bus-master-off", "first_ns": 0, "last_ns": 0, "count": 2 },
        ],
        "handshake": {
            "requested_ns": shn_ms * 1_000_000, "completed_ns": shst_ms.map(|ms| ms * 1_000_000),
            "seen_ns": null, "polls": 7,
        },
    })
}

fn guest_part(report: Value) -> String {
    guest::part(&serde_json::from_value(report).unwrap())
}

#[test]
fn the_guests_part_is_a_line_a_drive_and_one_on_how_it_went() {
    let mut only_started = drive("idle", 0, None);
    only_started["handshake"] = Value::Null;
    only_started["events"].as_array_mut().unwrap().truncate(1);
    let text = guest_part(json!({
        "order": "serial", "handshake_sum_ns": 1_620_000_000u64, "span_ns": 1_650_000_000u64, "overlap": 0.9818,
        "devices": [drive("d0", -1700, Some(-890)), drive("d1", -860, Some(-50)), only_started],
    }));
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[1],
        [
            "d0",
            "8",
            "-1700.000",
            "-890.000",
            "810.000",
            "7",
            "bus-master-off",
            "×",
            "2"
        ]
    );
    assert_eq!(lines[2][0], "d1");
    assert!(
        lines[3].is_empty(),
        "a drive that was only started is left out"
    );
    assert_eq!(
        text.lines().last().unwrap(),
        "the guest shut 2 drives down one after the other: 1.62 s of handshakes in 1.65 s (overlap 0.98)"
    );
}

#[test]
fn a_guest_that_shut_nothing_down_or_did_not_wait_is_said_to() {
    let nothing = json!({ "order": "none", "handshake_sum_ns": 0, "span_ns": 0, "overlap": null, "devices": [] });
    assert_eq!(
        guest_part(nothing),
        "the guest shut no drive down before the reset\n"
    );
    let text = guest_part(json!({
        "order": "parallel", "handshake_sum_ns": 90_000_000, "span_ns": 90_000_000, "overlap": 1.0,
        "devices": [drive("d0", -100, Some(-10)), drive("d1", -90, None)],
    }));
    assert!(
        text.contains("in parallel: 90.000 ms of handshakes in 90.000 ms"),
        "{text}"
    );
    assert!(text.ends_with("; 1 of 2 never completed\n"), "{text}");
    let single = json!({
        "order": "single", "handshake_sum_ns": 0, "span_ns": 0, "overlap": null, "devices": [drive("d0", -9, None)],
    });
    assert!(guest_part(single).ends_with("the guest shut 1 drive down; 1 of 1 never completed\n"));
}

#[test]
fn the_list_says_how_the_guest_went() {
    let summary = json!({
        "number": 1, "boot": 1, "cause": "api", "policy": "serial", "teardown_ns": 1, "reset_ns": 2,
        "reset_to_ready_ns": null, "failed": 0, "guest_order": "serial", "guest_span_ns": 412_000_000,
    });
    let mut older = summary.clone();
    let fields = older.as_object_mut().unwrap();
    fields.remove("guest_order");
    fields.remove("guest_span_ns");
    let text = shown("/vm.teardowns", json!([summary, older]));
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines[1].ends_with(&["0", "serial", "412.000"]), "{text}");
    assert!(lines[2].ends_with(&["0", "none", "-"]), "{text}");
}

#[test]
fn the_other_answers_are_short() {
    let text = shown(
        "/vmm.ping",
        json!({ "build_version": "v1-g0", "version": "1", "pid": 7, "features": [] }),
    );
    assert_eq!(text, "sundown 1 (v1-g0), process 7\n");
    assert_eq!(
        shown(
            "/vm.teardown-policy",
            json!({ "policy": "serial", "workers": 4 })
        ),
        "serial, 4 workers at most\n"
    );
    assert!(shown("/vm.teardowns", json!([])).starts_with("NO"));
    let info = json!({
        "config": { "payload": { "kernel": "/k" } }, "state": "Running", "memory_actual_size": 536_870_912u64, "boot": 2,
        "boot_markers": [{ "value": 123, "boot": 2, "at_ns": 1, "since_reset_ns": 1_500_000 }],
    });
    let info = shown("/vm.info", info);
    assert!(info.contains("state        Running"), "{info}");
    assert!(info.contains("0x7b in boot 2, 1.500 ms after"), "{info}");
}

#[test]
fn events_are_a_line_each() {
    let line = r#"{"seq":9,"at_ns":12000345678,"event":"device-shut-down","number":1,"id":"d0","outcome":{"result":"done"}}"#;
    let shown = event(line).unwrap();
    let words: Vec<_> = shown.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "9",
            "12.000345",
            "device-shut-down",
            "id=d0",
            "number=1",
            "outcome=done"
        ]
    );
    let line = r#"{"seq":1,"at_ns":0,"event":"teardown-ended","number":1,"teardown_ns":2500000,"guest_order":"serial"}"#;
    assert!(
        event(line)
            .unwrap()
            .ends_with("guest_order=serial number=1 teardown=2.500 ms")
    );
}
