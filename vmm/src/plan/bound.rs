//! The bound below which no order can get that keeps the tree and the links.

use std::time::Duration;

use crate::device_manager::teardown::{Cost, Graph};

/// What a device takes at least: it may be given up at its deadline.
pub(super) fn least(graph: &Graph, costs: &[Cost], device: usize) -> Duration {
    let cost = costs.get(device).copied().unwrap_or_default();
    let took = cost.work.saturating_add(cost.latency);
    took.min(graph.node(device).deadline)
}

/// The longest chain of devices, each after its children and consumers; or all work that blocks, spread
/// evenly over the workers and the calling thread, if that takes longer.
pub(super) fn lower(graph: &Graph, costs: &[Cost], workers: u16) -> Duration {
    let work = (0..graph.len())
        .filter(|&device| graph.node(device).blocking)
        .map(|device| {
            let cost = costs.get(device).copied().unwrap_or_default();
            cost.work.min(graph.node(device).deadline)
        })
        .fold(Duration::ZERO, Duration::saturating_add);
    longest_chain(graph, costs).max(work / (u32::from(workers.max(1)) + 1))
}

fn longest_chain(graph: &Graph, costs: &[Cost]) -> Duration {
    let mut pending: Vec<usize> = (0..graph.len())
        .map(|device| graph.dependants(device).count())
        .collect();
    let mut begin = vec![Duration::ZERO; graph.len()];
    let mut ready: Vec<usize> = (0..graph.len())
        .filter(|&device| pending[device] == 0)
        .collect();
    let mut longest = Duration::ZERO;
    // Devices in a circle never get ready; no order keeps what they ask for.
    while let Some(device) = ready.pop() {
        let end = begin[device].saturating_add(least(graph, costs, device));
        longest = longest.max(end);
        let parent = graph.node(device).parent.into_iter();
        for next in parent.chain(graph.suppliers(device).iter().copied()) {
            begin[next] = begin[next].max(end);
            pending[next] -= 1;
            if pending[next] == 0 {
                ready.push(next);
            }
        }
    }
    longest
}
