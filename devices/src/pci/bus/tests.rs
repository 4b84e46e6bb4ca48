//! The tree: what can be where, the order of walks, functions of one device.

use super::*;
use crate::pci::tests::fake::{Endpoint, bridge, place};

fn drive(id: &str, device: u8) -> Node {
    Node::endpoint(id, place(device), Endpoint::drive())
}

fn function(id: &str, device: u8, function: u8) -> Node {
    Node::endpoint(id, DevFn::new(device, function).unwrap(), Endpoint::drive())
}

fn try_bridge(kind: BridgeKind, behind: Vec<Node>) -> Result<Node, TopologyError> {
    Node::bridge("bridge", place(1), Arc::new(Bridge::new(kind, 0)), behind)
}

#[test]
fn a_walk_goes_as_linux_registers_devices() {
    let switch = bridge(
        "up",
        0,
        BridgeKind::Upstream,
        vec![
            bridge("down1", 1, BridgeKind::Downstream, vec![drive("nvme1", 0)]),
            bridge("down0", 0, BridgeKind::Downstream, vec![drive("nvme0", 0)]),
        ],
    );
    let bus = Bus::root(vec![
        drive("nvme3", 3),
        bridge("rp1", 2, BridgeKind::RootPort, vec![drive("nvme2", 0)]),
        bridge("rp0", 1, BridgeKind::RootPort, vec![switch]),
    ])
    .unwrap();
    let walk = bus.walk();
    let ids: Vec<&str> = walk.iter().map(|visit| visit.node.id()).collect();
    let order = [
        "rp0", "rp1", "nvme3", "up", "down0", "down1", "nvme0", "nvme1", "nvme2",
    ];
    assert_eq!(ids, order);
    let last = walk
        .iter()
        .find(|visit| visit.node.id() == "nvme1")
        .unwrap();
    assert_eq!(last.parent.map(Node::id), Some("down1"));
    assert_eq!(last.path, [place(1), place(0), place(1), place(0)]);
    assert_eq!(bus.find("nvme1").map(Node::devfn), Some(place(0)));
    assert!(bus.find("nvme9").is_none());
}

#[test]
fn clashes_and_misplaced_functions_are_refused() {
    let occupied = Bus::root(vec![drive("a", 3), drive("b", 3)]).err();
    assert!(matches!(occupied, Some(TopologyError::Occupied { .. })));
    let twins = vec![
        drive("same", 3),
        bridge("rp", 1, BridgeKind::RootPort, vec![drive("same", 0)]),
    ];
    assert_eq!(
        Bus::root(twins).err(),
        Some(TopologyError::DuplicateId("same".into()))
    );
    let host = Bus::root(vec![drive("a", 0)]).err();
    assert_eq!(host, Some(TopologyError::HostBridge("a".into())));
    let lonely = Bus::root(vec![function("a", 3, 1)]).err();
    assert!(matches!(lonely, Some(TopologyError::NoFunctionZero { .. })));
    let far = try_bridge(BridgeKind::RootPort, vec![drive("a", 1)]).err();
    assert!(matches!(far, Some(TopologyError::NotAtEndOfLink { .. })));
    let misplaced = |result: Result<Node, TopologyError>| {
        matches!(result.err(), Some(TopologyError::Misplaced { .. }))
    };
    assert!(misplaced(try_bridge(
        BridgeKind::Upstream,
        vec![drive("a", 1)]
    )));
    for kind in [BridgeKind::RootPort, BridgeKind::Downstream] {
        let nested = bridge("nested", 0, kind, vec![]);
        assert!(misplaced(try_bridge(BridgeKind::RootPort, vec![nested])));
    }
    let nested = bridge("nested", 0, BridgeKind::PciBridge, vec![]);
    assert!(misplaced(try_bridge(BridgeKind::PciBridge, vec![nested])));
    let nested = bridge("nested", 0, BridgeKind::ConventionalBridge, vec![]);
    assert!(try_bridge(BridgeKind::PciBridge, vec![nested]).is_ok());
}

#[test]
fn functions_of_one_device_say_that_there_are_several() {
    let several = vec![
        function("a", 3, 0),
        function("b", 3, 5),
        function("c", 4, 0),
    ];
    let bus = Bus::root(several).unwrap();
    let header = |id| bus.find(id).unwrap().read_config(HEADER_TYPE) >> 16;
    assert_eq!((header("a"), header("b"), header("c")), (0x80, 0x80, 0));
}

#[test]
fn places_have_limits_and_names() {
    assert_eq!(DevFn::new(32, 0), None);
    assert_eq!(DevFn::new(0, 8), None);
    let devfn = DevFn::new(31, 7).unwrap();
    assert_eq!(devfn, DevFn::from(0xFF));
    assert_eq!(Address { bus: 0x3A, devfn }.to_string(), "3a:1f.7");
}

#[test]
fn a_bus_behind_a_pci_bridge_has_all_device_numbers() {
    let drives = (0..32)
        .map(|device| drive(&format!("nvme{device}"), device))
        .collect();
    let pci = bridge("pci", 0, BridgeKind::PciBridge, drives);
    let bus = Bus::root(vec![bridge("rp", 1, BridgeKind::RootPort, vec![pci])]).unwrap();
    assert_eq!(bus.walk().len(), 34);
}
