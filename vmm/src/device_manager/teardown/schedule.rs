//! The ordering core: what may be started now, what has ended. It counts open dependencies and knows
//! neither threads nor time; the threaded engine and the virtual clock both drive it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::graph::Graph;
use super::locks::Locks;
use super::policy::{Rules, Tasks};

/// Where a device stands in its teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for others, or for somebody to start it.
    Waiting,
    /// It was started and has not ended.
    Running,
    /// It has ended or was given up.
    Ended,
}

/// A teardown's order, unrolled.
#[derive(Debug)]
pub struct Schedule {
    rules: Arc<Rules>,
    waited_on_by: Vec<Vec<usize>>,
    barrier: Option<Barrier>,
    locks: Option<Locks>,
    blocking: Vec<bool>,
    pending: Vec<u32>,
    stages: Vec<Stage>,
    ready_sync: Option<usize>,
    ready_quick: VecDeque<usize>,
    ready_blocking: VecDeque<usize>,
    left: usize,
    left_async: usize,
}

/// How far the tasks of `cookie` have come.
#[derive(Debug)]
struct Barrier {
    /// Devices that have not ended, by task.
    left: Vec<u32>,
    /// So many tasks, the oldest, have all ended.
    passed: usize,
    /// The devices that wait until so many have.
    waiting: Vec<Vec<usize>>,
}

impl Barrier {
    fn new(tasks: &Tasks) -> Self {
        let mut waiting = vec![Vec::new(); tasks.sizes.len() + 1];
        for (device, &until) in tasks.waits_for.iter().enumerate() {
            waiting[until as usize].push(device);
        }
        // Who waits for no task waits for nothing here.
        waiting[0].clear();
        Self {
            left: tasks.sizes.clone(),
            passed: 0,
            waiting,
        }
    }

    /// Notes that a device of the task numbered `cookie` has ended; returns who waited for no more.
    fn ended(&mut self, cookie: u32) -> Vec<usize> {
        self.left[cookie as usize - 1] -= 1;
        let mut released = Vec::new();
        while self.left.get(self.passed) == Some(&0) {
            self.passed += 1;
            released.append(&mut self.waiting[self.passed]);
        }
        released
    }
}

impl Schedule {
    /// Nothing started. What is ready at once is ready in the backward order of the list.
    pub fn new(graph: &Graph, rules: Arc<Rules>) -> Self {
        let mut pending: Vec<u32> = rules.waits_on.iter().map(|on| on.len() as u32).collect();
        if let Some(tasks) = &rules.tasks {
            for (pending, &until) in pending.iter_mut().zip(&tasks.waits_for) {
                *pending += u32::from(until > 0);
            }
        }
        let mut schedule = Self {
            waited_on_by: rules.waited_on_by(),
            barrier: rules.tasks.as_ref().map(Barrier::new),
            locks: Locks::new(graph),
            blocking: graph.nodes().iter().map(|node| node.blocking).collect(),
            pending,
            stages: vec![Stage::Waiting; graph.len()],
            ready_sync: None,
            ready_quick: VecDeque::new(),
            ready_blocking: VecDeque::new(),
            left: graph.len(),
            left_async: rules
                .asynchronous
                .iter()
                .filter(|&&asynchronous| asynchronous)
                .count(),
            rules,
        };
        for &device in graph.order().iter().rev() {
            if schedule.pending[device] == 0 {
                schedule.make_ready(device);
            }
        }
        schedule
    }

    fn make_ready(&mut self, device: usize) {
        if let Some(locks) = &mut self.locks
            && !locks.take(device)
        {
            return;
        }
        self.queue(device);
    }

    fn queue(&mut self, device: usize) {
        if !self.rules.asynchronous[device] {
            self.ready_sync = Some(device);
        } else if self.blocking[device] {
            self.ready_blocking.push_back(device);
        } else {
            self.ready_quick.push_back(device);
        }
    }

    fn start(&mut self, device: Option<usize>) -> Option<usize> {
        if let Some(device) = device {
            self.stages[device] = Stage::Running;
        }
        device
    }

    /// Starts the synchronous device whose turn it is.
    pub fn start_sync(&mut self) -> Option<usize> {
        let device = self.ready_sync.take();
        self.start(device)
    }

    /// Starts an asynchronous device whose call does not block.
    pub fn start_quick(&mut self) -> Option<usize> {
        let device = self.ready_quick.pop_front();
        self.start(device)
    }

    /// Starts an asynchronous device whose call may block.
    pub fn start_blocking(&mut self) -> Option<usize> {
        let device = self.ready_blocking.pop_front();
        self.start(device)
    }

    /// Notes that `device` has ended; those which waited for nothing else become ready.
    pub fn ended(&mut self, device: usize) {
        if std::mem::replace(&mut self.stages[device], Stage::Ended) == Stage::Ended {
            return;
        }
        self.left -= 1;
        if self.rules.asynchronous[device] {
            self.left_async -= 1;
        }
        if let Some(locks) = &mut self.locks {
            for next in locks.give_back(device, |other| self.stages[other] == Stage::Ended) {
                self.queue(next);
            }
        }
        for next in std::mem::take(&mut self.waited_on_by[device]) {
            self.waits_for_one_less(next);
        }
        if let (Some(barrier), Some(tasks)) = (&mut self.barrier, &self.rules.tasks) {
            for next in barrier.ended(tasks.cookies[device]) {
                self.waits_for_one_less(next);
            }
        }
    }

    fn waits_for_one_less(&mut self, device: usize) {
        self.pending[device] -= 1;
        if self.pending[device] == 0 {
            self.make_ready(device);
        }
    }

    /// Whether a synchronous device can be started.
    pub fn has_sync(&self) -> bool {
        self.ready_sync.is_some()
    }

    /// How many asynchronous devices whose calls may block can be started.
    pub fn blocking_ready(&self) -> usize {
        self.ready_blocking.len()
    }

    /// How many asynchronous devices have not ended.
    pub fn left_async(&self) -> usize {
        self.left_async
    }

    /// How many devices have not ended.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Where `device` stands.
    pub fn stage(&self, device: usize) -> Stage {
        self.stages[device]
    }

    /// The devices `device` waits for that have not ended, those that hold a lock it needs included.
    pub fn open_waits(&self, device: usize) -> Vec<usize> {
        let barrier = self.rules.tasks.iter().flat_map(|tasks| {
            let until = tasks.waits_for[device];
            (0..self.stages.len()).filter(move |&on| tasks.cookies[on] <= until)
        });
        let locks = self.locks.iter().flat_map(|locks| locks.holders(device));
        let on = self.rules.waits_on[device].iter().copied().chain(barrier);
        let open = on.filter(|&on| self.stages[on] != Stage::Ended);
        let mut open: Vec<usize> = open.chain(locks).collect();
        open.sort_unstable();
        open.dedup();
        open
    }
}
