//! The one tree: buses, the functions on them, and what is behind the bridges among them. Built once,
//! then shared; it is the PCI hierarchy and the device hierarchy of the machine.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::bridge::{Bridge, BridgeKind};
use super::config_space::HEADER_TYPE;
use super::function::{Decode, PciFunction};
use crate::lifecycle::Device;

/// Header type: the device has several functions.
const MULTI_FUNCTION: u32 = 1 << 23;

/// A place on a bus: device number 0 to 31 and function number 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevFn(u8);

impl DevFn {
    /// The place of `function` of `device`, if there is such a place.
    pub fn new(device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self(device << 3 | function))
    }

    /// Device number.
    pub fn device(self) -> u8 {
        self.0 >> 3
    }

    /// Function number.
    pub fn function(self) -> u8 {
        self.0 & 7
    }
}

impl From<u8> for DevFn {
    fn from(devfn: u8) -> Self {
        Self(devfn)
    }
}

impl fmt::Display for DevFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.device(), self.function())
    }
}

/// A function's address as the guest programmed it: `bus:device.function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Bus number.
    pub bus: u8,
    /// Place on that bus.
    pub devfn: DevFn,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{}", self.bus, self.devfn)
    }
}

/// Why a hierarchy cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Two functions at the same place.
    #[error("{first} and {second} are both at {devfn} of the same bus")]
    Occupied {
        /// The place.
        devfn: DevFn,
        /// Who has it.
        first: String,
        /// Who wants it too.
        second: String,
    },
    /// Two functions with the same id.
    #[error("two functions have the id {0}")]
    DuplicateId(String),
    /// A device has other functions but no function 0, so that no guest would look for them.
    #[error("{id} is at {devfn}, but its device has no function 0")]
    NoFunctionZero {
        /// The function.
        id: String,
        /// Its place.
        devfn: DevFn,
    },
    /// Only device 0 is at the other end of a link.
    #[error("{id} is at {devfn} behind a port, where only device 0 can be")]
    NotAtEndOfLink {
        /// The function.
        id: String,
        /// Its place.
        devfn: DevFn,
    },
    /// Device 0 of the root bus is the host bridge.
    #[error("{0} is at device 0 of the root bus, which is the host bridge's")]
    HostBridge(String),
    /// A function that cannot be on such a bus.
    #[error("{id} cannot be {place}")]
    Misplaced {
        /// The function.
        id: String,
        /// The kind of bus.
        place: &'static str,
    },
}

/// What is behind a bridge.
pub struct Behind {
    /// The bridge.
    pub bridge: Arc<Bridge>,
    /// The bus on its secondary side.
    pub bus: Bus,
}

/// One function of the hierarchy.
pub struct Node {
    id: String,
    devfn: DevFn,
    multi_function: bool,
    function: Arc<dyn PciFunction>,
    device: Arc<dyn Device>,
    behind: Option<Behind>,
    quarantined: AtomicBool,
}

impl Node {
    /// An endpoint.
    pub fn endpoint<F>(id: impl Into<String>, devfn: DevFn, function: Arc<F>) -> Self
    where
        F: PciFunction + Device + 'static,
    {
        Self::new(id.into(), devfn, function.clone(), function, None)
    }

    /// A bridge and what is behind it. Tells the bridge whether its slot is occupied.
    pub fn bridge(
        id: impl Into<String>,
        devfn: DevFn,
        bridge: Arc<Bridge>,
        behind: Vec<Self>,
    ) -> Result<Self, TopologyError> {
        let bus = Bus::new(behind, Some(bridge.kind()))?;
        bridge.set_occupied(!bus.nodes.is_empty());
        let behind = Behind {
            bridge: bridge.clone(),
            bus,
        };
        Ok(Self::new(
            id.into(),
            devfn,
            bridge.clone(),
            bridge,
            Some(behind),
        ))
    }

    fn new(
        id: String,
        devfn: DevFn,
        function: Arc<dyn PciFunction>,
        device: Arc<dyn Device>,
        behind: Option<Behind>,
    ) -> Self {
        let quarantined = AtomicBool::new(false);
        Self {
            id,
            devfn,
            multi_function: false,
            function,
            device,
            behind,
            quarantined,
        }
    }

    /// The function's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its place on its bus.
    pub fn devfn(&self) -> DevFn {
        self.devfn
    }

    /// The function, from the hierarchy's side.
    pub fn function(&self) -> &Arc<dyn PciFunction> {
        &self.function
    }

    /// The function, from the device manager's side.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The bridge and the bus behind it; `None` for an endpoint.
    pub fn behind(&self) -> Option<&Behind> {
        self.behind.as_ref()
    }

    /// Whether the function itself is quarantined: it reads all-ones and ignores writes, and so does
    /// everything behind it.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    /// Sets the flag alone. See `RootComplex::set_quarantined`, which also takes the BARs away.
    pub(super) fn set_quarantined(&self, quarantined: bool) {
        self.quarantined.store(quarantined, Ordering::Release);
    }

    /// Reads the configuration register at `offset`, as the guest sees it.
    pub fn read_config(&self, offset: u16) -> u32 {
        if self.is_quarantined() {
            return u32::MAX;
        }
        let value = self.function.read_config(offset);
        if self.multi_function && offset == HEADER_TYPE {
            value | MULTI_FUNCTION
        } else {
            value
        }
    }

    /// Writes a configuration register, as the guest does. The caller sees to what the answer asks for.
    pub(super) fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode {
        if self.is_quarantined() {
            return Decode::Same;
        }
        self.function.write_config(offset, value, mask)
    }

    fn kind(&self) -> Option<BridgeKind> {
        self.behind.as_ref().map(|behind| behind.bridge.kind())
    }
}

/// One step of a walk over the tree.
pub struct Visit<'a> {
    /// The function.
    pub node: &'a Node,
    /// The bridge that it is behind; `None` on the root bus.
    pub parent: Option<&'a Node>,
    /// The function's place and those of the bridges above it, from the root bus down.
    pub path: Vec<DevFn>,
}

/// The functions on one bus, in the order of their places.
pub struct Bus {
    nodes: Vec<Node>,
}

impl Bus {
    /// The root bus, and with it the whole hierarchy. Device 0 is taken by the host bridge.
    pub fn root(nodes: Vec<Node>) -> Result<Self, TopologyError> {
        let bus = Self::new(nodes, None)?;
        let mut ids = HashSet::new();
        for visit in bus.walk() {
            if !ids.insert(visit.node.id()) {
                return Err(TopologyError::DuplicateId(visit.node.id.clone()));
            }
        }
        Ok(bus)
    }

    fn new(mut nodes: Vec<Node>, above: Option<BridgeKind>) -> Result<Self, TopologyError> {
        nodes.sort_by_key(Node::devfn);
        for node in &nodes {
            check_place(node, above)?;
        }
        for pair in nodes.windows(2) {
            if let [first, second] = pair
                && first.devfn == second.devfn
            {
                return Err(TopologyError::Occupied {
                    devfn: first.devfn,
                    first: first.id.clone(),
                    second: second.id.clone(),
                });
            }
        }
        for functions in nodes.chunk_by_mut(|a, b| a.devfn.device() == b.devfn.device()) {
            let several = functions.len() > 1;
            for (index, node) in functions.iter_mut().enumerate() {
                if index == 0 && node.devfn.function() != 0 {
                    let (id, devfn) = (node.id.clone(), node.devfn);
                    return Err(TopologyError::NoFunctionZero { id, devfn });
                }
                node.multi_function = several;
            }
        }
        Ok(Self { nodes })
    }

    /// The functions on this bus, in the order of their places.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The function at a place on this bus.
    pub fn at(&self, devfn: DevFn) -> Option<&Node> {
        let index = self.nodes.binary_search_by_key(&devfn, Node::devfn).ok()?;
        self.nodes.get(index)
    }

    /// All functions of this bus and behind it, in the order in which Linux registers PCI devices: a
    /// bus in the order of places, then, bridge by bridge, what is behind. Parents come first.
    pub fn walk(&self) -> Vec<Visit<'_>> {
        let mut visits = Vec::new();
        self.walk_below(None, &[], &mut visits);
        visits
    }

    fn walk_below<'a>(
        &'a self,
        parent: Option<&'a Node>,
        above: &[DevFn],
        visits: &mut Vec<Visit<'a>>,
    ) {
        let path = |node: &Node| [above, &[node.devfn]].concat();
        visits.extend(self.nodes.iter().map(|node| Visit {
            node,
            parent,
            path: path(node),
        }));
        for node in &self.nodes {
            if let Some(behind) = &node.behind {
                behind.bus.walk_below(Some(node), &path(node), visits);
            }
        }
    }

    /// The function with this id, on this bus or behind it.
    pub fn find(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find_map(|node| {
            if node.id == id {
                return Some(node);
            }
            node.behind.as_ref()?.bus.find(id)
        })
    }
}

/// Which functions can be on which buses (PCIe base 6.0, 1.3 and 1.4).
fn check_place(node: &Node, above: Option<BridgeKind>) -> Result<(), TopologyError> {
    use BridgeKind::{ConventionalBridge, Downstream, PciBridge, RootPort, Upstream};
    let misplaced = |place| {
        Err(TopologyError::Misplaced {
            id: node.id.clone(),
            place,
        })
    };
    match (above, node.kind()) {
        (None, _) if node.devfn.device() == 0 => {
            return Err(TopologyError::HostBridge(node.id.clone()));
        }
        (None, Some(Upstream | Downstream | ConventionalBridge)) => {
            return misplaced("on the root bus");
        }
        (Some(RootPort | Downstream), _) if node.devfn.device() != 0 => {
            let (id, devfn) = (node.id.clone(), node.devfn);
            return Err(TopologyError::NotAtEndOfLink { id, devfn });
        }
        (Some(RootPort | Downstream), Some(RootPort | Downstream | ConventionalBridge)) => {
            return misplaced("at the end of a link");
        }
        (Some(Upstream), kind) if kind != Some(Downstream) => {
            return misplaced("inside a switch, where only downstream ports are");
        }
        (Some(PciBridge | ConventionalBridge), Some(kind)) if kind != ConventionalBridge => {
            return misplaced("on a conventional PCI bus");
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
