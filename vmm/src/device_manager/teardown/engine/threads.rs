//! The three roles of a teardown's threads: the calling thread, workers, and the keeper of the timers.
//! Every wait of theirs is for work or for a timer, never for one particular device.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use api::report::Outcome;
use devices::lifecycle::{Deadline, Phases};

use super::state::State;
use super::{Observer, Stamp, Target};
use crate::device_manager::teardown::graph::Graph;
use crate::device_manager::teardown::policy::Rules;
use crate::device_manager::teardown::schedule::Schedule;

/// Small, so that the C library keeps the stacks of 64 workers from one teardown to the next.
const STACK_SIZE: usize = 512 << 10;

/// Where threads come from.
pub trait Spawn: Send + Sync {
    /// Runs `work` on a thread of its own, which nobody joins.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The operating system's threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsThreads;

impl Spawn for OsThreads {
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_SIZE)
            .spawn(work)
            .map(drop)
    }
}

/// What a thread does next.
enum Step {
    /// Calls a device.
    Run(usize),
    /// Waits, for there is nothing for it to do now.
    Wait,
    /// Ends, for nothing is left.
    Leave,
}

/// What is done once the lock is released, because it takes long or leads out of the module.
#[derive(Default)]
struct Errands {
    news: Vec<(usize, Outcome)>,
    make_workers: usize,
    make_keeper: bool,
}

impl Errands {
    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.make_workers == 0 && !self.make_keeper
    }
}

/// All threads of one teardown.
pub(super) struct Crew {
    state: Mutex<State>,
    caller: Condvar,
    worker: Condvar,
    keeper: Condvar,
    graph: Arc<Graph>,
    target: Arc<dyn Target>,
    observer: Arc<dyn Observer>,
    threads: Arc<dyn Spawn>,
}

impl Crew {
    pub(super) fn new(
        graph: Arc<Graph>,
        rules: Arc<Rules>,
        workers: u16,
        target: Arc<dyn Target>,
        observer: Arc<dyn Observer>,
        threads: Arc<dyn Spawn>,
    ) -> Self {
        let schedule = Schedule::new(&graph, rules);
        Self {
            state: Mutex::new(State::new(schedule, usize::from(workers))),
            caller: Condvar::new(),
            worker: Condvar::new(),
            keeper: Condvar::new(),
            graph,
            target,
            observer,
            threads,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamps, the most workers used at once, and warnings.
    pub(super) fn take_result(&self, begin: Instant) -> (Vec<Stamp>, u16, Vec<String>) {
        let mut state = self.lock();
        let warnings = std::mem::take(&mut state.warnings);
        (
            state.take_stamps(begin),
            state.running_peak as u16,
            warnings,
        )
    }

    /// The calling thread.
    pub(super) fn drive(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            state.serve_timers();
            let device = state
                .schedule
                .start_quick()
                .or_else(|| state.schedule.start_sync());
            // Workers that exist go on with the rest; without threads, it is done here.
            let device = match device {
                None if state.without_threads => state.schedule.start_blocking(),
                device => device,
            };
            let (step, mut errands) = self.next(&mut state, device, false);
            state = match step {
                Step::Run(device) => {
                    // Nobody serves timers while this thread blocks in a device's call.
                    errands.make_keeper = self.graph.node(device).blocking
                        && !state.keeper
                        && !state.without_threads
                        && state.schedule.left_async() > 0;
                    state.keeper |= errands.make_keeper;
                    self.run(state, device, errands).0
                }
                _ if !errands.is_empty() => self.do_errands(state, errands),
                Step::Leave if state.telling == 0 => return,
                Step::Wait | Step::Leave => self.wait_as_caller(state),
            };
        }
    }

    fn wait_as_caller<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.caller_waits = true;
        let mut state = if state.keeper {
            self.caller
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner)
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
            None => on.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                on.wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        state.keeper_waits = false;
        state
    }

    /// A worker, from when it has come to when nothing is left.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        state.coming -= 1;
        loop {
            let device = match state.schedule.start_quick() {
                None if state.running < state.workers => state.schedule.start_blocking(),
                device => device,
            };
            let (step, errands) = self.next(&mut state, device, true);
            state = match step {
                Step::Run(device) => {
                    let (state, in_time) = self.run(state, device, errands);
                    if !in_time {
                        // Given up meanwhile, and perhaps replaced.
                        drop(state);
                        self.observer.returned_late(device);
                        return;
                    }
                    state
                }
                _ if !errands.is_empty() => self.do_errands(state, errands),
                Step::Wait => self.wait_as_worker(state),
                Step::Leave => return,
            };
        }
    }

    fn wait_as_worker<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.idle += 1;
        while state.calls == 0 && state.schedule.left() > 0 {
            state = self
                .worker
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.calls > 0 {
            state.calls -= 1;
            state.coming -= 1;
        }
        state
    }

    /// The keeper of the timers, from when the calling thread cannot keep them to when nothing is left.
    fn keep(self: &Arc<Self>) {
        let mut state = self.lock();
        loop {
            state.serve_timers();
            let device = state.schedule.start_quick();
            let (step, errands) = self.next(&mut state, device, false);
            state = match step {
                Step::Run(device) => self.run(state, device, errands).0,
                _ if !errands.is_empty() => self.do_errands(state, errands),
                Step::Wait => self.wait_for_timer(state, &self.keeper),
                Step::Leave => return,
            };
        }
    }

    /// The next step of a thread that picked `device`, and what it has to see to before: every change
    /// of the state ends here, so that whatever the thread leaves has somebody to do it.
    fn next(&self, state: &mut State, device: Option<usize>, as_worker: bool) -> (Step, Errands) {
        let step = match device {
            Some(device) => {
                if as_worker && self.graph.node(device).blocking {
                    state.claim_worker(device);
                }
                Step::Run(device)
            }
            None if state.schedule.left() == 0 => Step::Leave,
            None => Step::Wait,
        };
        let make_workers = self.call_workers(state);
        self.wake(state);
        let news = std::mem::take(&mut state.news);
        state.telling += usize::from(!news.is_empty());
        (
            step,
            Errands {
                news,
                make_workers,
                make_keeper: false,
            },
        )
    }

    fn call_workers(&self, state: &mut State) -> usize {
        let (wake, make) = state.call_workers();
        for _ in 0..wake {
            self.worker.notify_one();
        }
        make
    }

    /// Wakes those for whom the state holds something, each once.
    fn wake(&self, state: &mut State) {
        let over = state.schedule.left() == 0;
        if over && !std::mem::replace(&mut state.over, true) {
            self.worker.notify_all();
            self.keeper.notify_one();
        }
        if state.keeper && state.oversleeps() {
            state.keeper_waits = false;
            self.keeper.notify_one();
        }
        if state.caller_waits {
            let left_over = state.without_threads && state.schedule.blocking_ready() > 0;
            let finished = over && state.telling == 0;
            if finished
                || left_over
                || state.schedule.has_sync()
                || (!state.keeper && state.oversleeps())
            {
                state.caller_waits = false;
                self.caller.notify_one();
            }
        }
    }

    /// Calls the device. False if it was given up before it returned.
    fn run<'a>(
        self: &'a Arc<Self>,
        state: MutexGuard<'a, State>,
        device: usize,
        errands: Errands,
    ) -> (MutexGuard<'a, State>, bool) {
        // Errands first: the device's time begins with its call.
        let mut state = if errands.is_empty() {
            state
        } else {
            self.do_errands(state, errands)
        };
        let by = state.begin(&self.graph, device, Instant::now());
        self.wake(&mut state);
        drop(state);
        let mut phases = Phases::default();
        let result = self.target.shut_down(device, Deadline::at(by), &mut phases);
        let now = Instant::now();
        let mut state = self.lock();
        let in_time = state.returned(device, by, now, phases, result);
        if !in_time {
            let id = &self.graph.node(device).id;
            state
                .warnings
                .push(format!("{id} returned after it had been given up"));
        }
        (state, in_time)
    }

    fn do_errands<'a>(
        self: &'a Arc<Self>,
        state: MutexGuard<'a, State>,
        errands: Errands,
    ) -> MutexGuard<'a, State> {
        drop(state);
        for _ in 0..errands.make_workers {
            let crew = Arc::clone(self);
            if let Err(error) = self
                .threads
                .spawn("teardown", Box::new(move || crew.work()))
            {
                let mut state = self.lock();
                state.coming -= 1;
                self.go_without_threads(&mut state, &error);
            }
        }
        if errands.make_keeper {
            let crew = Arc::clone(self);
            if let Err(error) = self
                .threads
                .spawn("teardown-clock", Box::new(move || crew.keep()))
            {
                let mut state = self.lock();
                state.keeper = false;
                self.go_without_threads(&mut state, &error);
            }
        }
        for (device, outcome) in &errands.news {
            self.observer.ended(*device, outcome);
        }
        let mut state = self.lock();
        state.telling -= usize::from(!errands.news.is_empty());
        self.wake(&mut state);
        state
    }

    fn go_without_threads(&self, state: &mut State, error: &io::Error) {
        if !std::mem::replace(&mut state.without_threads, true) {
            state.warnings.push(format!(
                "a thread could not be made ({error}): the calling thread shuts asynchronous devices down as well"
            ));
        }
        // Workers that are idle now were passed over for the one that does not come.
        self.call_workers(state);
        self.wake(state);
    }
}
