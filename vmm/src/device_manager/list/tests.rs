//! The list is what a kernel's scan of the configured hierarchy makes.

use api::config::VmConfig;

use super::*;

/// A machine whose devices are written in another order than that of their places.
fn config(rest: &str) -> VmConfig {
    let nvme = |id: &str, place: &str| {
        format!(
            r#"{{"type": "nvme", "id": "{id}", {place} "namespaces": [{{"path": "{id}.raw"}}]}}"#
        )
    };
    let document = format!(
        r#"{{"payload": {{"kernel": "k"}}, {rest} "pci": [
            {{"type": "root-port", "id": "late", "device": 9, "children": [{}]}},
            {{"type": "root-port", "id": "early", "device": 2, "async": false, "children": [
                {{"type": "upstream-port", "id": "up", "children": [
                    {{"type": "downstream-port", "id": "down0", "children": [{}]}},
                    {{"type": "downstream-port", "id": "down1"}}]}}]}},
            {}]}}"#,
        nvme("behind-late", ""),
        nvme("deep", ""),
        nvme("root-drive", r#""device": 5,"#),
    );
    VmConfig::from_json(document.as_bytes()).unwrap()
}

fn ids(graph: &Graph, numbers: &[usize]) -> Vec<String> {
    let name = |&number: &usize| graph.node(number).id.clone();
    numbers.iter().map(name).collect()
}

fn listed(rest: &str) -> Vec<String> {
    let graph = Listing::of_config(&config(rest)).unwrap().graph().unwrap();
    ids(&graph, graph.order())
}

const LEGACY: [&str; 6] = ["i8042", "rtc", "acpi", "reset", "boot-marker", "serial"];

#[test]
fn a_bus_comes_in_the_order_of_places_then_what_is_behind_each_bridge() {
    let pci = [
        "early",
        "root-drive",
        "late",
        "up",
        "down0",
        "down1",
        "deep",
        "behind-late",
    ];
    assert_eq!(listed(""), [&pci[..], &LEGACY].concat());
}

#[test]
fn parents_and_flags_are_those_of_the_configuration() {
    let graph = Listing::of_config(&config("")).unwrap().graph().unwrap();
    let node = |id: &str| graph.node(graph.find(id).unwrap()).clone();
    assert_eq!(node("deep").parent, graph.find("down0"));
    assert_eq!(node("early").parent, None);
    assert!(!node("early").asynchronous && node("late").asynchronous);
    assert!(node("deep").blocking && !node("down0").blocking);
    assert!(!node("rtc").blocking && !node("rtc").asynchronous);
}

#[test]
fn a_machine_without_a_serial_port_lists_none() {
    let all = listed(r#""serial": {"mode": "Off"},"#);
    assert!(!all.contains(&"serial".to_owned()));
    assert_eq!(all.len(), 13);
}

#[test]
fn a_link_that_is_left_out_moves_nobody() {
    let link = r#""links": [{"consumer": "root-drive", "supplier": "late"}],"#;
    let listing = Listing::of_config(&config(link)).unwrap();
    let with = listing.graph().unwrap();
    assert_eq!(ids(&with, with.order()).last().unwrap(), "root-drive");
    let without = listing.graph_without(Some(0)).unwrap();
    assert_eq!(ids(&without, without.order()), listed(""));
}

#[test]
fn legacy_devices_are_last_in_a_list_that_is_given() {
    let given = [
        "late",
        "behind-late",
        "early",
        "up",
        "down1",
        "down0",
        "deep",
        "root-drive",
    ];
    let order = format!(r#""teardown": {{"order": {given:?}}},"#);
    assert_eq!(listed(&order), [&given[..], &LEGACY].concat());
}
