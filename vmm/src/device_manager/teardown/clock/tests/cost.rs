//! Work and latency, and the bound on workers.

use super::*;

fn eight(cost: Cost) -> Machine {
    let mut machine = Machine::new();
    for number in 0..8 {
        machine.add(&format!("d{number}"), "", true, 0);
    }
    machine.costs.fill(cost);
    machine
}

#[test]
fn a_call_holds_its_worker_and_a_latency_holds_none() {
    let machine = eight(Cost {
        work: Duration::from_millis(10),
        latency: Duration::from_millis(100),
    });
    for (workers, expected) in [(2, 140), (8, 110)] {
        let plan = predict(&machine.graph, Completion, &machine.costs, workers);
        assert_eq!(plan.total.as_millis(), expected);
    }
}

#[test]
fn a_device_that_waits_for_its_parents_lock_holds_no_worker() {
    let mut machine = Machine::new().with_async("hub", "", 0);
    for id in ["a", "b", "c"] {
        machine = machine.with_locking(id, "hub", 0);
    }
    let mut machine = machine.with_async("other", "", 0);
    machine.costs[1..].fill(Cost::work(Duration::from_millis(10)));
    // Three in a row and a fourth beside them: the second worker is free for it.
    for policy in [Cookie, Completion] {
        let plan = predict(&machine.graph, policy, &machine.costs, 2);
        assert_eq!(plan.total.as_millis(), 30, "{policy}");
        assert_eq!(plan.devices[machine.at("other")].start, Duration::ZERO);
        assert_eq!(plan.workers_used, 2);
    }
}

#[test]
fn a_worker_that_is_given_up_is_replaced() {
    let mut machine = Machine::new()
        .with_async("fine", "", 0)
        .with_async("hung", "", 0);
    machine.costs = vec![
        Cost::work(Duration::from_secs(1)),
        Cost::work(Duration::from_secs(1000)),
    ];
    for policy in [Cookie, Completion] {
        let plan = predict(&machine.graph, policy, &machine.costs, 1);
        assert_eq!(plan.total.as_secs(), 31, "{policy}");
    }
}
