//! The list as the kernel keeps it, and what a graph refuses.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::{Machine, machines};

fn list(machine: &Machine) -> Vec<&str> {
    machine
        .graph
        .order()
        .iter()
        .map(|&device| machine.graph.node(device).id.as_str())
        .collect()
}

fn four() -> Machine {
    Machine::new()
        .with_async("a", "", 0)
        .with_async("b", "a", 0)
        .with_async("c", "", 0)
        .with_async("d", "c", 0)
}

#[test]
fn the_list_is_in_registration_order() {
    assert_eq!(list(&four()), ["a", "b", "c", "d"]);
}

#[test]
fn a_link_moves_the_consumer_its_children_and_consumers_to_the_tail() {
    assert_eq!(list(&four().linked("a", "d")), ["c", "d", "a", "b"]);
    // e is a consumer of b, which is a's child: it moves along, after b.
    let machine = four()
        .with_async("e", "", 0)
        .linked("e", "b")
        .with_async("f", "", 0)
        .linked("a", "f");
    assert_eq!(list(&machine), ["c", "d", "f", "a", "b", "e"]);
}

#[test]
fn a_device_that_is_child_and_consumer_moves_once() {
    let machine = four().linked("b", "a").linked("a", "d");
    assert_eq!(list(&machine), ["c", "d", "a", "b"]);
}

#[test]
fn a_link_that_exists_moves_nothing() {
    let machine = four().linked("b", "c").linked("d", "a").linked("b", "c");
    assert_eq!(list(&machine), ["a", "c", "b", "d"]);
    assert_eq!(machine.graph.suppliers(1), [2]);
}

#[test]
fn t4_a_sync_state_only_link_orders_nothing() {
    let mut machine = four();
    let (a, d) = (machine.at("a"), machine.at("d"));
    machine.graph.link(a, d, true).unwrap();
    machine.graph.link(d, a, true).unwrap();
    assert_eq!(list(&machine), ["a", "b", "c", "d"]);
    assert!(machine.graph.consumers(a).is_empty() && machine.graph.suppliers(a).is_empty());
}

#[test]
fn a_deferred_probe_moves_a_device_with_its_children_and_consumers() {
    let mut machine = four().with_async("e", "", 0).linked("e", "b");
    machine.graph.defer(0).unwrap();
    assert_eq!(list(&machine), ["c", "d", "a", "b", "e"]);
    assert_eq!(
        machine.graph.defer(9),
        Err(GraphError::UnknownDevice { device: 9 })
    );
}

/// The kernel's way of moving a device: itself, then its children, then its consumers,
/// each with theirs, however often one is met.
fn reorder_to_tail(graph: &Graph, order: &mut Vec<usize>, device: usize) {
    order.retain(|&other| other != device);
    order.push(device);
    for dependant in graph.dependants(device) {
        reorder_to_tail(graph, order, dependant);
    }
}

#[test]
fn a_cycle_is_refused_and_its_devices_are_named() {
    let mut machine = four().linked("c", "b");
    // d is behind c, which needs b, which is behind a: a cannot need d.
    let (a, d) = (machine.at("a"), machine.at("d"));
    let error = machine.graph.link(a, d, false).unwrap_err();
    let path = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    assert_eq!(
        error,
        GraphError::Cycle {
            consumer: "a".into(),
            supplier: "d".into(),
            path
        }
    );
    assert_eq!(
        error.to_string(),
        "the link from a to its supplier d closes a cycle: a → b → c → d"
    );
    assert!(matches!(
        machine.graph.link(a, a, false),
        Err(GraphError::Cycle { .. })
    ));
    assert_eq!(list(&machine), ["a", "b", "c", "d"]);
}

#[test]
fn nonsense_is_refused() {
    let mut graph = Graph::new();
    let child = Node {
        parent: Some(3),
        ..Node::new("x", "test")
    };
    assert_eq!(
        graph.add(child),
        Err(GraphError::UnknownDevice { device: 3 })
    );
    graph.add(Node::new("x", "test")).unwrap();
    assert_eq!(
        graph.add(Node::new("x", "test")),
        Err(GraphError::DuplicateId { id: "x".into() })
    );
    assert_eq!(
        graph.set_order(vec![0, 0]),
        Err(GraphError::NotAnOrder { devices: 1 })
    );
    assert_eq!(
        graph.link(0, 7, true),
        Err(GraphError::UnknownDevice { device: 7 })
    );
    assert_eq!(graph.len(), 1);
}

proptest! {
    #[test]
    fn a_move_to_the_tail_leaves_the_kernels_order(machine in machines(12, Duration::ZERO, false), device: prop::sample::Index) {
        let mut graph = machine.graph;
        let device = device.index(graph.len());
        let mut expected = graph.order().to_vec();
        reorder_to_tail(&graph, &mut expected, device);
        graph.defer(device).unwrap();
        prop_assert_eq!(graph.order(), expected);
    }

    #[test]
    fn registration_and_links_keep_dependants_behind(machine in machines(200, Duration::from_millis(1), false)) {
        let mut place = vec![0; machine.graph.len()];
        for (position, &device) in machine.graph.order().iter().enumerate() {
            place[device] = position;
        }
        for device in 0..machine.graph.len() {
            for dependant in machine.graph.dependants(device) {
                prop_assert!(place[dependant] > place[device]);
            }
        }
    }
}
