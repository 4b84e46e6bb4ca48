//! A teardown to explore: its devices, what is changed while it runs, and what must hold whatever the
//! schedule.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::config::TeardownPolicy;
use api::report::Outcome;
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};
use shuttle::rand::{Rng, thread_rng};

use super::crew::{Crew, Ended};
use super::sync;
use crate::device_manager::teardown::clock::{Cost, predict};
use crate::device_manager::teardown::engine::{AddError, Observer, Removal, Spawn, Stamp, Target};
use crate::device_manager::teardown::graph::Node;
use crate::device_manager::teardown::policy::Rules;
use crate::device_manager::teardown::tests::oracle::Machine;

/// What another thread does meanwhile.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Remove(usize),
    /// Registers a device behind this one.
    AddBehind(Option<usize>),
}

/// What is explored.
#[derive(Clone)]
pub(super) struct Case {
    pub machine: Machine,
    pub policy: TeardownPolicy,
    pub workers: u16,
    /// So many threads can be made.
    pub threads: usize,
    /// Each by a thread of its own, at some moment.
    pub changes: Vec<Change>,
    /// Whether the host is slow: deadlines pass at any moment, waits end for no reason.
    pub slow_host: bool,
}

impl Case {
    pub fn new(machine: Machine, policy: TeardownPolicy, workers: u16) -> Self {
        Self {
            machine,
            policy,
            workers,
            threads: usize::MAX,
            changes: Vec::new(),
            slow_host: false,
        }
    }

    /// Under random schedules, and under some in which few threads are ever overtaken.
    pub fn explore(self, rounds: usize) {
        let config = || {
            let mut config = shuttle::Config::new();
            config.stack_size = 256 << 10;
            config
        };
        let (random, ordered) = (self.clone(), self);
        let scheduler = shuttle::scheduler::RandomScheduler::new(rounds);
        shuttle::Runner::new(scheduler, config()).run(move || random.run());
        let scheduler = shuttle::scheduler::PctScheduler::new(3, rounds);
        shuttle::Runner::new(scheduler, config()).run(move || ordered.run());
    }

    fn run(&self) {
        let devices = Arc::new(Devices::of(&self.machine.costs));
        let threads = Arc::new(Threads {
            left: AtomicUsize::new(self.threads),
            made: Mutex::default(),
        });
        let graph = Arc::new(self.machine.graph.clone());
        let crew = Arc::new(Crew::new(
            Arc::clone(&graph),
            Arc::new(Rules::new(&graph, self.policy)),
            self.workers,
            Arc::clone(&devices) as _,
            Arc::clone(&devices) as _,
            Arc::clone(&threads) as _,
        ));
        let begin = sync::now();
        let mut others: Vec<_> = self
            .changes
            .iter()
            .map(|change| {
                let (crew, devices, change) =
                    (Arc::clone(&crew), Arc::clone(&devices), change.clone());
                sync::spawn(move || devices.change(&crew, &change))
            })
            .collect();
        let onlooker = Arc::clone(&crew);
        others.push(sync::spawn(move || {
            for _ in 0..3 {
                let state = onlooker.lock();
                assert_eq!(state.open().len(), state.schedule.left());
            }
        }));
        if self.slow_host {
            others.push(sync::spawn(|| {
                for _ in 0..12 {
                    shuttle::thread::yield_now();
                    sync::disturb();
                }
            }));
        }
        crew.drive();
        assert_eq!(crew.lock().open(), [], "it returned before the end");
        let ended = crew.take_result(begin);
        for other in others {
            sync::join(other);
        }
        loop {
            let thread = threads.made.lock().unwrap().pop();
            let Some(thread) = thread else { break };
            sync::join(thread);
        }
        devices.check(&ended, self);
        if self.is_prompt() {
            check_starts(&ended, begin);
            if self.changes.is_empty() {
                self.check_times(&ended.stamps, begin);
            }
        }
    }

    /// Whether no device has to wait for a worker or for the host.
    fn is_prompt(&self) -> bool {
        !self.slow_host
            && self.threads == usize::MAX
            && usize::from(self.workers) >= self.machine.costs.len()
    }

    fn check_times(&self, stamps: &[Stamp], begin: Instant) {
        let workers = usize::from(self.workers);
        let plan = predict(
            &self.machine.graph,
            self.policy,
            &self.machine.costs,
            workers,
        );
        for (device, (stamp, planned)) in stamps.iter().zip(&plan.devices).enumerate() {
            let span = (stamp.start - begin, stamp.end - begin);
            assert_eq!(span, (planned.start, planned.end), "{device}");
        }
    }
}

/// The devices, and who was told what of them.
struct Devices {
    costs: Vec<Cost>,
    calls: Vec<AtomicUsize>,
    told: Mutex<Vec<usize>>,
    removed: Mutex<Vec<usize>>,
    joined: AtomicUsize,
}

/// Room for the devices that join.
const LATE: usize = 4;

impl Devices {
    fn of(costs: &[Cost]) -> Self {
        Self {
            costs: costs.to_vec(),
            calls: (0..costs.len() + LATE)
                .map(|_| AtomicUsize::new(0))
                .collect(),
            told: Mutex::default(),
            removed: Mutex::default(),
            joined: AtomicUsize::new(0),
        }
    }

    fn change(self: Arc<Self>, crew: &Arc<Crew>, change: &Change) {
        sync::sleep(Duration::from_millis(thread_rng().gen_range(0..4)));
        match *change {
            Change::Remove(device) => {
                if crew.remove(device) == Ok(Removal::Removed) {
                    self.removed.lock().unwrap().push(device);
                }
            }
            Change::AddBehind(parent) => {
                let id = format!("late{}", thread_rng().gen_range(0..u64::MAX));
                let node = Node {
                    parent,
                    ..Node::new(id, "test")
                };
                match crew.add(node, Arc::clone(&self) as _) {
                    Ok(_) => _ = self.joined.fetch_add(1, Ordering::SeqCst),
                    Err(error) => assert!(matches!(error, AddError::Over { .. }), "{error}"),
                }
            }
        }
    }

    fn check(&self, ended: &Ended, case: &Case) {
        let stamps = &ended.stamps;
        let joined = self.joined.load(Ordering::SeqCst);
        assert_eq!(stamps.len(), self.costs.len() + joined);
        assert!(ended.workers_used <= case.workers);
        let removed = self.removed.lock().unwrap();
        for (device, stamp) in stamps.iter().enumerate() {
            let calls = self.calls[device].load(Ordering::SeqCst);
            let removed = removed.contains(&device);
            assert_eq!(calls, usize::from(!removed), "calls of {device}");
            assert_eq!(stamp.outcome == Outcome::Removed, removed, "{device}");
        }
        let mut told = self.told.lock().unwrap().clone();
        told.sort_unstable();
        assert!(told.into_iter().eq(0..stamps.len()), "each is told once");
        let mut warnings = ended.warnings.iter();
        let no_thread = warnings.any(|warning| warning.contains("could not be made"));
        assert!(!no_thread || case.threads < usize::MAX);
        check_order(ended);
    }
}

/// An asynchronous device starts the moment the last that it waits for has ended.
fn check_starts(ended: &Ended, begin: Instant) {
    let (stamps, rules, graph) = (&ended.stamps, &ended.rules, &ended.graph);
    let locks = (0..graph.len()).any(|device| graph.locked_parent(device).is_some());
    if locks || rules.tasks.is_some() {
        return;
    }
    for (device, stamp) in stamps.iter().enumerate() {
        if rules.asynchronous[device] && stamp.outcome != Outcome::Removed {
            let waits_on = rules.waits_on[device].iter();
            let last = waits_on.map(|&before| stamps[before].end).max();
            assert_eq!(stamp.start, last.unwrap_or(begin), "the start of {device}");
        }
    }
}

/// Holds the stamps against the rules, with what joined.
fn check_order(ended: &Ended) {
    let (stamps, rules) = (&ended.stamps, &ended.rules);
    let in_order = |before: usize, device: usize| {
        assert!(
            stamps[before].end <= stamps[device].start,
            "{device} started before {before} had ended"
        );
    };
    let called = |device: usize| stamps[device].outcome != Outcome::Removed;
    for device in (0..stamps.len()).filter(|&device| called(device)) {
        for &before in &rules.waits_on[device] {
            in_order(before, device);
        }
        if let Some(tasks) = &rules.tasks {
            let until = tasks.waits_for[device];
            let older = (0..stamps.len()).filter(|&on| (1..=until).contains(&tasks.cookies[on]));
            older.for_each(|before| in_order(before, device));
        }
    }
    let turns: Vec<usize> = rules
        .lane
        .iter()
        .copied()
        .filter(|&at| called(at))
        .collect();
    turns.windows(2).for_each(|pair| in_order(pair[0], pair[1]));
    for device in 0..stamps.len() {
        let Some(parent) = ended.graph.locked_parent(device) else {
            continue;
        };
        for other in 0..stamps.len() {
            let locks = other == parent || ended.graph.locked_parent(other) == Some(parent);
            if locks && other != device && called(device) && called(other) {
                let (one, two) = (&stamps[device], &stamps[other]);
                let apart = one.end <= two.start || two.end <= one.start;
                assert!(apart, "{device} and {other} held one lock");
            }
        }
    }
}

impl Target for Devices {
    fn shut_down(
        &self,
        device: usize,
        _: Deadline,
        _: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        self.calls[device].fetch_add(1, Ordering::SeqCst);
        let cost = self.costs.get(device).copied().unwrap_or_default();
        sync::sleep(cost.work);
        Ok(if cost.latency.is_zero() {
            Finish::Now
        } else {
            Finish::At(sync::now() + cost.latency)
        })
    }
}

impl Observer for Devices {
    fn ended(&self, device: usize, _: &Outcome) {
        shuttle::thread::yield_now();
        self.told.lock().unwrap().push(device);
    }
}

/// Threads that are drawn; only so many.
struct Threads {
    left: AtomicUsize,
    made: Mutex<Vec<shuttle::thread::JoinHandle<()>>>,
}

impl Spawn for Threads {
    fn spawn(&self, _: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let take_one = |left: usize| left.checked_sub(1);
        if self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
            .is_err()
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let thread = sync::spawn(work);
        self.made.lock().unwrap().push(thread);
        Ok(())
    }
}
