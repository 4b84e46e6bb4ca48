//! The teardown as a monitor sees it, and changes it.

use std::sync::mpsc;

use super::*;
use crate::device_manager::teardown::graph::GraphError;

mod addition;
mod removal;

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

/// A device's call that stands still until the test lets it go on, so that the test knows what has been
/// started and what has not.
struct Gate {
    called: mpsc::Sender<usize>,
    go_on: Mutex<mpsc::Receiver<()>>,
    /// The devices that stand at the gate; the others end at once.
    held: Vec<usize>,
}

impl Target for Gate {
    fn shut_down(
        &self,
        device: usize,
        _: Deadline,
        _: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        self.called.send(device).unwrap();
        if self.held.contains(&device) {
            self.go_on.lock().unwrap().recv().unwrap();
        }
        Ok(Finish::Now)
    }
}

/// A teardown under way on a thread of its own.
struct UnderWay {
    monitor: Monitor,
    gate: Arc<Gate>,
    calls: mpsc::Receiver<usize>,
    go_on: mpsc::Sender<()>,
    ear: Arc<Ear>,
    runner: thread::JoinHandle<TeardownRun>,
}

impl UnderWay {
    /// Begins it, and waits until all of `held` stand at the gate.
    fn begin(machine: Machine, policy: TeardownPolicy, held: &[&str]) -> Self {
        let held: Vec<usize> = held.iter().map(|id| machine.at(id)).collect();
        let (called, calls) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let gate = Arc::new(Gate {
            called,
            go_on: Mutex::new(wait),
            held: held.clone(),
        });
        let ear = Arc::new(Ear::default());
        let graph = Arc::new(machine.graph);
        let teardown = Teardown::new(graph, policy, 4, gate.clone(), ear.clone());
        let monitor = teardown.monitor();
        let runner = thread::spawn(move || teardown.run());
        let under_way = Self {
            monitor,
            gate,
            calls,
            go_on,
            ear,
            runner,
        };
        let mut missing: HashSet<usize> = held.into_iter().collect();
        while !missing.is_empty() {
            missing.remove(&under_way.call());
        }
        under_way
    }

    /// The next call.
    fn call(&self) -> usize {
        self.calls.recv_timeout(ms(10_000)).unwrap()
    }

    /// Lets one device at the gate go on.
    fn release(&self) {
        self.go_on.send(()).unwrap();
    }

    /// What came of it, and the calls that were not looked at yet.
    fn end(self) -> (TeardownRun, Vec<usize>, Vec<(usize, Outcome)>) {
        let run = self.runner.join().unwrap();
        drop(self.gate);
        let told = self.ear.ended.lock().unwrap().clone();
        (run, self.calls.try_iter().collect(), told)
    }
}

/// A device that has nothing to do.
struct AtOnce;

impl Target for AtOnce {
    fn shut_down(&self, _: usize, _: Deadline, _: &mut Phases) -> Result<Finish, ShutdownError> {
        Ok(Finish::Now)
    }
}

fn node(id: &str, parent: Option<usize>) -> Node {
    Node {
        parent,
        ..Node::new(id, "late")
    }
}

const POLICIES: [TeardownPolicy; 3] = [Serial, Cookie, Completion];

/// Three siblings that lock their parent.
fn locking(asynchronous: bool) -> Machine {
    let mut machine = Machine::new();
    let hub = machine.graph.add(Node::new("hub", "test")).unwrap();
    for number in 0..3 {
        let sibling = Node {
            parent: Some(hub),
            parent_lock: true,
            asynchronous,
            ..Node::new(format!("stick{number}"), "test")
        };
        machine.graph.add(sibling).unwrap();
    }
    machine
}

#[test]
fn t24_what_was_frozen_stays() {
    let machine = Machine::new()
        .with_async("port", "", 0)
        .with_async("drive", "port", 0);
    let mut owners = machine.graph.clone();
    let model = Arc::new(Model::of(&machine));
    let mut policy = Completion;
    let shared = Arc::new(owners.clone());
    let teardown = Teardown::new(shared, policy, 4, model.clone(), Arc::new(Unobserved));
    // The owner throws the switch, turns the list round, moves and adds devices: for the next teardown.
    policy = Serial;
    owners.set_order(vec![1, 0]).unwrap();
    owners.reparent(1, None).unwrap();
    owners.add(Node::new("new", "test")).unwrap();
    let frozen = teardown.run();
    assert_eq!((frozen.policy, frozen.stamps.len()), (Completion, 2));
    assert_eq!(frozen.rules.asynchronous, [true, true]);
    assert_eq!(frozen.graph.order(), [0, 1]);
    assert!(
        frozen.stamps[0].start >= frozen.stamps[1].end,
        "the port waits for its drive"
    );
    let machine = Machine {
        costs: vec![Cost::default(); 3],
        graph: owners,
    };
    let next = run(machine, policy, 4).run;
    assert_eq!(
        (next.policy, next.rules.lane.as_slice()),
        (Serial, &[2, 0, 1][..])
    );
}
