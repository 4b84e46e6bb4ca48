//! Devices that do not end by their deadlines.

use super::*;

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
    machine.costs.push(Cost::default());
    let machine = machine.with_async("slow", "", 50);
    let gate = Arc::new(Gate::default());
    let mut model = Model::of(&machine);
    model.works(1, hang(&gate));
    // One worker: the one that is left behind makes room for the next.
    let ran = run_model(machine, model, Completion, 1, usize::MAX);
    assert_eq!(ran.check(), Ok(()));
    assert_eq!(ran.run.stamps[1].outcome, Outcome::TimedOut);
    assert_eq!(ran.run.stamps[0].outcome, Outcome::Done);
    let troubled: Vec<_> = ran.run.troubled().collect();
    assert_eq!(troubled, [("hung", &Outcome::TimedOut, OnTimeout::Stop)]);
    assert!(ran.ear.late.lock().unwrap().is_empty());
    gate.open();
    assert_eq!(ran.ear.hears_late(), [1]);
    assert_eq!(
        gate.passed.load(Ordering::SeqCst),
        1,
        "the teardown ended before its call did"
    );
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
        let latency = PATIENCE;
        machine.add("slow", "", asynchronous, latency.as_millis() as u64);
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
        assert!(ran.took() >= ms(20));
        assert!(ran.took() < latency, "the moment that it named has come");
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
fn a_hung_worker_is_given_up_while_the_calling_thread_blocks() {
    let mut machine = Machine::new();
    let hung = Node {
        asynchronous: true,
        deadline: ms(30),
        ..Node::new("hung", "test")
    };
    machine.graph.add(hung).unwrap();
    machine.costs.push(Cost::default());
    let slow = machine.graph.add(Node {
        deadline: 2 * PATIENCE,
        ..Node::new("slow", "test")
    });
    let slow = slow.unwrap();
    machine.costs.push(Cost::default());
    let (gate, ear) = (Arc::new(Gate::default()), Arc::new(Ear::default()));
    let mut model = Model::of(&machine);
    model.works(0, hang(&gate));
    // The calling thread is in this one until the other is given up.
    let heard = Arc::new(Mutex::new(None));
    let (theirs, told) = (Arc::clone(&ear), Arc::clone(&heard));
    model.works(slow, move || {
        *told.lock().unwrap() = theirs.hears_end(0);
    });
    let ran = run_heard(machine, model, ear, Completion, 1, usize::MAX);
    assert_eq!(*heard.lock().unwrap(), Some(Outcome::TimedOut));
    let [hung, slow] = &ran.run.stamps[..] else {
        panic!("{:?}", ran.spans());
    };
    assert_eq!(hung.outcome, Outcome::TimedOut);
    assert_eq!(slow.outcome, Outcome::Done);
    assert!(hung.end <= slow.end, "{:?}", ran.spans());
    gate.open();
    assert_eq!(ran.ear.hears_late(), [0]);
    assert_eq!(gate.passed.load(Ordering::SeqCst), 1);
}

/// A call that does not return before the gate is open.
fn hang(gate: &Arc<Gate>) -> impl Fn() + Send + Sync + 'static {
    let gate = Arc::clone(gate);
    move || gate.pass()
}
