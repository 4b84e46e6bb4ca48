//! The ordering core: what may be started now, what has ended. It counts open dependencies and knows
//! neither threads nor time; the threaded engine and the virtual clock both drive it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::graph::Graph;
use super::lists::Lists;
use super::locks::Locks;
use super::policy::Rules;

use barrier::Barrier;

pub(super) use barrier::task_before;

mod barrier;
mod changes;

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
    waited_on_by: Lists,
    barrier: Option<Barrier>,
    locks: Option<Locks>,
    blocking: Vec<bool>,
    pending: Vec<u32>,
    stages: Vec<Stage>,
    /// The place in the synchronous order of the first device that has not ended. No other is started.
    turn: usize,
    ready_sync: Option<usize>,
    ready_quick: VecDeque<usize>,
    ready_blocking: VecDeque<usize>,
    left: usize,
    left_async: usize,
}

impl Schedule {
    /// Nothing started. What is ready at once is ready in the backward order of the list.
    pub fn new(graph: &Graph, rules: Arc<Rules>) -> Self {
        let waited_on_by = rules.waited_on_by();
        let mut pending = vec![0; graph.len()];
        for &device in waited_on_by.iter().flatten() {
            pending[device] += 1;
        }
        if let Some(tasks) = &rules.tasks {
            for (device, pending) in pending.iter_mut().enumerate() {
                *pending += u32::from(task_before(&rules, tasks, device) > 0);
            }
        }
        let mut schedule = Self {
            barrier: rules
                .tasks
                .as_ref()
                .map(|tasks| Barrier::new(&rules, tasks)),
            waited_on_by,
            locks: Locks::new(graph),
            blocking: graph.nodes().iter().map(|node| node.blocking).collect(),
            pending,
            stages: vec![Stage::Waiting; graph.len()],
            turn: 0,
            ready_sync: None,
            ready_quick: VecDeque::new(),
            ready_blocking: VecDeque::new(),
            left: graph.len(),
            left_async: graph.len() - rules.lane.len(),
            rules,
        };
        for &device in graph.order().iter().rev() {
            if schedule.pending[device] == 0 {
                schedule.make_ready(device);
            }
        }
        schedule
    }

    /// For a device that waits for nothing more, but perhaps its turn or a lock.
    fn make_ready(&mut self, device: usize) {
        let in_turn = self.rules.asynchronous[device] || self.in_turn() == Some(device);
        if self.stages[device] != Stage::Waiting || !in_turn {
            return;
        }
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
        self.give_locks_back(device);
        let mut position = 0;
        while let Some(next) = self.waited_on_by.get(device, position) {
            self.waits_for_one_less(next);
            position += 1;
        }
        if let Some(tasks) = &self.rules.tasks {
            let cookie = tasks.cookies[device];
            self.pass_tasks(cookie);
        }
        if self.in_turn() == Some(device) {
            while self
                .in_turn()
                .is_some_and(|next| self.stages[next] == Stage::Ended)
            {
                self.turn += 1;
            }
            self.take_turn();
        }
    }

    fn pass_tasks(&mut self, cookie: u32) {
        if let Some(barrier) = &mut self.barrier {
            barrier.ended(cookie);
        }
        while let Some(task) = self.barrier.as_mut().and_then(Barrier::pass) {
            let mut position = 0;
            while let Some(next) = self
                .barrier
                .as_ref()
                .and_then(|barrier| barrier.waiting.get(task, position))
            {
                self.waits_for_one_less(next);
                position += 1;
            }
        }
    }

    fn give_locks_back(&mut self, device: usize) {
        if let Some(locks) = &mut self.locks {
            for next in locks.give_back(device) {
                self.queue(next);
            }
        }
    }

    /// The synchronous device whose turn it is.
    fn in_turn(&self) -> Option<usize> {
        self.rules.lane.get(self.turn).copied()
    }

    fn take_turn(&mut self) {
        if let Some(device) = self.in_turn().filter(|&device| self.pending[device] == 0) {
            self.make_ready(device);
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

    /// Whether an asynchronous device whose call does not block can be started.
    pub fn has_quick(&self) -> bool {
        !self.ready_quick.is_empty()
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
            (0..self.stages.len()).filter(move |&on| (1..=until).contains(&tasks.cookies[on]))
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
