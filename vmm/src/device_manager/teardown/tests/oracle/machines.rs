//! Small machines by hand, and random ones.

use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::prelude::*;

use crate::device_manager::teardown::clock::Cost;
use crate::device_manager::teardown::graph::{Graph, Node};

/// A graph with what each of its devices takes.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub graph: Graph,
    pub costs: Vec<Cost>,
}

impl Machine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a device behind `parent` ("" for none) with a latency.
    pub fn add(&mut self, id: &str, parent: &str, asynchronous: bool, latency_ms: u64) -> usize {
        let parent = (!parent.is_empty()).then(|| self.graph.find(parent).unwrap());
        let node = Node {
            parent,
            asynchronous,
            ..Node::new(id, "test")
        };
        self.costs
            .push(Cost::latency(Duration::from_millis(latency_ms)));
        self.graph.add(node).unwrap()
    }

    pub fn with_async(mut self, id: &str, parent: &str, latency_ms: u64) -> Self {
        self.add(id, parent, true, latency_ms);
        self
    }

    pub fn with_sync(mut self, id: &str, parent: &str, latency_ms: u64) -> Self {
        self.add(id, parent, false, latency_ms);
        self
    }

    /// An asynchronous device that is shut down with its parent locked.
    pub fn with_locking(self, id: &str, parent: &str, latency_ms: u64) -> Self {
        self.locking(id, parent, true, latency_ms)
    }

    /// A synchronous device that is shut down with its parent locked.
    pub fn with_locking_sync(self, id: &str, parent: &str, latency_ms: u64) -> Self {
        self.locking(id, parent, false, latency_ms)
    }

    fn locking(mut self, id: &str, parent: &str, asynchronous: bool, latency_ms: u64) -> Self {
        let node = Node {
            parent: self.graph.find(parent),
            asynchronous,
            parent_lock: true,
            ..Node::new(id, "test")
        };
        self.graph.add(node).unwrap();
        let latency = Duration::from_millis(latency_ms);
        self.costs.push(Cost::latency(latency));
        self
    }

    /// A link of sync state only.
    pub fn sync_state_linked(mut self, consumer: &str, supplier: &str) -> Self {
        let (consumer, supplier) = (self.at(consumer), self.at(supplier));
        self.graph.link(consumer, supplier, true).unwrap();
        self
    }

    pub fn linked(mut self, consumer: &str, supplier: &str) -> Self {
        let (consumer, supplier) = (self.at(consumer), self.at(supplier));
        self.graph.link(consumer, supplier, false).unwrap();
        self
    }

    /// Puts the list in this order.
    pub fn listed(mut self, order: &[&str]) -> Self {
        let order = order.iter().map(|id| self.at(id)).collect();
        self.graph.set_order(order).unwrap();
        self
    }

    pub fn at(&self, id: &str) -> usize {
        self.graph.find(id).unwrap()
    }

    /// The same, in which these devices are shut down with their parents locked.
    pub fn locked(self, locking: &[bool]) -> Self {
        let mut graph = Graph::new();
        for (node, &parent_lock) in self.graph.nodes().iter().zip(locking) {
            let node = Node {
                parent_lock,
                ..node.clone()
            };
            graph.add(node).unwrap();
        }
        for consumer in 0..graph.len() {
            for &supplier in self.graph.suppliers(consumer) {
                graph.link(consumer, supplier, false).unwrap();
            }
        }
        graph.set_order(self.graph.order().to_vec()).unwrap();
        Self { graph, ..self }
    }
}

/// Random machines of up to `devices` devices with costs of up to `most`. With `shuffled`, the list is
/// in any order, else as registration, links and deferred probes make it.
pub fn machines(devices: usize, most: Duration, shuffled: bool) -> impl Strategy<Value = Machine> {
    machines_of(1..=devices, most, shuffled)
}

/// [`machines`] in which some devices are shut down with their parents locked.
pub fn locking_machines(devices: usize, most: Duration) -> impl Strategy<Value = Machine> {
    let locking = prop::collection::vec(prop::bool::weighted(0.4), devices);
    (machines(devices, most, false), locking)
        .prop_map(|(machine, locking)| machine.locked(&locking))
}

/// [`machines`] of so many devices.
pub fn machines_of(
    devices: RangeInclusive<usize>,
    most: Duration,
    shuffled: bool,
) -> impl Strategy<Value = Machine> {
    let most = most.as_micros() as u64;
    let device = (
        any::<prop::sample::Index>(),
        0..4_u8,
        any::<[bool; 3]>(),
        0..=most,
        0..=most,
        1..=4_u8,
    );
    let devices = prop::collection::vec(device, devices);
    devices
        .prop_flat_map(move |devices| {
            let count = devices.len();
            let links =
                prop::collection::vec((0..count, 0..count, prop::bool::weighted(0.2)), 0..=count);
            let order = Just((0..count).collect::<Vec<_>>());
            (
                Just(devices),
                links,
                if shuffled {
                    order.prop_shuffle().boxed()
                } else {
                    order.boxed()
                },
            )
        })
        .prop_map(move |(devices, links, order)| {
            let mut machine = Machine::new();
            for (
                number,
                (parent, rooted, [asynchronous, blocking, idle], work, latency, quarters),
            ) in devices.into_iter().enumerate()
            {
                let parent = (number > 0 && rooted > 0).then(|| parent.index(number));
                let mut node = Node {
                    parent,
                    asynchronous,
                    blocking,
                    ..Node::new(format!("d{number}"), "test")
                };
                // Some deadlines are overrun.
                node.deadline = Duration::from_micros(most * u64::from(quarters) / 2 + 1);
                machine.graph.add(node).unwrap();
                let cost = Cost {
                    work: Duration::from_micros(work),
                    latency: Duration::from_micros(latency),
                };
                machine
                    .costs
                    .push(if idle { Cost::default() } else { cost });
            }
            for (consumer, supplier, sync_state_only) in links {
                // Those that close a cycle are refused.
                let _ = machine.graph.link(consumer, supplier, sync_state_only);
            }
            if shuffled {
                machine.graph.set_order(order).unwrap();
            } else {
                // Every eleventh probe was deferred.
                for device in (0..machine.graph.len()).filter(|device| device % 11 == 7) {
                    machine.graph.defer(device).unwrap();
                }
            }
            machine
        })
}
