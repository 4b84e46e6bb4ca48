//! The reference's cases under the virtual clock, and random machines against the oracle.

use super::*;
use crate::device_manager::teardown::tests::oracle::{Machine, Span};

use TeardownPolicy::{Completion, Cookie, Serial};

mod cost;
mod order;
mod random;
mod total;
mod trouble;

const UNLIMITED: usize = usize::MAX;

fn plan(machine: &Machine, policy: TeardownPolicy) -> Plan {
    predict(&machine.graph, policy, &machine.costs, UNLIMITED)
}

/// What a machine takes under each of these policies, in milliseconds.
fn totals_ms<const N: usize>(machine: &Machine, policies: [TeardownPolicy; N]) -> [u128; N] {
    policies.map(|policy| plan(machine, policy).total.as_millis())
}

fn span_ms(machine: &Machine, plan: &Plan, id: &str) -> (u128, u128) {
    let planned = plan.devices[machine.at(id)];
    (planned.start.as_millis(), planned.end.as_millis())
}

/// When the devices named start and end, in milliseconds.
fn spans_ms<const N: usize>(
    machine: &Machine,
    policy: TeardownPolicy,
    ids: [&str; N],
) -> [(u128, u128); N] {
    let plan = plan(machine, policy);
    ids.map(|id| span_ms(machine, &plan, id))
}

fn spans(plan: &Plan) -> Vec<Span> {
    let devices = plan.devices.iter();
    devices
        .map(|planned| (planned.start, planned.end))
        .collect()
}

fn names<'a>(machine: &'a Machine, devices: &[usize]) -> Vec<&'a str> {
    let devices = devices.iter();
    devices
        .map(|&device| machine.graph.node(device).id.as_str())
        .collect()
}
