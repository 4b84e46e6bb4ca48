//! What all threads of a teardown do alike: call a device, and leave the state so that whatever there is
//! to do has somebody to do it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use api::report::Outcome;
use devices::lifecycle::{Deadline, Phases};

use super::state::State;
use super::sync::{Condvar, Mutex, MutexGuard, now};
use crate::device_manager::teardown::engine::{AddError, Observer, Removal, Spawn, Stamp, Target};
use crate::device_manager::teardown::graph::{Graph, GraphError, Node};
use crate::device_manager::teardown::policy::Rules;

/// What a thread does next.
pub(super) enum Step {
    /// Calls a device.
    Run(usize),
    /// Waits, for there is nothing for it to do now.
    Wait,
    /// Ends, for nothing is left.
    Leave,
}

/// What is done with the lock released, because it takes long or leads out of the module. A thread keeps
/// one and fills it anew.
#[derive(Default)]
pub(super) struct Errands {
    news: Vec<(usize, Outcome)>,
    make_workers: usize,
    pub(super) make_keeper: bool,
}

impl Errands {
    pub(super) fn is_empty(&self) -> bool {
        self.news.is_empty() && self.make_workers == 0 && !self.make_keeper
    }
}

/// All threads of one teardown.
pub(super) struct Crew {
    state: Mutex<State>,
    pub(super) caller: Condvar,
    pub(super) worker: Condvar,
    pub(super) keeper: Condvar,
    target: Arc<dyn Target>,
    pub(super) observer: Arc<dyn Observer>,
    threads: Arc<dyn Spawn>,
}

/// What is left of a teardown when it is over.
pub(super) struct Ended {
    pub(super) graph: Arc<Graph>,
    pub(super) rules: Arc<Rules>,
    pub(super) stamps: Vec<Stamp>,
    /// The most workers used at once.
    pub(super) workers_used: u16,
    pub(super) warnings: Vec<String>,
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
        Self {
            state: Mutex::new(State::new(graph, rules, usize::from(workers))),
            caller: Condvar::default(),
            worker: Condvar::default(),
            keeper: Condvar::default(),
            target,
            observer,
            threads,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What came of it; `begin` is when the teardown began.
    pub(super) fn take_result(&self, begin: Instant) -> Ended {
        let mut state = self.lock();
        Ended {
            graph: Arc::clone(&state.graph),
            rules: Arc::clone(state.schedule.rules()),
            stamps: state.take_stamps(begin),
            workers_used: state.running_peak as u16,
            warnings: std::mem::take(&mut state.warnings),
        }
    }

    /// See `Monitor::remove`.
    pub(super) fn remove(self: &Arc<Self>, device: usize) -> Result<Removal, GraphError> {
        let mut state = self.lock();
        let found = state.remove(device)?;
        self.hand_over(state);
        Ok(found)
    }

    /// See `Monitor::add`.
    pub(super) fn add(
        self: &Arc<Self>,
        node: Node,
        target: Arc<dyn Target>,
    ) -> Result<usize, AddError> {
        let mut state = self.lock();
        let device = state.add(node, target)?;
        self.hand_over(state);
        Ok(device)
    }

    /// Sees to what a change from outside brings, and leaves the calls to the crew.
    fn hand_over(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut errands = Errands::default();
        self.settle(&mut state, &mut errands, false);
        // A thread of the crew calls what it made ready; here somebody who waits has to.
        if state.schedule.has_quick() && state.keeper_waits {
            state.keeper_waits = false;
            if state.keeper {
                self.keeper.notify_one();
            } else {
                state.caller_waits = false;
                self.caller.notify_one();
            }
        }
        if !errands.is_empty() {
            drop(self.do_errands(state, &mut errands));
        }
    }

    /// The next step of a thread that picked `device`, and what it has to see to before.
    pub(super) fn next(
        &self,
        state: &mut State,
        device: Option<usize>,
        errands: &mut Errands,
        as_caller: bool,
    ) -> Step {
        self.settle(state, errands, as_caller);
        match device {
            Some(device) => Step::Run(device),
            None if state.finished() => Step::Leave,
            None => Step::Wait,
        }
    }

    /// Every change of the state ends here: brings in who is needed, and takes the news.
    fn settle(&self, state: &mut State, errands: &mut Errands, as_caller: bool) {
        errands.make_workers = self.call_workers(state, as_caller);
        self.wake(state);
        // They were empty: both buffers stay in use.
        std::mem::swap(&mut errands.news, &mut state.news);
        state.telling += usize::from(!errands.news.is_empty());
    }

    fn call_workers(&self, state: &mut State, as_caller: bool) -> usize {
        let (wake, make) = state.call_workers(as_caller);
        for _ in 0..wake {
            self.worker.notify_one();
        }
        make
    }

    /// Wakes those for whom the state holds something, each once.
    fn wake(&self, state: &mut State) {
        let over = state.finished();
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
                || state.short_of_workers
                || state.schedule.has_sync()
                || (!state.keeper && state.oversleeps())
            {
                state.caller_waits = false;
                self.caller.notify_one();
            }
        }
    }

    /// Calls the device. False if it was given up before it returned.
    pub(super) fn run<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        device: usize,
        errands: &mut Errands,
    ) -> (MutexGuard<'a, State>, bool) {
        let budget = state.graph.node(device).deadline;
        let joined = state.joined(device);
        let target = joined.as_ref().unwrap_or(&self.target);
        // Errands first: the device's time begins with its call.
        let start;
        if state.is_on_worker(device) {
            if !errands.is_empty() {
                state = self.do_errands(state, errands);
            }
            start = now();
            state.begin_on_worker(device, start, start + budget);
            self.wake(&mut state);
            drop(state);
        } else {
            drop(state);
            self.see_to(errands);
            start = now();
        }
        let by = start + budget;
        let mut phases = Phases::default();
        let result = target.shut_down(device, Deadline::at(by), &mut phases);
        let end = now();
        let mut state = self.lock();
        seen_to(&mut state, errands);
        let in_time = state.returned(device, (start, by, end), phases, result);
        (state, in_time)
    }

    pub(super) fn do_errands<'a>(
        self: &'a Arc<Self>,
        state: MutexGuard<'a, State>,
        errands: &mut Errands,
    ) -> MutexGuard<'a, State> {
        drop(state);
        self.see_to(errands);
        let mut state = self.lock();
        seen_to(&mut state, errands);
        self.wake(&mut state);
        state
    }

    fn see_to(self: &Arc<Self>, errands: &Errands) {
        for _ in 0..errands.make_workers {
            let crew = Arc::clone(self);
            let work = Box::new(move || crew.work());
            if let Err(error) = self.threads.spawn("teardown", work) {
                let mut state = self.lock();
                state.coming -= 1;
                self.go_without_threads(&mut state, &error);
            }
        }
        if errands.make_keeper {
            let crew = Arc::clone(self);
            let keep = Box::new(move || crew.keep());
            if let Err(error) = self.threads.spawn("teardown-clock", keep) {
                let mut state = self.lock();
                state.keeper = false;
                self.go_without_threads(&mut state, &error);
            }
        }
        for (device, outcome) in &errands.news {
            self.observer.ended(*device, outcome);
        }
    }

    fn go_without_threads(&self, state: &mut State, error: &io::Error) {
        if !std::mem::replace(&mut state.without_threads, true) {
            state.warnings.push(format!(
                "a thread could not be made ({error}): the calling thread shuts asynchronous devices down as well"
            ));
        }
        // Workers that are idle now were passed over for the one that does not come.
        self.call_workers(state, false);
        self.wake(state);
    }
}

/// Notes that the errands were seen to.
fn seen_to(state: &mut State, errands: &mut Errands) {
    state.telling -= usize::from(!errands.news.is_empty());
    errands.news.clear();
    errands.make_workers = 0;
    errands.make_keeper = false;
}
