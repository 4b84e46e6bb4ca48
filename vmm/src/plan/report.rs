//! From predicted times to a plan that can be read.

use std::time::Duration;

use api::config::TeardownPolicy;
use api::plan::{PlanReport, PlannedDevice, PolicyPlan};

use super::model::Model;
use super::{bound, savings};
use crate::device_manager::teardown::{Graph, GraphError, Plan, predict};

/// What `model` takes under each of `policies`.
pub(super) fn report(model: &Model, policies: &[TeardownPolicy]) -> Result<PlanReport, GraphError> {
    let graph = model.listing.graph()?;
    let sum = (0..graph.len())
        // A call on the calling thread cannot be taken from it at its deadline.
        .map(|device| bound::least(&graph, &model.costs, device).max(model.costs[device].work))
        .fold(Duration::ZERO, Duration::saturating_add);
    let policies = policies.iter();
    Ok(PlanReport {
        devices: graph.len() as u64,
        workers: model.workers,
        serial_sum_ns: nanos(sum),
        lower_bound_ns: nanos(bound::lower(&graph, &model.costs, model.workers)),
        policies: policies
            .map(|&policy| policy_plan(model, &graph, policy))
            .collect::<Result<_, _>>()?,
        assumptions: model.assumptions.clone(),
        warnings: too_slow(model, &graph),
    })
}

fn policy_plan(
    model: &Model,
    graph: &Graph,
    policy: TeardownPolicy,
) -> Result<PolicyPlan, GraphError> {
    let plan = predict(graph, policy, &model.costs, model.workers.into());
    let unbounded = predict(graph, policy, &model.costs, graph.len());
    let chain = plan.critical_chain();
    let mut critical = vec![false; graph.len()];
    for &device in &chain {
        critical[device] = true;
    }
    let name = |device: usize| graph.node(device).id.clone();
    let order = plan.order.iter().map(|&device| {
        let planned = &plan.devices[device];
        let tasks = plan.rules.tasks.as_ref();
        PlannedDevice {
            id: name(device),
            parent: graph.node(device).parent.map(name),
            asynchronous: plan.rules.asynchronous[device],
            cookie: tasks.map(|tasks| tasks.cookies[device].into()),
            ready_ns: nanos(planned.ready),
            start_ns: nanos(planned.start),
            end_ns: nanos(planned.end),
            held_up_by: planned.held_up_by.map(name),
            critical: critical[device],
            timed_out: planned.timed_out,
        }
    });
    let mut warnings = plan.rules.warnings.clone();
    warnings.extend(short_of_workers(graph, &plan, model.workers));
    Ok(PolicyPlan {
        policy,
        total_ns: nanos(plan.total),
        critical_path_ns: nanos(unbounded.total),
        critical: chain.iter().copied().map(name).collect(),
        workers_used: plan.workers_used as u64,
        order: order.collect(),
        savings: savings::best(model, graph, policy, &plan, unbounded.workers_used)?,
        warnings,
    })
}

/// The devices that are given up at their deadlines whatever the order.
fn too_slow(model: &Model, graph: &Graph) -> Vec<String> {
    let costs = model.costs.iter().zip(graph.nodes());
    costs
        .filter_map(|(cost, node)| {
            let takes = cost.work.saturating_add(cost.latency);
            (takes > node.deadline).then(|| {
                format!(
                    "{} takes {takes:?} and is given up at its deadline of {:?}",
                    node.id, node.deadline
                )
            })
        })
        .collect()
}

/// Tells that devices wait for a worker, though no device holds them up any more.
fn short_of_workers(graph: &Graph, plan: &Plan, workers: u16) -> Option<String> {
    let waits = |device: usize| {
        let planned = &plan.devices[device];
        planned.start.saturating_sub(planned.ready)
    };
    let waiting = (0..graph.len()).filter(|&device| !waits(device).is_zero());
    let longest = waiting.clone().max_by_key(|&device| waits(device))?;
    Some(format!(
        "{} devices wait for one of the {workers} workers, {} the longest: {:?}",
        waiting.count(),
        graph.node(longest).id,
        waits(longest)
    ))
}

/// A duration as the reports have it.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
