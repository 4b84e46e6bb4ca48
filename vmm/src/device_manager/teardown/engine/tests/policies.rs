//! `cookie` and parents' locks on threads: what the other files show of `completion`.

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::{locking_machines, machines};

const WORKERS: u16 = 8;

/// A hub and so many devices that lock it.
fn hub(count: usize, cost: Cost) -> Machine {
    let mut machine = Machine::new().with_async("hub", "", 0);
    for number in 0..count {
        machine = machine.with_locking(&format!("stick{number}"), "hub", 0);
    }
    machine.costs[1..].fill(cost);
    machine
}

#[test]
fn t7_under_cookie_a_child_that_the_list_has_first_goes_beside_its_parent() {
    let mut machine = Machine::new().with_sync("p", "", 0).with_async("c", "p", 0);
    machine.costs.fill(Cost::latency(ms(200)));
    let ran = run(machine.listed(&["c", "p"]), Cookie, WORKERS);
    assert_eq!(ran.check(), Ok(()));
    let [p, c] = &ran.spans()[..] else {
        panic!("there are two devices")
    };
    assert!(c.0 < p.1 && p.0 < c.1, "{p:?} and {c:?} do not overlap");
    assert_eq!(ran.run.warnings.len(), 1);
}

#[test]
fn t12_devices_under_one_lock_go_one_by_one_on_one_worker_at_a_time() {
    for policy in [Cookie, Completion] {
        for cost in [Cost::work(ms(3)), Cost::latency(ms(3))] {
            let ran = run(hub(12, cost), policy, WORKERS);
            assert_eq!(ran.check(), Ok(()), "{policy}");
            assert_eq!(ran.model.peak.load(Ordering::SeqCst), 1);
            assert_eq!(ran.run.workers_used, 1, "who waits holds no worker");
        }
    }
}

#[test]
fn t13_nothing_async_makes_no_thread_under_cookie() {
    let mut machine = Machine::new().with_sync("port", "", 1);
    for number in 0..8 {
        machine.add(&format!("drive{number}"), "port", false, 1);
    }
    let ran = run(machine, Cookie, 64);
    assert_eq!(ran.check(), Ok(()));
    let threads = (ran.made, ran.model.threads(), ran.run.workers_used);
    assert_eq!(threads, (0, 1, 0));
}

#[test]
fn t20_what_cookie_cannot_keep_is_finished_with_a_warning() {
    let machine = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 2)
        .with_sync("c", "p", 4);
    let ran = run(machine.listed(&["c", "s", "p"]), Cookie, WORKERS);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.run.warnings[0].starts_with("unsafe shutdown ordering"));
}

#[test]
fn t21_cookie_goes_on_without_a_thread_at_every_index() {
    for threads in 0..12 {
        let cost = Cost {
            work: ms(2),
            latency: ms(1),
        };
        let mut machine = drives(12, cost);
        machine.add("rtc", "", false, 1);
        let model = Model::of(&machine);
        let ran = run_model(machine, model, Cookie, 64, threads);
        assert_eq!(ran.check(), Ok(()), "{threads} threads");
        assert!(usize::from(ran.run.workers_used) <= threads);
    }
}

#[test]
fn t26_five_thousand_devices_on_eight_workers_under_cookie() {
    let ran = run(drives(2500, Cost::default()), Cookie, WORKERS);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.made <= usize::from(WORKERS));
}

#[test]
fn t27_a_device_that_never_finishes_is_given_up_with_its_lock_and_its_task() {
    for policy in [Cookie, Completion] {
        let mut machine = Machine::new();
        for (id, deadline) in [("hub", ms(30_000)), ("stick", ms(30_000)), ("hung", ms(30))] {
            let node = Node {
                parent: machine.graph.find("hub"),
                parent_lock: true,
                asynchronous: true,
                deadline,
                ..Node::new(id, "test")
            };
            machine.graph.add(node).unwrap();
        }
        machine.costs = vec![Cost::default(), Cost::default(), Cost::work(ms(1000))];
        let ran = run(machine, policy, WORKERS);
        assert_eq!(ran.check(), Ok(()), "{policy}");
        let outcomes = ran.run.stamps.iter().map(|stamp| &stamp.outcome);
        let expected = [Outcome::Done, Outcome::Done, Outcome::TimedOut];
        assert!(outcomes.eq(&expected), "{policy}");
    }
}

#[test]
fn t28_a_device_that_fails_stops_nobody_under_cookie() {
    let machine = hub(2, Cost::default());
    let model = Model {
        fails: HashSet::from([2]),
        ..Model::of(&machine)
    };
    let ran = run_model(machine, model, Cookie, WORKERS, usize::MAX);
    assert_eq!(ran.check(), Ok(()));
    assert_eq!(ran.run.stamps[0].outcome, Outcome::Done);
    let troubled: Vec<&str> = ran.run.troubled().map(|(id, ..)| id).collect();
    assert_eq!(troubled, ["stick1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cookie_keeps_the_rules_in_lists_of_any_order(
        machine in machines(60, Duration::from_micros(800), true),
        workers in 1..9_u16,
        threads in prop::option::weighted(0.3, 0..6_usize),
    ) {
        let model = Model::of(&machine);
        let ran = run_model(machine, model, Cookie, workers, threads.unwrap_or(usize::MAX));
        prop_assert_eq!(ran.check(), Ok(()));
    }

    #[test]
    fn locks_are_kept(
        machine in locking_machines(60, Duration::from_micros(800)),
        workers in 1..9_u16,
        policy in prop::sample::select(&TeardownPolicy::ALL[..]),
        threads in prop::option::weighted(0.3, 0..6_usize),
    ) {
        let model = Model::of(&machine);
        let ran = run_model(machine, model, policy, workers, threads.unwrap_or(usize::MAX));
        prop_assert_eq!(ran.check(), Ok(()));
    }
}
