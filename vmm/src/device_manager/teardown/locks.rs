//! Parents' locks: some buses have a device shut down with its parent locked. A device whose lock is taken
//! waits in a queue, not on a thread; it takes all it needs at once, so that none waits for another.

use std::collections::VecDeque;

use super::graph::Graph;

/// Who holds which lock, and who waits for it.
#[derive(Debug)]
pub(super) struct Locks {
    /// The locks of each device: its parent's, its own.
    needs: Vec<[Option<usize>; 2]>,
    /// Who holds each lock.
    holders: Vec<Option<usize>>,
    /// Whether the device holds its locks.
    holds: Vec<bool>,
    /// Who waits for each lock. Nobody waits for one that is free.
    waiting: Vec<VecDeque<usize>>,
}

impl Locks {
    /// The locks of a graph; none if no device asks for its parent's.
    pub(super) fn new(graph: &Graph) -> Option<Self> {
        let devices = graph.len();
        let mut needs = vec![[None; 2]; devices];
        let mut any = false;
        for device in 0..devices {
            if let Some(parent) = graph.locked_parent(device) {
                needs[device][0] = Some(parent);
                needs[parent][1] = Some(parent);
                any = true;
            }
        }
        any.then(|| Self {
            needs,
            holders: vec![None; devices],
            holds: vec![false; devices],
            waiting: vec![VecDeque::new(); devices],
        })
    }

    /// Takes the locks of `device`, or puts it in the queue of the first that is taken.
    pub(super) fn take(&mut self, device: usize) -> bool {
        let needs = self.needs[device];
        if let Some(taken) = needs
            .into_iter()
            .flatten()
            .find(|&lock| self.holders[lock].is_some())
        {
            self.waiting[taken].push_back(device);
            return false;
        }
        for lock in needs.into_iter().flatten() {
            self.holders[lock] = Some(device);
        }
        self.holds[device] = true;
        true
    }

    /// The devices that hold what `device` needs.
    pub(super) fn holders(&self, device: usize) -> impl Iterator<Item = usize> + '_ {
        let needed = self.needs[device].into_iter().flatten();
        needed.filter_map(move |lock| self.holders[lock].filter(|&holder| holder != device))
    }

    /// Gives the locks of `device` back, or its place in a queue; returns the devices that have got theirs
    /// by it.
    pub(super) fn give_back(&mut self, device: usize) -> Vec<usize> {
        let mut granted = Vec::new();
        let needs = self.needs[device];
        if !std::mem::take(&mut self.holds[device]) {
            for lock in needs.into_iter().flatten() {
                self.waiting[lock].retain(|&waiting| waiting != device);
            }
            return granted;
        }
        for lock in needs.into_iter().flatten() {
            self.holders[lock] = None;
        }
        for lock in needs.into_iter().flatten() {
            while self.holders[lock].is_none()
                && let Some(next) = self.waiting[lock].pop_front()
            {
                if self.take(next) {
                    granted.push(next);
                }
            }
        }
        granted
    }

    /// Takes in a device that was registered last. `parent` is the one to lock for it; one that has not
    /// been started, `parent_waits`, takes its own lock from now on.
    pub(super) fn join(&mut self, parent: Option<usize>, parent_waits: bool) {
        self.needs.push([parent, None]);
        self.holders.push(None);
        self.holds.push(false);
        self.waiting.push(VecDeque::new());
        if let Some(parent) = parent.filter(|_| parent_waits) {
            self.needs[parent][1] = Some(parent);
        }
    }
}

#[cfg(test)]
mod tests;
