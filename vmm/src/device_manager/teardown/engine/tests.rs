//! The engine on real threads.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::*;
use crate::device_manager::teardown::clock::Cost;
use crate::device_manager::teardown::graph::Node;
use crate::device_manager::teardown::tests::oracle::{self, Machine, Span};
use api::config::OnTimeout;

use TeardownPolicy::{Completion, Cookie, Serial};

mod changes;
mod crew;
mod deadlines;
mod explored;
mod order;
mod policies;
mod random;

/// Whoever waits in a test that passes has waited long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a device's call does.
type Work = dyn Fn() + Send + Sync;

/// Devices that sleep for their work, or do another, and name the moment of their latency.
struct Model {
    costs: Vec<Cost>,
    works: HashMap<usize, Arc<Work>>,
    fails: HashSet<usize>,
    calls: Vec<AtomicUsize>,
    threads: Mutex<HashSet<ThreadId>>,
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Model {
    fn of(machine: &Machine) -> Self {
        Self {
            costs: machine.costs.clone(),
            works: HashMap::new(),
            fails: HashSet::new(),
            calls: machine.costs.iter().map(|_| AtomicUsize::new(0)).collect(),
            threads: Mutex::default(),
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Has a device's call do this.
    fn works(&mut self, device: usize, work: impl Fn() + Send + Sync + 'static) {
        self.works.insert(device, Arc::new(work));
    }

    fn threads(&self) -> usize {
        self.threads.lock().unwrap().len()
    }
}

impl Target for Model {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        self.calls[device].fetch_add(1, Ordering::SeqCst);
        self.threads.lock().unwrap().insert(thread::current().id());
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let cost = self.costs[device];
        if let Some(work) = self.works.get(&device) {
            phases.run("work", || work());
        }
        if !cost.work.is_zero() {
            phases.run("work", || thread::sleep(cost.work));
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
        if self.fails.contains(&device) {
            return Err(ShutdownError::Host {
                doing: "reset".into(),
                source: io::Error::from_raw_os_error(5),
            });
        }
        Ok(if cost.latency.is_zero() {
            Finish::Now
        } else {
            Finish::At(Instant::now() + cost.latency)
        })
    }
}

#[derive(Default)]
struct Ear {
    ended: Mutex<Vec<(usize, Outcome)>>,
    late: Mutex<Vec<usize>>,
    /// Something was told.
    told: Condvar,
}

impl Ear {
    /// Waits until a device has ended; says how, or nothing if it does not.
    fn hears_end(&self, device: usize) -> Option<Outcome> {
        let find = |ended: &[(usize, Outcome)]| {
            let mut found = ended.iter().filter(|(of, _)| *of == device);
            found.next().map(|(_, outcome)| outcome.clone())
        };
        let ended = self.ended.lock().unwrap();
        let waits = |ended: &mut Vec<_>| find(ended).is_none();
        let waited = self.told.wait_timeout_while(ended, PATIENCE, waits);
        find(&waited.unwrap().0)
    }

    /// Waits until a device has returned after it was given up; says which have.
    fn hears_late(&self) -> Vec<usize> {
        let late = self.late.lock().unwrap();
        let waited = self
            .told
            .wait_timeout_while(late, PATIENCE, |late| late.is_empty());
        waited.unwrap().0.clone()
    }
}

impl Observer for Ear {
    fn ended(&self, device: usize, outcome: &Outcome) {
        self.ended.lock().unwrap().push((device, outcome.clone()));
        self.told.notify_all();
    }

    fn returned_late(&self, device: usize) {
        self.late.lock().unwrap().push(device);
        self.told.notify_all();
    }
}

/// What a hung device waits for.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    /// Those who were let through.
    passed: AtomicUsize,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        let waited = (self.opened).wait_timeout_while(open, PATIENCE, |open| !*open);
        let is_open = *waited.unwrap().0;
        self.passed
            .fetch_add(usize::from(is_open), Ordering::SeqCst);
    }
}

/// Threads, of which only the first few can be made.
struct Few(AtomicUsize, usize);

impl Spawn for Few {
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        if self.0.fetch_add(1, Ordering::SeqCst) >= self.1 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        OsThreads.spawn(name, work)
    }
}

struct Ran {
    run: TeardownRun,
    model: Arc<Model>,
    ear: Arc<Ear>,
    made: usize,
}

impl Ran {
    fn spans(&self) -> Vec<Span> {
        self.run
            .stamps
            .iter()
            .map(|stamp| (stamp.start - self.run.begin, stamp.end - self.run.begin))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        oracle::check(&self.run.graph, self.run.policy, &self.spans())?;
        for (device, calls) in self.model.calls.iter().enumerate() {
            // One with next to no time can be given up before its thread gets to call it.
            let at_least = usize::from(self.run.stamps[device].outcome != Outcome::TimedOut);
            if !(at_least..=1).contains(&calls.load(Ordering::SeqCst)) {
                return Err(format!("{device} was not called exactly once"));
            }
        }
        let told: HashSet<usize> = self
            .ear
            .ended
            .lock()
            .unwrap()
            .iter()
            .map(|(device, _)| *device)
            .collect();
        if told.len() != self.model.calls.len()
            || self.ear.ended.lock().unwrap().len() != told.len()
        {
            return Err("the observer was not told of every device exactly once".into());
        }
        Ok(())
    }

    fn took(&self) -> Duration {
        self.run.end() - self.run.begin
    }
}

fn run_model(
    machine: Machine,
    model: Model,
    policy: TeardownPolicy,
    workers: u16,
    threads: usize,
) -> Ran {
    run_heard(machine, model, Arc::default(), policy, workers, threads)
}

/// The same with an ear that devices listen to as well.
fn run_heard(
    machine: Machine,
    model: Model,
    ear: Arc<Ear>,
    policy: TeardownPolicy,
    workers: u16,
    threads: usize,
) -> Ran {
    let model = Arc::new(model);
    let few = Arc::new(Few(AtomicUsize::new(0), threads));
    let graph = Arc::new(machine.graph);
    let run = Teardown::with_threads(
        graph,
        policy,
        workers,
        Arc::clone(&model) as _,
        Arc::clone(&ear) as _,
        Arc::clone(&few) as _,
    )
    .run();
    let made = few.0.load(Ordering::SeqCst).min(threads);
    Ran {
        run,
        model,
        ear,
        made,
    }
}

fn run(machine: Machine, policy: TeardownPolicy, workers: u16) -> Ran {
    let model = Model::of(&machine);
    run_model(machine, model, policy, workers, usize::MAX)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// `count` asynchronous drives behind ports.
fn drives(count: usize, cost: Cost) -> Machine {
    let mut machine = Machine::new();
    for number in 0..count {
        machine.add(&format!("port{number}"), "", true, 0);
        let drive = machine.add(&format!("drive{number}"), &format!("port{number}"), true, 0);
        machine.costs[drive] = cost;
    }
    machine
}
