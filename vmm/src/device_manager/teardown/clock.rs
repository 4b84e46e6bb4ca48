//! The virtual clock: the same schedule, run over given durations in no time. It is what a plan and a
//! critical path are computed with.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use api::config::TeardownPolicy;

use super::graph::Graph;
use super::policy::Rules;
use super::schedule::{Schedule, Stage};
use super::waits::Waits;

/// What one device's teardown takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time in the device's call. A blocking device holds a worker for so long.
    pub work: Duration,
    /// Modelled latency after it, which holds nothing.
    pub latency: Duration,
}

impl Cost {
    /// A latency alone.
    pub fn latency(latency: Duration) -> Self {
        Self {
            work: Duration::ZERO,
            latency,
        }
    }

    /// A call that blocks for `work`.
    pub fn work(work: Duration) -> Self {
        Self {
            work,
            latency: Duration::ZERO,
        }
    }
}

/// One device's times, counted from the begin of the teardown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// When the last device it waits for ends, and its parent's lock is free.
    pub ready: Duration,
    /// That device.
    pub held_up_by: Option<usize>,
    /// When it starts.
    pub start: Duration,
    /// When it ends.
    pub end: Duration,
    /// Whether it is given up at its deadline.
    pub timed_out: bool,
}

/// A predicted teardown.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The devices' times, by number.
    pub devices: Vec<Planned>,
    /// The devices in the order in which they start.
    pub order: Vec<usize>,
    /// When the last device ends.
    pub total: Duration,
    /// The most workers that are used at once.
    pub workers_used: usize,
    /// The rules it ran under.
    pub rules: Arc<Rules>,
}

impl Plan {
    /// The chain of devices that the end of the teardown hangs on, first to last: the device that ends
    /// last, before it the one it waited for longest, and so on.
    pub fn critical_chain(&self) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut at = (0..self.devices.len()).max_by_key(|&device| self.devices[device].end);
        while let Some(device) = at {
            chain.push(device);
            at = self.devices[device].held_up_by;
        }
        chain.reverse();
        chain
    }
}

/// What a teardown of `graph` under `policy` takes when each device takes `costs[device]` and at most
/// `workers` blocking calls run at once.
pub fn predict(graph: &Graph, policy: TeardownPolicy, costs: &[Cost], workers: usize) -> Plan {
    predict_by(
        graph,
        Arc::new(Rules::new(graph, policy)),
        costs,
        workers,
        true,
    )
}

/// [`predict`] under rules that are known, with or without deadlines.
pub(super) fn predict_by(
    graph: &Graph,
    rules: Arc<Rules>,
    costs: &[Cost],
    workers: usize,
    deadlines: bool,
) -> Plan {
    let mut run = Run {
        graph,
        deadlines,
        costs,
        schedule: Schedule::new(graph, Arc::clone(&rules)),
        devices: vec![Planned::default(); graph.len()],
        order: Vec::with_capacity(graph.len()),
        events: BinaryHeap::new(),
        now: Duration::ZERO,
        busy: 0,
        workers: workers.max(1),
        workers_used: 0,
    };
    run.start_ready(&rules);
    while let Some(Reverse((at, device, event))) = run.events.pop() {
        run.now = at;
        match event {
            Event::WorkerFree => run.busy -= 1,
            Event::Ended => run.schedule.ended(device),
        }
        // All that falls on one moment has happened before anything starts in it.
        if run
            .events
            .peek()
            .is_none_or(|Reverse((next, ..))| *next > at)
        {
            run.start_ready(&rules);
        }
    }
    debug_assert!((0..graph.len()).all(|device| run.schedule.stage(device) == Stage::Ended));
    let mut turns = vec![0; graph.len()];
    for (turn, &device) in run.order.iter().enumerate() {
        turns[device] = turn;
    }
    // By turn and not by time: devices that take no time start and end at once, one after the other.
    let waits = Waits::new(
        graph,
        &rules,
        |on| Some(turns[on]),
        |on| run.devices[on].end,
    );
    for device in 0..graph.len() {
        let held_up_by = waits.held_up_by(device, |on| run.devices[on].end);
        run.devices[device].held_up_by = held_up_by;
        run.devices[device].ready = held_up_by.map_or(Duration::ZERO, |on| run.devices[on].end);
    }
    Plan {
        devices: run.devices,
        order: run.order,
        total: run.now,
        workers_used: run.workers_used,
        rules,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    WorkerFree,
    Ended,
}

struct Run<'a> {
    graph: &'a Graph,
    deadlines: bool,
    costs: &'a [Cost],
    schedule: Schedule,
    devices: Vec<Planned>,
    order: Vec<usize>,
    events: BinaryHeap<Reverse<(Duration, usize, Event)>>,
    now: Duration,
    busy: usize,
    workers: usize,
    workers_used: usize,
}

impl Run<'_> {
    fn start_ready(&mut self, rules: &Rules) {
        while let Some(device) = self.schedule.start_quick() {
            self.start(device, rules);
        }
        while self.busy < self.workers
            && let Some(device) = self.schedule.start_blocking()
        {
            self.busy += 1;
            self.workers_used = self.workers_used.max(self.busy);
            let free = self.start(device, rules);
            self.events.push(Reverse((free, device, Event::WorkerFree)));
        }
        if let Some(device) = self.schedule.start_sync() {
            self.start(device, rules);
        }
    }

    /// Starts the device; returns when its call has returned or was given up.
    fn start(&mut self, device: usize, rules: &Rules) -> Duration {
        let cost = self.costs.get(device).copied().unwrap_or_default();
        let node = self.graph.node(device);
        let deadline = if self.deadlines {
            node.deadline
        } else {
            Duration::MAX
        };
        // As on threads: a call on a worker can be given up, one on the calling thread cannot.
        let on_worker = rules.asynchronous[device] && node.blocking;
        let work = if on_worker {
            cost.work.min(deadline)
        } else {
            cost.work
        };
        let took = cost.work.saturating_add(cost.latency);
        let end = self.now.saturating_add(took.min(deadline).max(work));
        self.devices[device].start = self.now;
        self.devices[device].end = end;
        self.devices[device].timed_out = took > deadline;
        self.order.push(device);
        self.events.push(Reverse((end, device, Event::Ended)));
        self.now.saturating_add(work)
    }
}

#[cfg(test)]
mod tests;
