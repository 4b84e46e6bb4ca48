//! Which single change saves most: each is tried under the virtual clock.
//!
//! Bounds. Up to [`EXHAUSTIVE`] devices every time and flag is tried that can save anything. With more, those
//! of devices on the critical chain are, and links with an end on it; the costliest devices first, and no more
//! than that a third of [`RUNS`] devices is planned for in all changes of a kind. To take a link away is to
//! list all devices anew: where there are many links, those on the chain come first and the rest is left out
//! (see [`most_links`]).

use std::cmp::Reverse;
use std::time::Duration;

use api::config::TeardownPolicy;
use api::plan::{Change, Saving};

use super::model::Model;
use super::report::nanos;
use crate::device_manager::list::ListedLink;
use crate::device_manager::teardown::{Cost, Graph, GraphError, Plan, predict};

/// Up to so many devices every change is tried.
const EXHAUSTIVE: usize = 256;
/// So many devices are planned for, in all changes to a larger machine taken together.
const RUNS: usize = 200_000;
/// Links, flags and times.
const KINDS: usize = 3;
/// So many moves of a device in the list take about as long as planning for it.
const MOVES: usize = 32;
/// So many changes of a kind are tried at least, but for links.
const FEWEST: usize = 8;
/// So many are kept.
const KEPT: usize = 10;
/// The most workers that a configuration can have.
const MOST_WORKERS: u16 = 1024;

/// A change by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edit {
    MakeAsync(usize),
    RemoveLink(usize),
    AddWorkers(u16),
    Halve(usize),
}

/// The changes to `model` that save most of `plan`, best first. With workers enough, `workers` of them
/// are used at once.
pub(super) fn best(
    model: &Model,
    graph: &Graph,
    policy: TeardownPolicy,
    plan: &Plan,
    workers: usize,
) -> Result<Vec<Saving>, GraphError> {
    let mut trial = Trial {
        model,
        graph: graph.clone(),
        costs: model.costs.clone(),
        policy,
    };
    let loose = is_loose(graph, plan);
    let mut found: Vec<(Reverse<Duration>, Edit)> = Vec::new();
    for edit in candidates(model, graph, policy, plan, workers) {
        // What takes half as long saves no more than that half, unless the order changes as well.
        if let (Edit::Halve(device), Some((Reverse(tenth), _))) = (edit, found.get(KEPT - 1))
            && !loose
            && takes(&model.costs, device) / 2 < *tenth
        {
            continue;
        }
        let saved = plan.total.saturating_sub(trial.total(edit)?);
        if !saved.is_zero() {
            found.push((Reverse(saved), edit));
            found.sort_unstable();
            found.truncate(KEPT);
        }
    }
    let savings = found.into_iter().map(|(Reverse(saved), edit)| Saving {
        change: described(edit, model),
        total_ns: nanos(plan.total.saturating_sub(saved)),
        saved_ns: nanos(saved),
    });
    Ok(savings.collect())
}

fn takes(costs: &[Cost], device: usize) -> Duration {
    costs[device].work.saturating_add(costs[device].latency)
}

/// Whether devices wait for workers or locks. Otherwise all that a device waits for is other devices, and
/// one that is not on the critical chain can take less without ending the teardown any sooner.
fn is_loose(graph: &Graph, plan: &Plan) -> bool {
    graph.nodes().iter().any(|node| node.parent_lock)
        || plan
            .devices
            .iter()
            .any(|planned| planned.start > planned.ready)
}

/// The changes that are worth trying, the most promising first.
fn candidates(
    model: &Model,
    graph: &Graph,
    policy: TeardownPolicy,
    plan: &Plan,
    workers: usize,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let enough = u16::try_from(workers).unwrap_or(MOST_WORKERS);
    let enough = enough.min(MOST_WORKERS);
    if enough > model.workers {
        edits.push(Edit::AddWorkers(enough));
        let twice = model.workers.saturating_mul(2);
        edits.extend((twice < enough).then_some(Edit::AddWorkers(twice)));
    }
    let mut on_chain = vec![false; graph.len()];
    for device in plan.critical_chain() {
        on_chain[device] = true;
    }
    let few = graph.len() <= EXHAUSTIVE;
    let links = &model.listing.links;
    let most = if few {
        usize::MAX
    } else {
        (RUNS / KINDS / (graph.len() + links.len())).max(FEWEST)
    };
    let loose = is_loose(graph, plan);
    // One device at a time takes as long in any order and with any flags.
    let ordered = policy != TeardownPolicy::Serial;
    // Under `cookie` a device that is not on the chain may still be the one that raises a barrier.
    let elsewhere = few && (loose || policy == TeardownPolicy::Cookie);
    let mut devices: Vec<usize> = (0..graph.len())
        .filter(|&device| on_chain[device] || elsewhere)
        .collect();
    devices.sort_by_key(|&device| (!on_chain[device], Reverse(takes(&model.costs, device))));
    let devices = devices.into_iter();
    if ordered {
        let off_chain = |link: &ListedLink| {
            usize::from(!on_chain[link.consumer]) + usize::from(!on_chain[link.supplier])
        };
        let mut ordering: Vec<usize> = (0..links.len())
            .filter(|&at| !links[at].sync_state_only && (few || off_chain(&links[at]) < 2))
            .collect();
        ordering.sort_by_key(|&at| {
            let ends = [links[at].consumer, links[at].supplier];
            let [consumer, supplier] = ends.map(|device| takes(&model.costs, device));
            (off_chain(&links[at]), Reverse(consumer.max(supplier)))
        });
        ordering.truncate(most_links(model, graph.len()));
        edits.extend(ordering.into_iter().map(Edit::RemoveLink));
        let sync = devices
            .clone()
            .filter(|&device| !graph.node(device).asynchronous);
        edits.extend(sync.map(Edit::MakeAsync).take(most));
    }
    let slow = devices
        .filter(|&device| !takes(&model.costs, device).is_zero() && (on_chain[device] || loose));
    edits.extend(slow.map(Edit::Halve).take(most));
    edits
}

/// How many links are tried: without one the list is made anew, and every other link moves devices in it.
fn most_links(model: &Model, devices: usize) -> usize {
    let moves = model.listing.links.len() + model.listing.deferred.len();
    let one = devices.max(1) * (1 + moves / MOVES);
    let share = RUNS / KINDS / one;
    let most = if devices <= EXHAUSTIVE {
        10 * share
    } else {
        share
    };
    most.max(FEWEST)
}

struct Trial<'a> {
    model: &'a Model,
    graph: Graph,
    costs: Vec<Cost>,
    policy: TeardownPolicy,
}

impl Trial<'_> {
    /// What the changed machine takes. The change is taken back.
    fn total(&mut self, edit: Edit) -> Result<Duration, GraphError> {
        let mut workers = self.model.workers;
        match edit {
            Edit::MakeAsync(device) => self.graph.set_async(device, true),
            Edit::Halve(device) => {
                let cost = &mut self.costs[device];
                cost.work /= 2;
                cost.latency /= 2;
            }
            Edit::AddWorkers(to) => workers = to,
            Edit::RemoveLink(link) => {
                let graph = self.model.listing.graph_without(Some(link))?;
                return Ok(self.predict(&graph, workers));
            }
        }
        let total = self.predict(&self.graph, workers);
        match edit {
            Edit::MakeAsync(device) => self.graph.set_async(device, false),
            Edit::Halve(device) => self.costs[device] = self.model.costs[device],
            Edit::AddWorkers(_) | Edit::RemoveLink(_) => {}
        }
        Ok(total)
    }

    fn predict(&self, graph: &Graph, workers: u16) -> Duration {
        predict(graph, self.policy, &self.costs, workers.into()).total
    }
}

fn described(edit: Edit, model: &Model) -> Change {
    let name = |device: usize| model.listing.nodes[device].id.clone();
    match edit {
        Edit::MakeAsync(device) => Change::MakeAsync {
            device: name(device),
        },
        Edit::RemoveLink(link) => {
            let link = model.listing.links[link];
            Change::RemoveLink {
                consumer: name(link.consumer),
                supplier: name(link.supplier),
            }
        }
        Edit::AddWorkers(to) => Change::AddWorkers {
            from: model.workers,
            to,
        },
        Edit::Halve(device) => Change::HalveLatency {
            device: name(device),
            from_ns: nanos(takes(&model.costs, device)),
            to_ns: nanos(takes(&model.costs, device) / 2),
        },
    }
}

#[cfg(test)]
mod tests;
