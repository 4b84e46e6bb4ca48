//! A teardown in which nothing is asynchronous and at which nobody looks: the list backwards, in a loop. There
//! is nothing to schedule then, and a step of the schedule takes longer than a short call.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Instant;

use api::report::Outcome;
use devices::lifecycle::{Deadline, Phases};

use super::crew::Ended;
use super::state::comes_to;
use super::{Stamp, Teardown};

/// Shuts the devices down one after the other.
pub(super) fn run(teardown: &Teardown) -> Ended {
    let graph = &teardown.graph;
    let begin = Instant::now();
    let mut stamps = Vec::new();
    // Each is overwritten: the synchronous order has every device.
    stamps.resize_with(graph.len(), || Stamp {
        start: begin,
        end: begin,
        phases: Phases::default(),
        outcome: Outcome::TimedOut,
    });
    for &device in &teardown.rules.lane {
        let start = Instant::now();
        let by = start + graph.node(device).deadline;
        let mut phases = Phases::default();
        let target = &teardown.target;
        let result = target.shut_down(device, Deadline::at(by), &mut phases);
        let now = Instant::now();
        let (outcome, at) = comes_to(result, by, now);
        let end = if at > now { sleep_until(at) } else { now };
        teardown.observer.ended(device, &outcome);
        stamps[device] = Stamp {
            start,
            end,
            phases,
            outcome,
        };
    }
    Ended {
        graph: Arc::clone(graph),
        rules: Arc::clone(&teardown.rules),
        stamps,
        workers_used: 0,
        warnings: Vec::new(),
    }
}

/// Returns when it has woken up.
fn sleep_until(at: Instant) -> Instant {
    loop {
        let now = Instant::now();
        if now >= at {
            return now;
        }
        sleep(at - now);
    }
}
