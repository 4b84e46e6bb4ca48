//! The list of a machine's devices, from its configuration alone: what is registered, in which order, and
//! what is done to that order afterwards. The machine and its plan are both made from it.

use std::collections::HashMap;

use api::config::{BridgePort, ConfigError, DeviceConfig, VmConfig, assign_slots};
use api::error::{ApiError, ErrorCode};

use super::legacy;
use super::teardown::{Graph, GraphError, Node};

/// Why the devices of a configuration cannot be listed. Validation should have seen it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A place on a bus is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Names, links or the list given do not fit together.
    #[error("ordering the devices: {0}")]
    Order(#[from] GraphError),
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Config(error) => error.into(),
            ListError::Order(_) => ApiError::from_error(ErrorCode::Internal, &error),
        }
    }
}

/// A supplier link, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedLink {
    /// The device that needs the other.
    pub consumer: usize,
    /// The device that is needed.
    pub supplier: usize,
    /// The link orders nothing.
    pub sync_state_only: bool,
}

/// What is registered, and what then changes the order. A [`Graph`] has the outcome only; this can be
/// listed anew with something left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The devices in the order of their registration. Parents come first.
    pub nodes: Vec<Node>,
    /// The links, in the order in which they are made, when all devices are registered.
    pub links: Vec<ListedLink>,
    /// The devices whose probe is deferred until all links are made, in that order.
    pub deferred: Vec<usize>,
    /// The list as it is given, head first, whatever registration, links and deferred probes make of it.
    pub order: Option<Vec<usize>>,
}

impl Listing {
    /// The devices of `config` in the order in which a kernel would register them: PCI as it is scanned,
    /// a bus in the order of places and then what is behind each bridge; the legacy devices last. They
    /// are last in a list that is given, too.
    pub fn of_config(config: &VmConfig) -> Result<Self, ListError> {
        let mut listing = Self::default();
        let mut numbers = HashMap::new();
        let root = Bus {
            bridge: None,
            parent: None,
            devices: &config.pci,
        };
        // What is behind a bridge is listed before what is behind the next: the next is lower in the pile.
        let mut buses = vec![root];
        while let Some(bus) = buses.pop() {
            let behind = buses.len();
            for device in bus.in_order()? {
                let number = listing.nodes.len();
                numbers.insert(device.id(), number);
                listing.nodes.push(node(device, bus.parent));
                if let Some((port, bridge)) = device.bridge() {
                    buses.push(Bus {
                        bridge: Some(port),
                        parent: Some(number),
                        devices: &bridge.children,
                    });
                }
            }
            if let Some(behind) = buses.get_mut(behind..) {
                behind.reverse();
            }
        }
        let pci = listing.nodes.len();
        let legacy = legacy::names(config.serial.mode);
        listing.nodes.extend(legacy.map(|id| Node {
            blocking: false,
            ..Node::new(id, id)
        }));

        let number = |id: &str| numbers.get(id).copied();
        listing.links = config
            .links
            .iter()
            .filter_map(|link| {
                Some(ListedLink {
                    consumer: number(&link.consumer)?,
                    supplier: number(&link.supplier)?,
                    sync_state_only: link.sync_state_only,
                })
            })
            .collect();
        listing.deferred = config
            .devices()
            .filter(|(_, device)| device.options().deferred)
            .filter_map(|(_, device)| number(device.id()))
            .collect();
        listing.order = config.teardown.order.as_ref().map(|order| {
            let named = order.iter().filter_map(|id| number(id));
            named.chain(pci..listing.nodes.len()).collect()
        });
        Ok(listing)
    }

    /// The graph of all this.
    pub fn graph(&self) -> Result<Graph, GraphError> {
        self.graph_without(None)
    }

    /// The graph without the link at `left_out`: not made, so that it moved nobody in the list either.
    pub fn graph_without(&self, left_out: Option<usize>) -> Result<Graph, GraphError> {
        let mut graph = Graph::new();
        for node in &self.nodes {
            graph.add(node.clone())?;
        }
        for (at, link) in self.links.iter().enumerate() {
            if left_out != Some(at) {
                graph.link(link.consumer, link.supplier, link.sync_state_only)?;
            }
        }
        for &device in &self.deferred {
            graph.defer(device)?;
        }
        if let Some(order) = &self.order {
            graph.set_order(order.clone())?;
        }
        Ok(graph)
    }
}

/// One bus of a configuration.
struct Bus<'a> {
    bridge: Option<BridgePort>,
    parent: Option<usize>,
    devices: &'a [DeviceConfig],
}

impl<'a> Bus<'a> {
    /// Its functions in the order of places.
    fn in_order(&self) -> Result<Vec<&'a DeviceConfig>, ConfigError> {
        let slots = assign_slots(self.bridge, self.devices)?;
        let mut placed: Vec<_> = self.devices.iter().zip(slots).collect();
        placed.sort_by_key(|(_, slot)| *slot);
        Ok(placed.into_iter().map(|(device, _)| device).collect())
    }
}

fn node(device: &DeviceConfig, parent: Option<usize>) -> Node {
    let options = device.options();
    Node {
        parent,
        asynchronous: options.is_async(),
        parent_lock: options.parent_lock,
        // A bridge only resets registers; an endpoint flushes files.
        blocking: device.bridge().is_none(),
        deadline: options.deadline(),
        on_timeout: options.on_timeout,
        ..Node::new(device.id(), device.class())
    }
}

#[cfg(test)]
mod tests;
