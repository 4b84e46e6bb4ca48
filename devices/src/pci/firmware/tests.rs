//! Bus numbers before a kernel starts.

use super::*;
use crate::pci::tests::fake::{Endpoint, Guest, bridge, machine, place};
use crate::pci::{Address, BridgeKind, Node};

fn nested(depth: usize) -> Node {
    let mut behind = Vec::new();
    for level in (1..depth).rev() {
        let (kind, id) = match level {
            1 => (BridgeKind::PciBridge, "pci".to_owned()),
            _ => (
                BridgeKind::ConventionalBridge,
                format!("conventional{level}"),
            ),
        };
        behind = vec![bridge(&id, 0, kind, behind)];
    }
    bridge("rp", 1, BridgeKind::RootPort, behind)
}

#[test]
fn buses_are_numbered_depth_first() {
    let drive = |id: &str| Node::endpoint(id, place(0), Endpoint::drive());
    let switch = bridge(
        "up",
        0,
        BridgeKind::Upstream,
        vec![
            bridge("down0", 0, BridgeKind::Downstream, vec![drive("nvme0")]),
            bridge("down1", 1, BridgeKind::Downstream, vec![]),
        ],
    );
    let root = machine(vec![
        bridge("rp0", 1, BridgeKind::RootPort, vec![switch]),
        bridge("rp1", 2, BridgeKind::RootPort, vec![drive("nvme1")]),
    ]);
    assert_eq!(root.address_of("nvme0"), None, "nothing is programmed");
    assert_eq!(number_buses(&root), Ok(5));
    let guest = Guest(&root);
    assert_eq!(guest.read(0, 1, 0x18), 0x0004_0100);
    assert_eq!(guest.read(1, 0, 0x18), 0x0004_0201);
    assert_eq!(guest.read(2, 0, 0x18), 0x0003_0302);
    assert_eq!(guest.read(2, 1, 0x18), 0x0004_0402);
    assert_eq!(guest.read(0, 2, 0x18), 0x0005_0500);
    assert_eq!(
        root.address_of("nvme0"),
        Some(Address {
            bus: 3,
            devfn: place(0)
        })
    );
    assert_eq!(
        root.address_of("nvme1"),
        Some(Address {
            bus: 5,
            devfn: place(0)
        })
    );
    for (bus, device) in [(0, 1), (0, 2), (1, 0), (2, 0), (2, 1)] {
        assert_eq!(
            guest.read(bus, device, 0x04) & 0xFFFF,
            0x6,
            "{bus}:{device}"
        );
    }
    assert_eq!(number_buses(&root), Ok(5), "the same again");
}

#[test]
fn there_are_256_bus_numbers() {
    let root = machine(vec![nested(255)]);
    assert_eq!(number_buses(&root), Ok(255));
    assert_eq!(Guest(&root).read(254, 0, 0x18), 0x00FF_FFFE);
    let root = machine(vec![nested(256)]);
    let last = "conventional255".to_owned();
    assert_eq!(number_buses(&root), Err(FirmwareError::TooManyBuses(last)));
}
