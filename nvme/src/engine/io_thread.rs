//! An I/O thread's mailbox: the queues with something to do, and the eventfd that wakes the thread.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use tracing::error;
use vmm_sys_util::eventfd::EventFd;

use super::Serve;
use crate::gate::lock;

pub(super) struct Mailbox {
    state: Mutex<State>,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<dyn Serve>>,
    asleep: bool,
    stop: bool,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            wake: EventFd::new(0)?,
        })
    }

    pub(super) fn schedule(&self, queue: Arc<dyn Serve>) {
        let mut state = lock(&self.state);
        if !state.stop {
            state.ready.push_back(queue);
        }
        self.wake_if_asleep(&mut state);
    }

    pub(super) fn stop(&self) {
        let mut state = lock(&self.state);
        state.stop = true;
        state.ready.clear();
        self.wake_if_asleep(&mut state);
    }

    /// The thread: serves ready queues burst by burst, sleeps when there are none.
    pub(super) fn run(&self) {
        loop {
            let mut state = lock(&self.state);
            if state.stop {
                return;
            }
            let Some(queue) = state.ready.pop_front() else {
                state.asleep = true;
                drop(state);
                if let Err(failure) = self.wake.read()
                    && failure.kind() != io::ErrorKind::Interrupted
                {
                    error!("an NVMe I/O thread cannot wait for work: {failure}");
                    return;
                }
                continue;
            };
            drop(state);
            if Arc::clone(&queue).serve() {
                self.schedule(queue);
            }
        }
    }

    /// One write a sleep: a busy thread looks at the mailbox anyway.
    fn wake_if_asleep(&self, state: &mut State) {
        if std::mem::take(&mut state.asleep)
            && let Err(failure) = self.wake.write(1)
        {
            error!("an NVMe I/O thread cannot be woken: {failure}");
        }
    }
}
