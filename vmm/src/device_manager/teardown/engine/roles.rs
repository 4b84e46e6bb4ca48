//! The three roles of a teardown's threads: the calling thread, workers, and the keeper of the timers.
//! Every wait of theirs is for work or for a timer, never for one particular device.

use std::sync::Arc;

use super::crew::{Crew, Errands, Step};
use super::state::State;
use super::sync::{Condvar, MutexGuard};

impl Crew {
    /// The calling thread.
    pub(super) fn drive(self: &Arc<Self>) {
        let mut errands = Errands::default();
        let mut state = self.lock();
        state.begun = true;
        loop {
            state.serve_timers();
            let schedule = &mut state.schedule;
            let device = schedule.start_quick().or_else(|| schedule.start_sync());
            // Workers that exist go on with the rest; without threads, it is done here.
            let device = match device {
                None if state.without_threads => state.schedule.start_blocking(),
                device => device,
            };
            let step = self.next(&mut state, device, &mut errands, true);
            state = match step {
                Step::Run(device) => {
                    // Nobody serves timers while this thread blocks in a device's call.
                    errands.make_keeper = state.schedule.left_async() > 0
                        && state.graph.node(device).blocking
                        && !state.keeper
                        && !state.without_threads;
                    state.keeper |= errands.make_keeper;
                    state.caller_busy = true;
                    let mut state = self.run(state, device, &mut errands).0;
                    state.caller_busy = false;
                    state
                }
                _ if !errands.is_empty() => self.do_errands(state, &mut errands),
                Step::Leave if state.telling == 0 => return,
                Step::Wait | Step::Leave => self.wait_as_caller(state),
            };
        }
    }

    fn wait_as_caller<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.caller_waits = true;
        let mut state = if state.keeper {
            self.caller.wait(state)
        } else {
            self.wait_for_timer(state, &self.caller)
        };
        state.caller_waits = false;
        state
    }

    fn wait_for_timer<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        on: &Condvar,
    ) -> MutexGuard<'a, State> {
        state.keeper_waits = true;
        state.wakes_at = state.next_timer();
        let mut state = match state.wakes_at {
            None => on.wait(state),
            Some(at) => on.wait_until(state, at),
        };
        state.keeper_waits = false;
        state
    }

    /// A worker, from when it has come to when nothing is left.
    pub(super) fn work(self: &Arc<Self>) {
        let mut errands = Errands::default();
        let mut state = self.lock();
        state.coming -= 1;
        loop {
            let device = match state.schedule.start_quick() {
                None if state.running < state.workers => {
                    let device = state.schedule.start_blocking();
                    if let Some(device) = device {
                        state.claim_worker(device);
                    }
                    device
                }
                device => device,
            };
            let step = self.next(&mut state, device, &mut errands, false);
            state = match step {
                Step::Run(device) => {
                    let (state, in_time) = self.run(state, device, &mut errands);
                    if !in_time {
                        // Given up meanwhile, and perhaps replaced.
                        drop(state);
                        self.observer.returned_late(device);
                        return;
                    }
                    state
                }
                _ if !errands.is_empty() => self.do_errands(state, &mut errands),
                Step::Wait => self.wait_as_worker(state),
                Step::Leave => return,
            };
        }
    }

    fn wait_as_worker<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.idle += 1;
        while state.calls == 0 && !state.finished() {
            state = self.worker.wait(state);
        }
        if state.calls > 0 {
            state.calls -= 1;
            state.coming -= 1;
        }
        state
    }

    /// The keeper of the timers, from when the calling thread cannot keep them to when nothing is left.
    pub(super) fn keep(self: &Arc<Self>) {
        let mut errands = Errands::default();
        let mut state = self.lock();
        loop {
            state.serve_timers();
            let device = state.schedule.start_quick();
            let step = self.next(&mut state, device, &mut errands, false);
            state = match step {
                Step::Run(device) => self.run(state, device, &mut errands).0,
                _ if !errands.is_empty() => self.do_errands(state, &mut errands),
                Step::Wait => self.wait_for_timer(state, &self.keeper),
                Step::Leave => return,
            };
        }
    }
}
