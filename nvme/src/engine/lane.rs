//! A lane: one drive's calls that may block long (deallocation; reads and writes where they cannot go through
//! a ring), few at a time, on threads made on demand. A stuck drive fills its own lane and nobody else's.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::Job;
use crate::gate::lock;

/// How long a thread without work stays: a guest that syncs often does not pay for a thread each time.
const LINGER: Duration = Duration::from_millis(250);

/// See the module's header.
pub(crate) struct Lane {
    /// Most threads.
    width: u32,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    threads: u32,
    idle: u32,
    /// In the order of their tickets. A reset may withdraw thousands, from wherever they stand.
    waiting: BTreeMap<Ticket, Job>,
    last: Ticket,
}

/// Names a job of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Lane {
    /// A lane for at most `width` calls at a time.
    pub(crate) fn new(width: u32) -> Arc<Self> {
        Arc::new(Self {
            width,
            state: Mutex::default(),
            arrived: Condvar::new(),
        })
    }

    /// Runs `job` on a thread of the lane; on this one where the host gives no thread and the lane has none.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) -> Ticket {
        let mut state = lock(&self.state);
        state.last.0 += 1;
        let ticket = state.last;
        state.waiting.insert(ticket, job);
        if state.idle as usize >= state.waiting.len() {
            self.arrived.notify_one();
        } else if state.threads < self.width {
            state.threads += 1;
            drop(state);
            self.start();
        }
        ticket
    }

    /// Forgets a job that waits. One that has begun goes on.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        let mut state = lock(&self.state);
        let job = state.waiting.remove(&ticket);
        // A job may own what comes back here when dropped.
        drop(state);
        drop(job);
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Starts the thread that was counted already.
    fn start(self: &Arc<Self>) {
        let lane = Arc::clone(self);
        let started = thread::Builder::new()
            .name("nvme-lane".into())
            .stack_size(128 << 10)
            .spawn(move || lane.work(LINGER));
        if let Err(failure) = started {
            warn!("no thread for a slow NVMe command: {failure}");
            let mut state = lock(&self.state);
            if state.threads > 1 {
                // The others see to it.
                state.threads -= 1;
                return;
            }
            drop(state);
            self.work(Duration::ZERO);
        }
    }

    fn work(&self, linger: Duration) {
        let mut state = lock(&self.state);
        loop {
            if let Some((_, job)) = state.waiting.pop_first() {
                drop(state);
                job();
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .arrived
                .wait_timeout(state, linger)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
