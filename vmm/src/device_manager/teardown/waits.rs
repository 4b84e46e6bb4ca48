//! Whose end each device waited for longest, found from measured or predicted times.

use super::graph::Graph;
use super::policy::Rules;
use super::schedule::task_before;

/// What held each device up.
#[derive(Debug)]
pub struct Waits<'a> {
    rules: &'a Rules,
    /// The device that ends last among all tasks up to each, the task numbered 1 first.
    latest: Vec<usize>,
    /// For each device those that held its locks directly before it: its parent's, its own.
    held_before: Vec<[Option<usize>; 2]>,
}

impl<'a> Waits<'a> {
    /// For the times of a run under `rules`: `start` puts the devices in the order in which they were
    /// started, and has none for one that was not; `end` gives the end of each.
    pub fn new<S: Ord, E: Ord>(
        graph: &Graph,
        rules: &'a Rules,
        start: impl Fn(usize) -> Option<S>,
        end: impl Fn(usize) -> E,
    ) -> Self {
        let mut latest = Vec::new();
        if let Some(tasks) = &rules.tasks {
            let mut last_of_task: Vec<Option<usize>> = vec![None; tasks.sizes.len()];
            for (device, &cookie) in tasks.cookies.iter().enumerate() {
                let Some(task) = (cookie as usize).checked_sub(1) else {
                    continue;
                };
                let last = &mut last_of_task[task];
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
        let mut held_before = vec![[None; 2]; graph.len()];
        for (before, device) in lock_order(graph, start) {
            let locks = &mut held_before[device];
            let free = usize::from(locks[0].is_some());
            locks[free] = Some(before);
        }
        Self {
            rules,
            latest,
            held_before,
        }
    }

    /// The device that `device` had to wait for longest; none if it waited for none.
    pub fn held_up_by<E: Ord>(&self, device: usize, end: impl Fn(usize) -> E) -> Option<usize> {
        let before = self.rules.waits_on[device].iter().copied();
        let barrier = self.rules.tasks.as_ref().and_then(|tasks| {
            let until = task_before(self.rules, tasks, device) as usize;
            until.checked_sub(1).map(|task| self.latest[task])
        });
        let lock = self.held_before[device].into_iter().flatten();
        before.chain(barrier).chain(lock).max_by_key(|&on| end(on))
    }
}

/// Pairs of devices of which the second got a lock directly after the first, for all parents' locks: no
/// two of those that need one lock overlap, so the order of their starts is that of the lock. A device that
/// was not started had none.
pub fn lock_order<S: Ord>(
    graph: &Graph,
    start: impl Fn(usize) -> Option<S>,
) -> Vec<(usize, usize)> {
    let mut lockers: Vec<Vec<usize>> = vec![Vec::new(); graph.len()];
    for device in 0..graph.len() {
        if let Some(parent) = graph.locked_parent(device) {
            if lockers[parent].is_empty() {
                // It is shut down with its own lock held.
                lockers[parent].push(parent);
            }
            lockers[parent].push(device);
        }
    }
    let mut pairs = Vec::new();
    for lockers in &mut lockers {
        lockers.retain(|&device| start(device).is_some());
        lockers.sort_by_key(|&device| start(device));
        pairs.extend(lockers.windows(2).map(|pair| (pair[0], pair[1])));
    }
    pairs
}

#[cfg(test)]
mod tests;
