//! For tests: what a kernel does under each policy, written a second time straight from the reference and
//! without the engine's rules, tasks and schedule. A loop that walks the list, tasks that wait; no workers
//! to share, and no parents' locks.

use std::time::Duration;

use api::config::TeardownPolicy;

use crate::device_manager::teardown::graph::Graph;

mod machines;

pub use machines::{Machine, locking_machines, machines, machines_of};

/// When a device started and ended.
pub type Span = (Duration, Duration);

/// Every device's start and end, or none if the kernel would hang.
pub fn spans(machine: &Machine, policy: TeardownPolicy) -> Option<Vec<Span>> {
    match policy {
        TeardownPolicy::Serial => Some(serial(machine)),
        TeardownPolicy::Cookie => Some(cookie(machine)),
        TeardownPolicy::Completion => completion(machine),
    }
}

/// How long a device takes. Only a call on a thread of its own can be given up at its deadline.
fn takes(machine: &Machine, device: usize, asynchronous: bool) -> Duration {
    let node = &machine.graph.nodes()[device];
    let cost = machine.costs[device];
    let took = (cost.work + cost.latency).min(node.deadline);
    if asynchronous && node.blocking {
        took
    } else {
        took.max(cost.work)
    }
}

/// One device at a time, backwards.
fn serial(machine: &Machine) -> Vec<Span> {
    let mut spans = vec![Span::default(); machine.costs.len()];
    let mut now = Duration::ZERO;
    for &device in machine.graph.order().iter().rev() {
        let end = now + takes(machine, device, false);
        spans[device] = (now, end);
        now = end;
    }
    spans
}

/// What `async_schedule` was called with, in the order of the cookies: the first has cookie 1.
struct Scheduled {
    devices: Vec<usize>,
    /// A list of synchronous devices, if of one only.
    list: bool,
}

/// The main loop of v10: the tasks, and `after` of each device.
fn v10_loop(graph: &Graph) -> (Vec<Scheduled>, Vec<usize>) {
    let mut tasks: Vec<Scheduled> = Vec::new();
    let mut after = vec![0; graph.len()];
    let mut pending = Vec::new();
    for &device in graph.order().iter().rev() {
        let mut above: Vec<usize> = graph.suppliers(device).to_vec();
        above.extend(graph.nodes()[device].parent);
        above.retain(|&on| graph.nodes()[on].asynchronous);
        let asynchronous = graph.nodes()[device].asynchronous;
        if !asynchronous {
            pending.push(device);
        }
        if !pending.is_empty() && (asynchronous || !above.is_empty()) {
            let devices = std::mem::take(&mut pending);
            tasks.push(Scheduled {
                devices,
                list: true,
            });
        }
        if asynchronous {
            tasks.push(Scheduled {
                devices: vec![device],
                list: false,
            });
        }
        let cookie = tasks.len();
        for on in above {
            after[on] = cookie;
        }
    }
    if !pending.is_empty() {
        tasks.push(Scheduled {
            devices: pending,
            list: true,
        });
    }
    (tasks, after)
}

impl Scheduled {
    /// Every task with a smaller cookie than this has ended when this task, of the cookie `own`, begins.
    fn waits_below(&self, own: usize, after: &[usize]) -> usize {
        if self.list {
            own
        } else {
            (after[self.devices[0]] + 1).min(own)
        }
    }
}

/// The tasks of v10, of which each only waits for older ones.
fn cookie(machine: &Machine) -> Vec<Span> {
    let (tasks, after) = v10_loop(&machine.graph);
    let mut spans = vec![Span::default(); machine.costs.len()];
    // When all tasks with smaller cookies have ended, by cookie.
    let mut all_below = vec![Duration::ZERO; 2];
    for (at, task) in tasks.iter().enumerate() {
        let own = at + 1;
        let mut now = all_below[task.waits_below(own, &after)];
        for &device in &task.devices {
            let end = now + takes(machine, device, !task.list);
            spans[device] = (now, end);
            now = end;
        }
        all_below.push(all_below[own].max(now));
    }
    spans
}

/// Both passes of v11 and later: asynchronous tasks that wait for completions, and the calling thread
/// that goes through the others. None if nobody can go on before all are completed.
fn completion(machine: &Machine) -> Option<Vec<Span>> {
    let nodes = machine.graph.nodes();
    let before = dependants(&machine.graph);
    let mut spans: Vec<Option<Span>> = vec![None; nodes.len()];
    let backwards = machine.graph.order().iter().rev().copied();
    let (mut tasks, sync): (Vec<usize>, Vec<usize>) =
        backwards.partition(|&device| nodes[device].asynchronous);
    let mut sync = sync.into_iter().peekable();
    let mut calling_thread = Duration::ZERO;
    loop {
        let left = tasks.len() + sync.len();
        tasks.retain(|&device| {
            let done = latest(&spans, before[device].iter());
            if let Some(start) = done {
                spans[device] = Some((start, start + takes(machine, device, true)));
            }
            done.is_none()
        });
        while let Some(&device) = sync.peek() {
            let waits = before[device].iter();
            let Some(done) = latest(&spans, waits.filter(|&&on| nodes[on].asynchronous)) else {
                break;
            };
            let start = calling_thread.max(done);
            calling_thread = start + takes(machine, device, false);
            spans[device] = Some((start, calling_thread));
            sync.next();
        }
        if tasks.len() + sync.len() == left {
            return spans.into_iter().collect();
        }
    }
}

/// When the last of these is completed; none if one is not.
fn latest<'a>(
    spans: &[Option<Span>],
    mut devices: impl Iterator<Item = &'a usize>,
) -> Option<Duration> {
    devices.try_fold(Duration::ZERO, |latest, &device| {
        Some(latest.max(spans[device]?.1))
    })
}

/// The children and consumers of each device.
fn dependants(graph: &Graph) -> Vec<Vec<usize>> {
    let mut dependants = vec![Vec::new(); graph.len()];
    for device in 0..graph.len() {
        let parent = graph.nodes()[device].parent;
        for on in graph.suppliers(device).iter().copied().chain(parent) {
            dependants[on].push(device);
        }
    }
    dependants
}

/// Holds the spans of a run against the rules; names the devices of the first rule that is broken.
pub fn check(graph: &Graph, policy: TeardownPolicy, spans: &[Span]) -> Result<(), String> {
    let ended = |before: usize, device: usize, rule: &str| {
        if spans[before].1 <= spans[device].0 {
            return Ok(());
        }
        Err(format!(
            "{device} started before {before} had ended: {rule}"
        ))
    };
    let nodes = graph.nodes();
    let is_async = |device: usize| policy != TeardownPolicy::Serial && nodes[device].asynchronous;
    let mut place = vec![0; graph.len()];
    for (at, &device) in graph.order().iter().enumerate() {
        place[device] = at;
    }
    for (device, dependants) in dependants(graph).into_iter().enumerate() {
        for before in dependants {
            // Where the list puts the device first, only completion waits, and only asynchronously.
            let async_pair = is_async(device) || is_async(before);
            let completed = policy == TeardownPolicy::Completion && async_pair;
            if place[before] > place[device] || completed {
                ended(before, device, "it is its child or consumer")?;
            }
        }
    }
    let backwards = graph.order().iter().rev().copied();
    let sync: Vec<usize> = backwards.filter(|&device| !is_async(device)).collect();
    for pair in sync.windows(2) {
        ended(pair[0], pair[1], "both are synchronous")?;
    }
    if policy == TeardownPolicy::Cookie {
        let (tasks, after) = v10_loop(graph);
        for (at, task) in tasks.iter().enumerate() {
            let older = &tasks[..task.waits_below(at + 1, &after) - 1];
            for before in older.iter().flat_map(|task| &task.devices) {
                ended(*before, task.devices[0], "its task is older")?;
            }
        }
    }
    check_locks(graph, spans)
}

/// No two devices that lock the same parent overlap each other or the parent.
fn check_locks(graph: &Graph, spans: &[Span]) -> Result<(), String> {
    let nodes = graph.nodes();
    if nodes.iter().all(|node| !node.parent_lock) {
        return Ok(());
    }
    for lock in 0..graph.len() {
        let locks = |device: usize| nodes[device].parent == Some(lock) && nodes[device].parent_lock;
        let mut lockers: Vec<usize> = (0..graph.len()).filter(|&device| locks(device)).collect();
        if !lockers.is_empty() {
            lockers.push(lock);
        }
        lockers.sort_by_key(|&device| spans[device]);
        for pair in lockers.windows(2) {
            if spans[pair[0]].1 > spans[pair[1]].0 {
                return Err(format!("{pair:?} overlap under the lock of {lock}"));
            }
        }
    }
    Ok(())
}
