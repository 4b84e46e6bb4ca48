//! Whose end each device waited for longest, found from measured or predicted times.

use super::graph::Graph;
use super::policy::Rules;

/// What held each device up.
#[derive(Debug)]
pub struct Waits<'a> {
    rules: &'a Rules,
    graph: &'a Graph,
    /// The device that ends last among all tasks up to each, the task numbered 1 first.
    latest: Vec<usize>,
    /// For each device, those that are shut down with it locked, itself included, as they end.
    lockers: Vec<Vec<usize>>,
}

impl<'a> Waits<'a> {
    /// For the times of a run under `rules`: `end` gives the end of each device.
    pub fn new<T: Ord>(graph: &'a Graph, rules: &'a Rules, end: impl Fn(usize) -> T) -> Self {
        let mut latest = Vec::new();
        if let Some(tasks) = &rules.tasks {
            let mut last_of_task: Vec<Option<usize>> = vec![None; tasks.sizes.len()];
            for (device, &cookie) in tasks.cookies.iter().enumerate() {
                let last = &mut last_of_task[cookie as usize - 1];
                if last.is_none_or(|last| end(last) < end(device)) {
                    *last = Some(device);
                }
            }
            for device in last_of_task.into_iter().flatten() {
                match latest.last() {
                    Some(&before) if end(before) > end(device) => latest.push(before),
                    _ => latest.push(device),
                }
            }
        }
        let mut lockers = vec![Vec::new(); graph.len()];
        for device in 0..graph.len() {
            if let Some(parent) = graph.locked_parent(device) {
                if lockers[parent].is_empty() {
                    lockers[parent].push(parent);
                }
                lockers[parent].push(device);
            }
        }
        for lockers in &mut lockers {
            lockers.sort_by_key(|&device| end(device));
        }
        Self {
            rules,
            graph,
            latest,
            lockers,
        }
    }

    /// The device that `device` had to wait for longest; none if it waited for none.
    pub fn held_up_by<T: Ord + Copy>(
        &self,
        device: usize,
        start: T,
        end: impl Fn(usize) -> T,
    ) -> Option<usize> {
        let before = self.rules.waits_on[device].iter().copied();
        let barrier = self.rules.tasks.as_ref().and_then(|tasks| {
            let waits_for = tasks.waits_for[device] as usize;
            waits_for.checked_sub(1).map(|task| self.latest[task])
        });
        let locks = [Some(device), self.graph.locked_parent(device)];
        let lock = locks.into_iter().flatten().filter_map(|lock| {
            let lockers = &self.lockers[lock];
            let ended = lockers.partition_point(|&other| end(other) <= start);
            let others = lockers[..ended].iter().rev().copied();
            others.into_iter().find(|&other| other != device)
        });
        before.chain(barrier).chain(lock).max_by_key(|&on| end(on))
    }
}
