//! The threaded engine: runs a schedule on the calling thread, on workers made on need, and on a timer
//! heap. Stamps in, stamps out; it knows no KVM and no PCI.
//!
//! Who does what. The calling thread runs synchronous devices and serves timers in between. Calls that
//! may block run on workers, whose number is bounded; a call that cannot is made by whichever thread
//! finds it ready. Only if the calling thread is about to block in a synchronous device while
//! asynchronous ones are under way, a thread of its own takes over the timers.
//!
//! Deadlines. A call on a worker is given up at its deadline: its dependants go on, the worker is left
//! behind and another may take its place. A call on the calling thread cannot be taken from it: making
//! a thread for it would break "nothing asynchronous, no threads". It is handed its deadline and
//! expected to keep it; an overrun counts as timed out when it returns.

mod changes;
mod crew;
mod in_turn;
mod monitor;
mod roles;
mod spawn;
mod state;
mod sync;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use api::config::TeardownPolicy;
use api::report::Outcome;
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};

use super::graph::Graph;
use super::policy::Rules;
use super::report::TeardownRun;

pub use monitor::{AddError, Monitor, Open, Removal};
pub use spawn::{OsThreads, Spawn};

use crew::{Crew, Ended};

/// What the engine calls.
pub trait Target: Send + Sync + 'static {
    /// Shuts down the device numbered `device`; see `devices::lifecycle::Device`. Called at most once a
    /// teardown. Owned by the engine's threads, because one may outlive the teardown in a call that
    /// was given up.
    fn shut_down(
        &self,
        device: usize,
        by: Deadline,
        phases: &mut Phases,
    ) -> Result<Finish, ShutdownError>;
}

/// Is told how a teardown goes, on whichever thread finds out. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// The device has ended or was given up. Told once for every device, before the teardown returns.
    fn ended(&self, device: usize, outcome: &Outcome);

    /// A device that had been given up has returned after all; what it returned was dropped. May be
    /// told long after the teardown.
    fn returned_late(&self, device: usize) {
        let _ = device;
    }
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn ended(&self, _device: usize, _outcome: &Outcome) {}
}

/// What the engine measured of one device.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// When its call was made.
    pub start: Instant,
    /// When it ended or was given up.
    pub end: Instant,
    /// Its phases; none if it was given up while its call ran.
    pub phases: Phases,
    /// How it ended.
    pub outcome: Outcome,
}

/// One teardown, ready to run.
pub struct Teardown {
    graph: Arc<Graph>,
    rules: Arc<Rules>,
    target: Arc<dyn Target>,
    observer: Arc<dyn Observer>,
    threads: Arc<dyn Spawn>,
    /// Made when it is needed.
    crew: OnceLock<Arc<Crew>>,
    policy: TeardownPolicy,
    workers: u16,
}

impl Teardown {
    /// Freezes the rules of `policy` for `graph`: neither can be changed for this teardown but by
    /// [`Monitor::remove`] and [`Monitor::add`]. At most `workers` calls that may block run at once
    /// beside the calling thread's; zero counts as one.
    pub fn new(
        graph: Arc<Graph>,
        policy: TeardownPolicy,
        workers: u16,
        target: Arc<dyn Target>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self::with_threads(
            graph,
            policy,
            workers,
            target,
            observer,
            Arc::new(OsThreads),
        )
    }

    /// [`Teardown::new`] with threads from elsewhere.
    pub fn with_threads(
        graph: Arc<Graph>,
        policy: TeardownPolicy,
        workers: u16,
        target: Arc<dyn Target>,
        observer: Arc<dyn Observer>,
        threads: Arc<dyn Spawn>,
    ) -> Self {
        Self {
            rules: Arc::new(Rules::new(&graph, policy)),
            graph,
            target,
            observer,
            threads,
            crew: OnceLock::new(),
            policy,
            workers,
        }
    }

    fn crew(&self) -> &Arc<Crew> {
        self.crew.get_or_init(|| {
            Arc::new(Crew::new(
                Arc::clone(&self.graph),
                Arc::clone(&self.rules),
                self.workers,
                Arc::clone(&self.target),
                Arc::clone(&self.observer),
                Arc::clone(&self.threads),
            ))
        })
    }

    /// A view of the teardown for other threads, before, while and after it runs.
    pub fn monitor(&self) -> Monitor {
        Monitor {
            crew: Arc::clone(self.crew()),
        }
    }

    /// Shuts every device down; returns when each has ended or was given up.
    pub fn run(self) -> TeardownRun {
        let begin = Instant::now();
        // Where there is a monitor, it may look at the crew, or change it, at any time.
        let ended = if self.rules.all_in_turn() && self.crew.get().is_none() {
            in_turn::run(&self)
        } else {
            let crew = self.crew();
            crew.drive();
            crew.take_result(begin)
        };
        let Ended {
            graph,
            rules,
            stamps,
            workers_used,
            mut warnings,
        } = ended;
        warnings.splice(0..0, rules.warnings.iter().cloned());
        TeardownRun {
            graph,
            rules,
            policy: self.policy,
            workers: self.workers,
            workers_used,
            begin,
            stamps,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests;
