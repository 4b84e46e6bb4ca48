//! The device tree, drawn.

use api::state::{PassthroughNode, Topology, TopologyNode};

use crate::table::{Align, Table};

/// The tree, and the devices on no PCI bus below it.
pub fn tree(topology: &Topology) -> String {
    let left = |name| (name, Align::Left);
    let mut table = Table::new(&[
        left("DEVICE"),
        left("CLASS"),
        left("ADDRESS"),
        left("TEARDOWN"),
        ("DEADLINE MS", Align::Right),
        left("NEEDS"),
        left("HOST"),
        left(""),
    ]);
    level(&mut table, &topology.pci, "", true);
    for legacy in &topology.legacy {
        let cells = [
            legacy.id.as_str(),
            &legacy.class,
            "-",
            sync(legacy.asynchronous),
            "",
            "",
            "",
            "",
        ];
        table.row(cells.map(str::to_owned).to_vec());
    }
    table.draw()
}

fn level(table: &mut Table, nodes: &[TopologyNode], indent: &str, root: bool) {
    for (at, node) in nodes.iter().enumerate() {
        let last = at + 1 == nodes.len();
        let (branch, below) = match (root, last) {
            (true, _) => ("", ""),
            (_, false) => ("├─ ", "│  "),
            (_, true) => ("└─ ", "   "),
        };
        table.row(vec![
            format!("{indent}{branch}{}", node.id),
            node.class.clone(),
            node.address
                .clone()
                .unwrap_or_else(|| "not numbered".to_owned()),
            sync(node.asynchronous).to_owned(),
            node.deadline_ms.to_string(),
            node.suppliers.join(", "),
            node.passthrough.as_ref().map(host).unwrap_or_default(),
            state(node),
        ]);
        level(table, &node.children, &format!("{indent}{below}"), false);
    }
}

/// What a device that is passed through is in the host.
fn host(node: &PassthroughNode) -> String {
    match &node.reset_set {
        Some(set) => format!("{}, reset with {set}", node.host),
        None => node.host.clone(),
    }
}

fn state(node: &TopologyNode) -> String {
    let gone = node
        .passthrough
        .as_ref()
        .and_then(|node| node.gone.as_ref());
    match (node.quarantined, gone) {
        (true, Some(reason)) => format!("QUARANTINED: {reason}"),
        (true, None) => "QUARANTINED".to_owned(),
        (false, Some(reason)) => format!("GONE: {reason}"),
        (false, None) => String::new(),
    }
}

fn sync(asynchronous: bool) -> &'static str {
    if asynchronous { "async" } else { "sync" }
}
