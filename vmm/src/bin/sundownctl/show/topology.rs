//! The device tree, drawn.

use api::state::{Topology, TopologyNode};

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
            if node.quarantined {
                "QUARANTINED".to_owned()
            } else {
                String::new()
            },
        ]);
        level(table, &node.children, &format!("{indent}{below}"), false);
    }
}

fn sync(asynchronous: bool) -> &'static str {
    if asynchronous { "async" } else { "sync" }
}
