//! The reference's cases under the virtual clock, and random machines against the oracle.

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::oracle::{self, Machine, machines};

use TeardownPolicy::{Completion, Serial};

const UNLIMITED: usize = usize::MAX;

fn plan(machine: &Machine, policy: TeardownPolicy) -> Plan {
    predict(&machine.graph, policy, &machine.costs, UNLIMITED)
}

fn total_ms(machine: &Machine, policy: TeardownPolicy) -> u128 {
    plan(machine, policy).total.as_millis()
}

fn span_ms(machine: &Machine, plan: &Plan, id: &str) -> (u128, u128) {
    let planned = plan.devices[machine.at(id)];
    (planned.start.as_millis(), planned.end.as_millis())
}

#[test]
fn t2_an_async_child_ends_before_its_async_parent_starts() {
    let machine = Machine::new()
        .with_async("p", "", 5)
        .with_async("c", "p", 7);
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "c"), (0, 7));
    assert_eq!(span_ms(&machine, &plan, "p"), (7, 12));
}

#[test]
fn t3_a_consumer_ends_before_its_supplier_starts() {
    let machine = Machine::new()
        .with_async("s", "", 5)
        .with_async("c", "", 7)
        .linked("c", "s");
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "s"), (7, 12));
}

#[test]
fn t4_sync_state_only_links_are_ignored() {
    let mut machine = Machine::new().with_async("a", "", 5).with_async("b", "", 5);
    machine.graph.link(0, 1, true).unwrap();
    machine.graph.link(1, 0, true).unwrap();
    assert_eq!(total_ms(&machine, Completion), 5);
}

#[test]
fn t5_a_sync_parent_later_in_the_list_does_not_hang() {
    for child_async in [false, true] {
        let mut machine = Machine::new().with_sync("p", "", 5);
        machine.add("c", "p", child_async, 7);
        let machine = machine.listed(&["c", "p"]);
        assert_eq!(total_ms(&machine, Completion), 12);
        assert_eq!(total_ms(&machine, Serial), 12);
    }
}

#[test]
fn t6_an_async_parent_later_in_the_list_still_goes_last() {
    for child_async in [false, true] {
        let mut machine = Machine::new().with_async("p", "", 5);
        machine.add("c", "p", child_async, 7);
        let machine = machine.listed(&["c", "p"]);
        let plan = plan(&machine, Completion);
        assert_eq!(span_ms(&machine, &plan, "p"), (7, 12));
        assert!(plan.rules.warnings.is_empty());
    }
}

#[test]
fn t7_a_sync_parent_later_in_the_list_waits_for_its_async_child() {
    let machine = Machine::new()
        .with_sync("p", "", 5)
        .with_async("c", "p", 7)
        .listed(&["c", "p"]);
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "p"), (7, 12));
}

#[test]
fn t8_an_async_parent_waits_for_a_sync_child() {
    let machine = Machine::new().with_async("p", "", 5).with_sync("c", "p", 7);
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "p"), (7, 12));
}

#[test]
fn t9_a_sync_parent_waits_for_an_async_child() {
    let machine = Machine::new()
        .with_sync("p", "", 5)
        .with_async("c", "p", 7)
        .with_sync("x", "", 1);
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "x"), (0, 1));
    assert_eq!(span_ms(&machine, &plan, "p"), (7, 12));
}

#[test]
fn t10_sync_devices_go_backwards_one_at_a_time() {
    let machine = Machine::new()
        .with_sync("a", "", 1)
        .with_sync("b", "", 2)
        .with_sync("c", "", 3);
    let plan = plan(&machine, Completion);
    assert_eq!(plan.order, [2, 1, 0]);
    assert_eq!(span_ms(&machine, &plan, "c"), (0, 3));
    assert_eq!(span_ms(&machine, &plan, "b"), (3, 5));
    assert_eq!(span_ms(&machine, &plan, "a"), (5, 6));
}

#[test]
fn t11_siblings_overlap() {
    let machine = Machine::new()
        .with_sync("p", "", 0)
        .with_async("a", "p", 9)
        .with_async("b", "p", 9);
    assert_eq!(total_ms(&machine, Completion), 9);
    assert_eq!(total_ms(&machine, Serial), 18);
}

#[test]
fn t13_nothing_async_goes_as_the_baseline() {
    let mut machine = Machine::new().with_sync("root", "", 1);
    for number in 0..20 {
        machine.add(&format!("d{number}"), "root", false, number);
    }
    let (serial, completion) = (plan(&machine, Serial), plan(&machine, Completion));
    assert_eq!(serial.order, completion.order);
    assert_eq!(serial.devices, completion.devices);
    assert_eq!(completion.workers_used, 0);
}

fn sixteen_drives(with_children: bool) -> Machine {
    let mut machine = Machine::new();
    for number in 0..16 {
        machine.add(&format!("drive{number}"), "", true, 4500);
        if with_children {
            machine.add(&format!("ns{number}"), &format!("drive{number}"), false, 0);
        }
    }
    machine
}

#[test]
fn t14_sixteen_drives_grouped_take_as_long_as_one() {
    assert_eq!(total_ms(&sixteen_drives(false), Completion), 4500);
    assert_eq!(total_ms(&sixteen_drives(false), Serial), 72_000);
}

#[test]
fn t15_sixteen_drives_interleaved_take_as_long_as_one() {
    assert_eq!(total_ms(&sixteen_drives(true), Completion), 4500);
}

#[test]
fn t16_sync_bridges_in_between_make_it_serial() {
    let mut machine = Machine::new();
    for number in 0..4 {
        machine.add(&format!("bridge{number}"), "", false, 0);
        machine.add(
            &format!("drive{number}"),
            &format!("bridge{number}"),
            true,
            4500,
        );
        machine.add(&format!("ns{number}"), &format!("drive{number}"), false, 0);
    }
    assert_eq!(total_ms(&machine, Completion), 18_000);
}

#[test]
fn t17_an_unrelated_slow_sync_device() {
    let machine = Machine::new()
        .with_sync("root", "", 0)
        .with_async("p0", "root", 4500)
        .with_sync("slow", "root", 5000)
        .with_async("p1", "root", 4500)
        .with_sync("x", "root", 3000);
    assert_eq!(total_ms(&machine, Serial), 17_000);
    assert_eq!(total_ms(&machine, Completion), 8000);
}

#[test]
fn t18_there_is_no_prefix_barrier() {
    let machine = Machine::new()
        .with_async("p", "", 1000)
        .with_async("c", "p", 1000)
        .with_async("u", "", 10_000);
    assert_eq!(total_ms(&machine, Completion), 10_000);
}

#[test]
fn t19_a_diamond_waits_for_the_slowest() {
    let machine = Machine::new()
        .with_async("top", "", 1)
        .with_async("left", "top", 20)
        .with_async("right", "top", 30)
        .with_async("bottom", "left", 5)
        .linked("bottom", "right");
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "top"), (35, 36));
    let chain: Vec<_> = plan
        .critical_chain()
        .into_iter()
        .map(|device| &machine.graph.node(device).id[..])
        .collect();
    assert_eq!(chain, ["bottom", "right", "top"]);
}

#[test]
fn t20_what_cannot_be_ordered_is_finished() {
    let machine = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 2)
        .with_sync("c", "p", 4);
    let machine = machine.listed(&["c", "s", "p"]);
    let plan = plan(&machine, Completion);
    assert_eq!(plan.total.as_millis(), 7);
    assert!(plan.rules.warnings[0].starts_with("ordering forced to sync"));
}

#[test]
fn t25_a_device_with_nothing_to_do_completes() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("c", "p", 0);
    assert_eq!(total_ms(&machine, Completion), 0);
    assert_eq!(plan(&machine, Completion).order, [1, 0]);
    assert_eq!(plan(&Machine::new(), Completion).total, Duration::ZERO);
}

#[test]
fn t26_five_thousand_devices_on_eight_workers() {
    let mut machine = Machine::new();
    for number in 0..5000 {
        let parent = if number < 50 {
            String::new()
        } else {
            format!("d{}", number % 50)
        };
        let device = machine.add(&format!("d{number}"), &parent, true, 0);
        machine.costs[device] = Cost::work(Duration::from_millis(1));
    }
    let plan = predict(&machine.graph, Completion, &machine.costs, 8);
    assert_eq!(plan.workers_used, 8);
    assert_eq!(plan.total.as_millis(), 5000 / 8);
}

#[test]
fn t27_a_device_that_never_finishes_is_given_up_at_its_deadline() {
    let machine = Machine::new()
        .with_async("p", "", 1)
        .with_async("c", "p", 86_400_000);
    let plan = plan(&machine, Completion);
    assert_eq!(span_ms(&machine, &plan, "p"), (30_000, 30_001));
    assert!(plan.devices[1].timed_out && !plan.devices[0].timed_out);
}

#[test]
fn a_call_holds_its_worker_and_a_latency_holds_none() {
    let mut machine = Machine::new();
    for number in 0..8 {
        let device = machine.add(&format!("d{number}"), "", true, 0);
        machine.costs[device] = Cost {
            work: Duration::from_millis(10),
            latency: Duration::from_millis(100),
        };
    }
    assert_eq!(
        predict(&machine.graph, Completion, &machine.costs, 2)
            .total
            .as_millis(),
        140
    );
    assert_eq!(
        predict(&machine.graph, Completion, &machine.costs, 8)
            .total
            .as_millis(),
        110
    );
}

#[test]
fn a_chain_through_a_lock_ends_where_nothing_takes_time() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_locking("a", "p", 0)
        .with_locking("b", "p", 0);
    let plan = plan(&machine, Completion);
    let mut chain = plan.critical_chain();
    chain.dedup();
    assert!((1..=3).contains(&chain.len()), "{chain:?}");
    assert_eq!(plan.devices[plan.order[0]].held_up_by, None);
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
    let plan = predict(&machine.graph, Completion, &machine.costs, 1);
    assert_eq!(plan.total.as_secs(), 31);
}

proptest! {
    #[test]
    fn ends_equal_the_oracles(machine in machines(300, Duration::from_millis(20), false)) {
        for policy in [Serial, Completion] {
            let plan = plan(&machine, policy);
            let spans: Vec<_> = plan.devices.iter().map(|planned| (planned.start, planned.end)).collect();
            prop_assert_eq!(oracle::check(&machine.graph, policy, &spans), Ok(()));
            prop_assert_eq!(Some(spans), oracle::spans(&machine, policy));
            prop_assert!(plan.rules.warnings.is_empty());
        }
    }

    #[test]
    fn ends_equal_the_oracles_in_any_list_order_that_can_be_kept(
        machine in machines(40, Duration::from_millis(20), true)
    ) {
        for policy in [Serial, Completion] {
            let plan = plan(&machine, policy);
            let spans: Vec<_> = plan.devices.iter().map(|planned| (planned.start, planned.end)).collect();
            match oracle::spans(&machine, policy) {
                Some(expected) => prop_assert_eq!(spans, expected),
                None => prop_assert!(plan.rules.warnings[0].starts_with("ordering forced to sync")),
            }
        }
    }

    #[test]
    fn fewer_workers_break_no_rule(machine in machines(120, Duration::from_millis(20), false), workers in 1..9_usize) {
        let plan = predict(&machine.graph, Completion, &machine.costs, workers);
        let spans: Vec<_> = plan.devices.iter().map(|planned| (planned.start, planned.end)).collect();
        prop_assert_eq!(oracle::check(&machine.graph, Completion, &spans), Ok(()));
        prop_assert!(plan.workers_used <= workers);
        let mut order = plan.order.clone();
        order.sort_unstable();
        prop_assert!(order.into_iter().eq(0..machine.graph.len()));
    }
}
