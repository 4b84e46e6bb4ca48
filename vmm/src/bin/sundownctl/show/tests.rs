//! What people are shown, line by line.

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
fn a_report_shows_devices_and_totals() {
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
    let text = shown("/vm.teardowns/3", report);
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
    let line = r#"{"seq":1,"at_ns":0,"event":"teardown-ended","number":1,"teardown_ns":2500000}"#;
    assert!(event(line).unwrap().ends_with("teardown=2.500 ms"));
}
