//! An I/O thread: its mailbox with the queues that have something to do, the eventfd that wakes it, and its
//! loop: serve a burst of each queue, hand over once, take completions, interrupt once a queue.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::error;
use vmm_sys_util::eventfd::EventFd;

use super::Serve;
use super::spin::Spin;
use super::worker::Worker;
use crate::gate::lock;

pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Whether there is something in the state, for a thread that spins.
    posted: AtomicBool,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<dyn Serve>>,
    asleep: bool,
    /// When the last sleep was ended by a post: what a wake costs is no part of how long work took to come.
    woken: Option<Instant>,
    stop: bool,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            posted: AtomicBool::new(false),
            // Blocking: a read through a ring waits in the kernel, one of a non-blocking eventfd fails.
            wake: EventFd::new(libc::EFD_CLOEXEC)?,
        })
    }

    pub(super) fn schedule(&self, queue: Arc<dyn Serve>) {
        let mut state = lock(&self.state);
        if !state.stop {
            state.ready.push_back(queue);
        }
        self.post(&mut state);
    }

    pub(super) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stop = true;
        state.ready.clear();
        self.post(&mut state);
    }

    /// The thread. Serves until it is stopped; by blocking calls alone unless `with_ring`. A sleep and a wake cost
    /// `sleep`.
    pub(super) fn run(&self, with_ring: bool, sleep: Duration) {
        let mut worker = Worker::new(with_ring);
        let mut spin = Spin::up_to(sleep);
        while self.take(&mut worker.queues.ready) {
            if !worker.round() && !self.idle(&mut worker, &mut spin) {
                return;
            }
        }
    }

    /// Takes what was posted behind what is `ready`. Returns whether the thread goes on.
    pub(super) fn take(&self, ready: &mut VecDeque<Arc<dyn Serve>>) -> bool {
        if !self.posted.load(Ordering::Acquire) {
            return true;
        }
        let mut state = lock(&self.state);
        self.posted.store(false, Ordering::Release);
        if ready.is_empty() {
            std::mem::swap(ready, &mut state.ready);
        } else {
            ready.append(&mut state.ready);
        }
        !state.stop
    }

    /// Waits for a post, a completion, or a queue that is watched and becomes ready: briefly awake where that
    /// has paid, then asleep. Returns whether the thread can go on.
    fn idle(&self, worker: &mut Worker, spin: &mut Spin) -> bool {
        let Worker { transfers, queues } = worker;
        let since = Instant::now();
        if spin.wait(since, || {
            self.posted.load(Ordering::Acquire) || transfers.has_completions() || queues.has_more()
        }) {
            return true;
        }
        if queues.rest() {
            return true;
        }
        let mut state = lock(&self.state);
        if self.posted.load(Ordering::Acquire) {
            return true;
        }
        state.asleep = true;
        drop(state);
        let slept = if transfers.has_ring() {
            transfers.sleep(self.wake.as_raw_fd())
        } else {
            !transfers.sleep_without_ring(self.wake.as_raw_fd()) || self.wake_read()
        };
        // A completion may have ended the sleep: whoever posts from here on needs no wake.
        let mut state = lock(&self.state);
        state.asleep = false;
        let until = state.woken.take().unwrap_or_else(Instant::now);
        drop(state);
        spin.slept(until.saturating_duration_since(since));
        slept
    }

    fn wake_read(&self) -> bool {
        match self.wake.read() {
            Err(failure) if failure.kind() != io::ErrorKind::Interrupted => {
                error!("an NVMe I/O thread cannot wait for work: {failure}");
                false
            }
            _ => true,
        }
    }

    /// One write a sleep: a busy thread looks at the mailbox anyway.
    fn post(&self, state: &mut State) {
        self.posted.store(true, Ordering::Release);
        if !std::mem::take(&mut state.asleep) {
            return;
        }
        state.woken = Some(Instant::now());
        if let Err(failure) = self.wake.write(1) {
            error!("an NVMe I/O thread cannot be woken: {failure}");
        }
    }
}
