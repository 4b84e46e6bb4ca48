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
