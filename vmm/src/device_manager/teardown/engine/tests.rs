//! The engine on real threads.

use std::collections::HashSet;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use api::config::OnTimeout;
use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::clock::Cost;
use crate::device_manager::teardown::graph::Node;
use crate::device_manager::teardown::oracle::{self, Machine, Span, machines};

use TeardownPolicy::{Completion, Serial};

/// Devices that sleep for their work and name the moment of their latency.
struct Model {
    costs: Vec<Cost>,
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
            fails: HashSet::new(),
            calls: machine.costs.iter().map(|_| AtomicUsize::new(0)).collect(),
            threads: Mutex::default(),
            now: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
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
}

impl Observer for Ear {
    fn ended(&self, device: usize, outcome: &Outcome) {
        self.ended.lock().unwrap().push((device, outcome.clone()));
    }

    fn returned_late(&self, device: usize) {
        self.late.lock().unwrap().push(device);
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
    let (model, ear) = (Arc::new(model), Arc::new(Ear::default()));
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

#[test]
fn t1_nothing_at_all_returns() {
    let ran = run(Machine::new(), Completion, 4);
    assert!(ran.run.stamps.is_empty());
    assert_eq!(ran.run.start(), ran.run.end());
}

#[test]
fn t11_blocking_siblings_overlap() {
    let ran = run(drives(16, Cost::work(ms(60))), Completion, 64);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.took() < ms(300), "{:?}", ran.took());
    assert_eq!(ran.run.workers_used, 16);
}

#[test]
fn t13_nothing_async_makes_no_thread() {
    for policy in [Serial, Completion] {
        let mut machine = drives(
            8,
            Cost {
                work: ms(1),
                latency: ms(2),
            },
        );
        for number in 0..4 {
            machine.add(&format!("legacy{number}"), "", false, 1);
        }
        if policy == Completion {
            let mut sync = Machine::new();
            for (node, cost) in machine.graph.nodes().iter().zip(&machine.costs) {
                sync.graph
                    .add(Node {
                        asynchronous: false,
                        ..node.clone()
                    })
                    .unwrap();
                sync.costs.push(*cost);
            }
            machine = sync;
        }
        let ran = run(machine, policy, 64);
        assert_eq!(ran.check(), Ok(()));
        assert_eq!(
            (ran.made, ran.model.threads(), ran.run.workers_used),
            (0, 1, 0)
        );
    }
}

#[test]
fn t20_what_cannot_be_ordered_is_finished_with_a_warning() {
    let machine = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 2)
        .with_sync("c", "p", 4);
    let ran = run(machine.listed(&["c", "s", "p"]), Completion, 4);
    assert!(ran.run.warnings[0].starts_with("ordering forced to sync"));
    assert!(
        ran.model
            .calls
            .iter()
            .all(|calls| calls.load(Ordering::SeqCst) == 1)
    );
}

#[test]
fn t21_a_thread_that_cannot_be_made_is_done_without() {
    for threads in 0..12 {
        let mut machine = drives(
            12,
            Cost {
                work: ms(2),
                latency: ms(1),
            },
        );
        machine.add("rtc", "", false, 1);
        let model = Model::of(&machine);
        let ran = run_model(machine, model, Completion, 64, threads);
        assert_eq!(ran.check(), Ok(()), "{threads} threads");
        assert!(ran.run.workers_used as usize <= threads);
        if threads == 0 {
            assert!(
                ran.run.warnings[0].contains("a thread could not be made"),
                "{:?}",
                ran.run.warnings
            );
            assert_eq!(ran.model.threads(), 1);
        }
    }
}

#[test]
fn t26_five_thousand_devices_on_eight_workers() {
    let ran = run(drives(2500, Cost::default()), Completion, 8);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.run.workers_used <= 8 && ran.made <= 8);
}

#[test]
fn t27_a_device_that_never_finishes_is_given_up() {
    let mut machine = Machine::new().with_async("port", "", 0);
    let hung = Node {
        parent: Some(0),
        asynchronous: true,
        deadline: ms(30),
        on_timeout: OnTimeout::Stop,
        ..Node::new("hung", "test")
    };
    machine.graph.add(hung).unwrap();
    machine.costs.push(Cost::work(ms(800)));
    let machine = machine.with_async("slow", "", 50);
    // One worker: the one that is left behind makes room for the next.
    let ran = run(machine, Completion, 1);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.took() < ms(600), "{:?}", ran.took());
    assert_eq!(ran.run.stamps[1].outcome, Outcome::TimedOut);
    assert_eq!(ran.run.stamps[0].outcome, Outcome::Done);
    let troubled: Vec<_> = ran.run.troubled().collect();
    assert_eq!(troubled, [("hung", &Outcome::TimedOut, OnTimeout::Stop)]);
    assert!(ran.ear.late.lock().unwrap().is_empty());
    let until = Instant::now() + ms(10_000);
    while ran.ear.late.lock().unwrap().is_empty() && Instant::now() < until {
        thread::sleep(ms(5));
    }
    assert_eq!(*ran.ear.late.lock().unwrap(), [1]);
    assert_eq!(
        ran.ear.ended.lock().unwrap().len(),
        3,
        "the late return ends nothing twice"
    );
}

#[test]
fn t27_a_latency_past_the_deadline_is_cut_short() {
    for asynchronous in [false, true] {
        let mut machine = Machine::new();
        machine.add("slow", "", asynchronous, 10_000);
        let mut graph = Graph::new();
        graph
            .add(Node {
                deadline: ms(20),
                ..machine.graph.node(0).clone()
            })
            .unwrap();
        machine.graph = graph;
        let ran = run(machine, Completion, 4);
        assert_eq!(ran.run.stamps[0].outcome, Outcome::TimedOut);
        assert!(ran.took() >= ms(20) && ran.took() < ms(5000));
    }
}

#[test]
fn t27_a_sync_device_that_overruns_is_reported_when_it_returns() {
    let mut machine = Machine::new();
    machine
        .graph
        .add(Node {
            deadline: ms(5),
            ..Node::new("slow", "test")
        })
        .unwrap();
    machine.costs.push(Cost::work(ms(20)));
    let ran = run(machine, Completion, 4);
    assert_eq!(ran.run.stamps[0].outcome, Outcome::TimedOut);
    assert!(ran.took() >= ms(20));
    assert_eq!(ran.model.threads(), 1);
}

#[test]
fn t28_a_device_that_fails_stops_nobody() {
    for policy in [Serial, Completion] {
        let machine = Machine::new()
            .with_async("port", "", 0)
            .with_async("drive", "port", 0);
        let model = Model {
            fails: HashSet::from([1]),
            ..Model::of(&machine)
        };
        let ran = run_model(machine, model, policy, 4, usize::MAX);
        assert_eq!(ran.check(), Ok(()));
        assert_eq!(ran.run.stamps[0].outcome, Outcome::Done);
        let Outcome::Failed { error } = &ran.run.stamps[1].outcome else {
            panic!("it did not fail")
        };
        assert!(error.starts_with("reset: "), "{error}");
        assert_eq!(ran.run.troubled().count(), 1);
    }
}

#[test]
fn timers_hold_no_threads() {
    let ran = run(drives(512, Cost::latency(ms(100))), Completion, 16);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.made <= 16 && ran.run.workers_used <= 16);
    assert!(ran.took() < ms(1000), "{:?}", ran.took());
}

#[test]
fn a_call_that_does_not_block_needs_no_worker() {
    let mut machine = Machine::new();
    for number in 0..32 {
        let node = Node {
            asynchronous: true,
            blocking: false,
            ..Node::new(format!("d{number}"), "test")
        };
        machine.graph.add(node).unwrap();
        machine.costs.push(Cost::latency(ms(30)));
    }
    let ran = run(machine, Completion, 64);
    assert_eq!((ran.made, ran.model.threads()), (0, 1));
    assert!(ran.took() < ms(500));
}

#[test]
fn the_bound_on_workers_is_kept() {
    for workers in [0, 1, 3] {
        let ran = run(drives(9, Cost::work(ms(4))), Completion, workers);
        assert_eq!(ran.check(), Ok(()));
        let bound = usize::from(workers.max(1));
        assert!(ran.made <= bound && ran.model.peak.load(Ordering::SeqCst) <= bound);
        assert_eq!(usize::from(ran.run.workers_used), bound);
    }
}

#[test]
fn timers_go_on_while_the_calling_thread_blocks() {
    let mut machine = Machine::new()
        .with_async("port", "", 20)
        .with_async("drive", "port", 20);
    let slow = machine.add("slow", "", false, 0);
    machine.costs[slow] = Cost::work(ms(500));
    let ran = run(machine, Completion, 4);
    assert_eq!(ran.check(), Ok(()));
    let end = ran.run.stamps[0].end - ran.run.begin;
    assert!(end < ms(350), "the port ended at {end:?}");
}

#[test]
fn a_hung_worker_is_given_up_while_the_calling_thread_blocks() {
    let mut machine = Machine::new();
    let hung = Node {
        asynchronous: true,
        deadline: ms(30),
        ..Node::new("hung", "test")
    };
    machine.graph.add(hung).unwrap();
    machine.costs.push(Cost::work(ms(2000)));
    let slow = machine.add("slow", "", false, 0);
    machine.costs[slow] = Cost::work(ms(500));
    let ran = run(machine, Completion, 1);
    assert_eq!(ran.run.stamps[0].outcome, Outcome::TimedOut);
    assert!(ran.run.stamps[0].end - ran.run.begin < ms(350));
    assert!(ran.took() < ms(1500));
}

#[test]
fn the_monitor_sees_who_waits_for_whom() {
    let machine = Machine::new()
        .with_async("port", "", 0)
        .with_async("drive", "port", 400);
    let model = Arc::new(Model::of(&machine));
    let teardown = Teardown::new(
        Arc::new(machine.graph),
        Completion,
        4,
        model,
        Arc::new(Unobserved),
    );
    let monitor = teardown.monitor();
    assert_eq!(monitor.left(), 2);
    let runner = thread::spawn(move || teardown.run());
    thread::sleep(ms(100));
    let port = Open {
        device: 0,
        running: false,
        waits_for: vec![1],
    };
    let drive = Open {
        device: 1,
        running: true,
        waits_for: Vec::new(),
    };
    assert_eq!(monitor.open(), [port, drive]);
    runner.join().unwrap();
    assert_eq!((monitor.left(), monitor.open()), (0, Vec::new()));
}

#[test]
fn no_thread_stays() {
    let ours = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "sd-soak")
            .count()
    };
    /// Threads under a name of their own, for other tests run beside this one.
    struct Named;
    impl Spawn for Named {
        fn spawn(&self, _name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
            OsThreads.spawn("sd-soak", work)
        }
    }
    for _ in 0..100 {
        let mut machine = drives(
            8,
            Cost {
                work: ms(1),
                latency: Duration::ZERO,
            },
        );
        machine.add("slow", "", false, 0);
        let model = Arc::new(Model::of(&machine));
        let graph = Arc::new(machine.graph);
        let ear = Arc::new(Unobserved);
        Teardown::with_threads(graph, Completion, 8, model, ear, Arc::new(Named)).run();
    }
    let until = Instant::now() + Duration::from_secs(5);
    while ours() > 0 {
        assert!(Instant::now() < until, "{} threads are left", ours());
        thread::sleep(ms(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stamps_keep_the_rules(
        machine in machines(60, Duration::from_micros(800), false),
        workers in 1..9_u16,
        serial in prop::bool::weighted(0.2),
        threads in prop::option::weighted(0.3, 0..6_usize),
    ) {
        let policy = if serial { Serial } else { Completion };
        let model = Model::of(&machine);
        let ran = run_model(machine, model, policy, workers, threads.unwrap_or(usize::MAX));
        prop_assert_eq!(ran.check(), Ok(()));
        prop_assert!(ran.run.workers_used <= workers);
    }

    #[test]
    fn short_calls_keep_the_rules(machine in machines(250, Duration::from_micros(30), false), workers in 1..65_u16) {
        let ran = run(machine, Completion, workers);
        prop_assert_eq!(ran.check(), Ok(()));
    }
}
