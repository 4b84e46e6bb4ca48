//! The control thread: jobs, admin queues and timers of all controllers. Nothing here calls a backend.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::{Job, Serve, Transfers, Turn};
use crate::gate::lock;

/// What a timer is for. A key has one timer: arming it again replaces the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    /// The controller.
    pub(crate) owner: u64,
    /// Which of its timers.
    pub(crate) kind: TimerKind,
}

/// A controller's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TimerKind {
    /// The modelled latency of CC.SHN.
    Shutdown,
    /// The bound of a reset with I/O in flight.
    Drain,
    /// An interrupt of this vector that was held back.
    Interrupt(u16),
    /// The next minute of the drive's life.
    Minute,
    /// The host's keep-alive.
    KeepAlive,
    /// The end of what makes the command of this number slow.
    Command(u64),
}

pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Work>,
    timers: BTreeMap<(Instant, TimerKey), Job>,
    due: HashMap<TimerKey, Instant>,
    stop: bool,
}

enum Work {
    Job(Job),
    Queue(Arc<dyn Serve>),
}

impl Control {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) fn post(&self, job: Job) {
        self.push(Work::Job(job));
    }

    pub(super) fn schedule(&self, queue: Arc<dyn Serve>) {
        self.push(Work::Queue(queue));
    }

    pub(super) fn arm(&self, key: TimerKey, at: Instant, job: Job) {
        let mut state = lock(&self.state);
        let replaced = state.forget(key);
        if !state.stop {
            state.due.insert(key, at);
            state.timers.insert((at, key), job);
        }
        self.changed.notify_one();
        // A job may own what calls back here when dropped.
        drop(state);
        drop(replaced);
    }

    pub(super) fn disarm(&self, key: TimerKey) {
        let removed = lock(&self.state).forget(key);
        drop(removed);
    }

    pub(super) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stop = true;
        let left = (
            std::mem::take(&mut state.jobs),
            std::mem::take(&mut state.timers),
        );
        state.due.clear();
        self.changed.notify_one();
        drop(state);
        drop(left);
    }

    /// The thread.
    pub(super) fn run(&self) {
        // Admin commands start no transfer.
        let mut transfers = Transfers::new(None);
        let mut state = lock(&self.state);
        loop {
            if state.stop {
                return;
            }
            let work = state.pop_due(Instant::now());
            if let Some(work) = work {
                drop(state);
                self.work(work, &mut transfers);
                state = lock(&self.state);
                continue;
            }
            state = match state.timers.first_key_value() {
                Some(((at, _), _)) => {
                    let wait = at.saturating_duration_since(Instant::now());
                    self.changed
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Does one thing that is to be done now. Returns whether there was one.
    pub(super) fn step(&self, transfers: &mut Transfers) -> bool {
        let work = lock(&self.state).pop_due(Instant::now());
        let Some(work) = work else { return false };
        self.work(work, transfers);
        true
    }

    fn work(&self, work: Work, transfers: &mut Transfers) {
        match work {
            Work::Job(job) => job(),
            Work::Queue(queue) => {
                if Arc::clone(&queue).serve(transfers) == Turn::More {
                    self.schedule(queue);
                }
            }
        }
    }

    fn push(&self, work: Work) {
        let mut state = lock(&self.state);
        if state.stop {
            drop(state);
            drop(work);
            return;
        }
        state.jobs.push_back(work);
        self.changed.notify_one();
    }
}

impl State {
    /// A due timer first, so that a flood of jobs cannot hold a deadline back.
    fn pop_due(&mut self, now: Instant) -> Option<Work> {
        if let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            let ((_, key), job) = first.remove_entry();
            self.due.remove(&key);
            return Some(Work::Job(job));
        }
        self.jobs.pop_front()
    }

    fn forget(&mut self, key: TimerKey) -> Option<Job> {
        let at = self.due.remove(&key)?;
        self.timers.remove(&(at, key))
    }
}
