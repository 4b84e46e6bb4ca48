//! For tests: the policies' rules written a second time, straight from the reference and without the
//! engine, and small machines to hold both against.

use std::time::Duration;

use api::config::TeardownPolicy;
use proptest::prelude::*;

use super::clock::Cost;
use super::graph::{Graph, Node};

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
    pub fn with_locking(mut self, id: &str, parent: &str, latency_ms: u64) -> Self {
        let node = Node {
            parent: self.graph.find(parent),
            asynchronous: true,
            parent_lock: true,
            ..Node::new(id, "test")
        };
        self.graph.add(node).unwrap();
        let latency = Duration::from_millis(latency_ms);
        self.costs.push(Cost::latency(latency));
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
}

/// When a device started and ended.
pub type Span = (Duration, Duration);

/// Every device's start and end with unlimited workers, or none if the rules go round in a circle.
pub fn spans(machine: &Machine, policy: TeardownPolicy) -> Option<Vec<Span>> {
    let mut run = Unrolled {
        machine,
        policy,
        spans: vec![Found::Not; machine.costs.len()],
    };
    (0..machine.costs.len())
        .map(|device| run.span(device))
        .collect()
}

#[derive(Clone, Copy)]
enum Found {
    Not,
    Asked,
    At(Span),
}

struct Unrolled<'a> {
    machine: &'a Machine,
    policy: TeardownPolicy,
    spans: Vec<Found>,
}

impl Unrolled<'_> {
    fn is_async(&self, device: usize) -> bool {
        self.policy == TeardownPolicy::Completion && self.machine.graph.nodes()[device].asynchronous
    }

    fn span(&mut self, device: usize) -> Option<Span> {
        match self.spans[device] {
            Found::At(span) => return Some(span),
            Found::Asked => return None,
            Found::Not => self.spans[device] = Found::Asked,
        }
        let mut start = Duration::ZERO;
        for other in must_precede(&self.machine.graph, device) {
            if self.is_async(device) || self.is_async(other) {
                start = start.max(self.span(other)?.1);
            }
        }
        if !self.is_async(device) {
            // The synchronous device next nearer to the tail of the list goes before.
            let order = self.machine.graph.order();
            let place = order.iter().position(|&other| other == device).unwrap();
            if let Some(&other) = order[place + 1..]
                .iter()
                .find(|&&other| !self.is_async(other))
            {
                start = start.max(self.span(other)?.1);
            }
        }
        let node = &self.machine.graph.nodes()[device];
        let cost = self.machine.costs[device];
        let mut took = (cost.work + cost.latency).min(node.deadline);
        if !(self.is_async(device) && node.blocking) {
            took = took.max(cost.work);
        }
        self.spans[device] = Found::At((start, start + took));
        Some((start, start + took))
    }
}

/// Children and consumers, found by going through all devices.
fn must_precede(graph: &Graph, device: usize) -> Vec<usize> {
    (0..graph.len())
        .filter(|&other| {
            graph.nodes()[other].parent == Some(device) || graph.suppliers(other).contains(&device)
        })
        .collect()
}

/// Holds the spans of a run against the rules; names the devices of the first rule that is broken.
pub fn check(graph: &Graph, policy: TeardownPolicy, spans: &[Span]) -> Result<(), String> {
    let is_async =
        |device: usize| policy == TeardownPolicy::Completion && graph.nodes()[device].asynchronous;
    for device in 0..graph.len() {
        for other in must_precede(graph, device) {
            if (is_async(device) || is_async(other)) && spans[other].1 > spans[device].0 {
                return Err(format!("{device} started before {other} had ended"));
            }
        }
    }
    let lane: Vec<usize> = graph
        .order()
        .iter()
        .rev()
        .copied()
        .filter(|&device| !is_async(device))
        .collect();
    for pair in lane.windows(2) {
        if spans[pair[0]].1 > spans[pair[1]].0 {
            return Err(format!(
                "{} started before {} before it in the lane had ended",
                pair[1], pair[0]
            ));
        }
    }
    Ok(())
}

/// Random machines of up to `devices` devices with costs of up to `most`. With `shuffled`, the list is
/// in any order, else as registration and links make it.
pub fn machines(devices: usize, most: Duration, shuffled: bool) -> impl Strategy<Value = Machine> {
    let most = most.as_micros() as u64;
    let device = (
        any::<prop::sample::Index>(),
        0..4_u8,
        any::<[bool; 3]>(),
        0..=most,
        0..=most,
        1..=4_u8,
    );
    let devices = prop::collection::vec(device, 1..=devices);
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
            }
            machine
        })
}
