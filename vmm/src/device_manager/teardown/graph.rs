//! The devices of a teardown as the engine sees them: tree, ordering links, flags, and the list whose
//! backward walk is the synchronous order. Knows no PCI and no KVM.

use std::collections::HashMap;
use std::time::Duration;

use api::config::OnTimeout;

/// How long a device's teardown may take unless it says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The device's name, unique in the graph.
    pub id: String,
    /// What it is: `nvme`, `root-port`, `serial`, …
    pub class: String,
    /// Its PCI address as the guest numbered it, where it has one.
    pub address: Option<String>,
    /// The device before it in the tree.
    pub parent: Option<usize>,
    /// Whether it may be shut down asynchronously.
    pub asynchronous: bool,
    /// Whether it is shut down with its parent locked: one at a time with others that are.
    pub parent_lock: bool,
    /// Whether its `shut_down` can block. One that cannot needs no worker thread.
    pub blocking: bool,
    /// How long its teardown may take.
    pub deadline: Duration,
    /// What is done when it takes longer. The engine hands this on and does not act on it.
    pub on_timeout: OnTimeout,
}

impl Node {
    /// A synchronous, blocking device without a parent and with the default deadline.
    pub fn new(id: impl Into<String>, class: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            class: class.into(),
            address: None,
            parent: None,
            asynchronous: false,
            parent_lock: false,
            blocking: true,
            deadline: DEFAULT_DEADLINE,
            on_timeout: OnTimeout::default(),
        }
    }
}

/// Why a device or a link was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two devices of one name.
    #[error("there are two devices named {id}; give one of them another id")]
    DuplicateId {
        /// The name.
        id: String,
    },
    /// A number that is no device's.
    #[error("there is no device number {device}")]
    UnknownDevice {
        /// The number.
        device: usize,
    },
    /// The link would close a cycle of tree and links.
    #[error("the link from {consumer} to its supplier {supplier} closes a cycle: {}", path.join(" → "))]
    Cycle {
        /// The link's consumer.
        consumer: String,
        /// The link's supplier.
        supplier: String,
        /// From the consumer over children and consumers to the supplier.
        path: Vec<String>,
    },
    /// A list that does not hold every device exactly once.
    #[error("a list order must name each of the {devices} devices exactly once")]
    NotAnOrder {
        /// How many devices there are.
        devices: usize,
    },
}

/// Devices, numbered from 0 in the order of their registration.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    children: Vec<Vec<usize>>,
    suppliers: Vec<Vec<usize>>,
    consumers: Vec<Vec<usize>>,
    order: Vec<usize>,
    numbers: HashMap<String, usize>,
}

impl Graph {
    /// No devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a device at the tail of the list and returns its number. Its parent must be registered.
    pub fn add(&mut self, node: Node) -> Result<usize, GraphError> {
        let device = self.nodes.len();
        if let Some(parent) = node.parent {
            self.check(parent)?;
        }
        if self.numbers.contains_key(&node.id) {
            return Err(GraphError::DuplicateId { id: node.id });
        }
        if let Some(parent) = node.parent {
            self.children[parent].push(device);
        }
        self.numbers.insert(node.id.clone(), device);
        self.nodes.push(node);
        self.children.push(Vec::new());
        self.suppliers.push(Vec::new());
        self.consumers.push(Vec::new());
        self.order.push(device);
        Ok(device)
    }

    /// Links `consumer` to `supplier`: the consumer is shut down first. As in the kernel the consumer
    /// moves to the tail of the list with its children and consumers, and a link that exists is left alone.
    ///
    /// A link of sync state only orders nothing, moves nothing and closes no cycle.
    pub fn link(
        &mut self,
        consumer: usize,
        supplier: usize,
        sync_state_only: bool,
    ) -> Result<(), GraphError> {
        self.check(consumer)?;
        self.check(supplier)?;
        if sync_state_only || self.suppliers[consumer].contains(&supplier) {
            return Ok(());
        }
        if let Some(path) = self.dependants_path(consumer, supplier) {
            return Err(GraphError::Cycle {
                consumer: self.nodes[consumer].id.clone(),
                supplier: self.nodes[supplier].id.clone(),
                path: path
                    .into_iter()
                    .map(|device| self.nodes[device].id.clone())
                    .collect(),
            });
        }
        self.suppliers[consumer].push(supplier);
        self.consumers[supplier].push(consumer);
        self.move_to_tail(consumer);
        Ok(())
    }

    /// Notes that the probe of `device` was deferred: it moves to the tail of the list with its children
    /// and consumers, as in the kernel.
    pub fn defer(&mut self, device: usize) -> Result<(), GraphError> {
        self.check(device)?;
        self.move_to_tail(device);
        Ok(())
    }

    /// Gives a device another parent. As the kernel's `device_move()` this looks for no cycle: the
    /// engine finds one when it orders the graph.
    pub fn reparent(&mut self, device: usize, parent: Option<usize>) -> Result<(), GraphError> {
        self.check(device)?;
        if let Some(parent) = parent {
            self.check(parent)?;
        }
        if let Some(old) = self.nodes[device].parent {
            self.children[old].retain(|&child| child != device);
        }
        if let Some(new) = parent {
            self.children[new].push(device);
        }
        self.nodes[device].parent = parent;
        Ok(())
    }

    /// Replaces the list, head first.
    pub fn set_order(&mut self, order: Vec<usize>) -> Result<(), GraphError> {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.nodes.len()) {
            return Err(GraphError::NotAnOrder {
                devices: self.nodes.len(),
            });
        }
        self.order = order;
        Ok(())
    }

    /// Moves a device in the list: right behind `before`, or to the head.
    pub(super) fn move_behind(&mut self, device: usize, before: Option<usize>) {
        self.order.retain(|&other| other != device);
        let before = before.and_then(|before| self.order.iter().position(|&at| at == before));
        self.order.insert(before.map_or(0, |at| at + 1), device);
    }

    /// How many devices there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no device.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number of the device named `id`.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    /// The device numbered `device`. Numbers come from [`Graph::add`] and [`Graph::find`].
    pub fn node(&self, device: usize) -> &Node {
        &self.nodes[device]
    }

    /// All devices, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Tells whether the device may be shut down asynchronously.
    pub fn set_async(&mut self, device: usize, asynchronous: bool) {
        self.nodes[device].asynchronous = asynchronous;
    }

    /// Tells where the guest has numbered the device.
    pub fn set_address(&mut self, device: usize, address: Option<String>) {
        self.nodes[device].address = address;
    }

    /// The device that is locked while `device` is shut down.
    pub fn locked_parent(&self, device: usize) -> Option<usize> {
        let node = &self.nodes[device];
        node.parent.filter(|_| node.parent_lock)
    }

    /// The devices directly behind `device`.
    pub fn children(&self, device: usize) -> &[usize] {
        &self.children[device]
    }

    /// The devices that `device` needs.
    pub fn suppliers(&self, device: usize) -> &[usize] {
        &self.suppliers[device]
    }

    /// The devices that need `device`.
    pub fn consumers(&self, device: usize) -> &[usize] {
        &self.consumers[device]
    }

    /// The list, head first. Its backward walk is the synchronous order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Children and consumers, which the kernel's rules put before `device`.
    pub fn dependants(&self, device: usize) -> impl Iterator<Item = usize> + '_ {
        self.children[device]
            .iter()
            .chain(&self.consumers[device])
            .copied()
    }

    fn check(&self, device: usize) -> Result<(), GraphError> {
        if device < self.nodes.len() {
            Ok(())
        } else {
            Err(GraphError::UnknownDevice { device })
        }
    }

    /// A way from `from` over children and consumers to `to`.
    fn dependants_path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut reached_from = vec![None; self.nodes.len()];
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![from];
        seen[from] = true;
        while let Some(device) = stack.pop() {
            if device == to {
                let mut path = vec![to];
                let mut at = to;
                while let Some(before) = reached_from[at] {
                    path.push(before);
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            for next in self.dependants(device) {
                if !seen[next] {
                    seen[next] = true;
                    reached_from[next] = Some(device);
                    stack.push(next);
                }
            }
        }
        None
    }

    /// The kernel's `device_reorder_to_tail()`, which moves a device, then its children, then its
    /// consumers, each with theirs, and a device met twice twice. Read backwards that is a post-order
    /// walk, in which the second meeting changes nothing.
    fn move_to_tail(&mut self, device: usize) {
        let mut seen = vec![false; self.nodes.len()];
        let mut moved = Vec::new();
        let mut stack = vec![(device, false)];
        while let Some((at, done)) = stack.pop() {
            if done {
                moved.push(at);
                continue;
            }
            if seen[at] {
                continue;
            }
            seen[at] = true;
            stack.push((at, true));
            // Popped last to first: consumers backwards, then children backwards.
            stack.extend(self.dependants(at).map(|next| (next, false)));
        }
        self.order.retain(|&other| !seen[other]);
        self.order.extend(moved.into_iter().rev());
    }
}

#[cfg(test)]
mod tests;
