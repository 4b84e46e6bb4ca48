//! What cannot be ordered, what never ends, and what has nothing to do.

use super::*;

#[test]
fn t20_the_inversion_c_s_p_is_finished_and_warned_of() {
    let machine = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 2)
        .with_sync("c", "p", 4);
    let machine = machine.listed(&["c", "s", "p"]);
    let ids = ["p", "s", "c"];
    // Forced to the order of the list, which cookie's cut comes to as well.
    for (policy, warning) in [
        (Completion, "ordering forced to sync"),
        (Cookie, "unsafe shutdown ordering"),
    ] {
        let spans = spans_ms(&machine, policy, ids);
        assert_eq!(spans, [(0, 2), (2, 3), (3, 7)], "{policy}");
        let warnings = &plan(&machine, policy).rules.warnings;
        assert!(warnings[0].starts_with(warning), "{warnings:?}");
    }
}

#[test]
fn t20_a_true_cycle_is_finished() {
    let mut machine = Machine::new()
        .with_async("a", "", 3)
        .with_async("b", "", 4)
        .linked("b", "a");
    machine.graph.reparent(0, Some(1)).unwrap();
    // Under cookie the wait of b, the older task, is cut down.
    for policy in TeardownPolicy::ALL {
        let plan = plan(&machine, policy);
        assert_eq!(plan.total.as_millis(), 7, "{policy}");
        assert!(!plan.rules.warnings.is_empty(), "{policy}");
        assert_eq!(names(&machine, &plan.order), ["b", "a"]);
    }
}

#[test]
fn t25_a_device_with_nothing_to_do_completes() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_sync("s", "p", 0)
        .with_async("c", "p", 0);
    for policy in TeardownPolicy::ALL {
        let plan = plan(&machine, policy);
        assert_eq!(plan.total, Duration::ZERO, "{policy}");
        assert_eq!(names(&machine, &plan.order).last(), Some(&"p"));
        assert_eq!(plan.order.len(), 3);
    }
}

#[test]
fn t1_nothing_at_all_is_a_plan_too() {
    for policy in TeardownPolicy::ALL {
        let plan = plan(&Machine::new(), policy);
        assert_eq!(plan.total, Duration::ZERO);
        assert!(plan.critical_chain().is_empty());
    }
}

#[test]
fn t27_a_device_that_never_finishes_is_given_up_at_its_deadline() {
    let machine = Machine::new()
        .with_async("p", "", 1)
        .with_async("c", "p", 86_400_000);
    for policy in TeardownPolicy::ALL {
        let plan = plan(&machine, policy);
        assert_eq!(span_ms(&machine, &plan, "p"), (30_000, 30_001), "{policy}");
        assert!(plan.devices[1].timed_out && !plan.devices[0].timed_out);
    }
}

#[test]
fn t27_a_device_that_is_given_up_gives_its_lock_and_its_barrier_up() {
    let mut machine = Machine::new()
        .with_async("hub", "", 1)
        .with_locking("b", "hub", 5)
        .with_locking("hung", "hub", 0);
    machine.costs[2] = Cost::work(Duration::from_secs(86_400));
    for policy in [Cookie, Completion] {
        let spans = spans_ms(&machine, policy, ["hung", "b", "hub"]);
        let expected = [(0, 30_000), (30_000, 30_005), (30_005, 30_006)];
        assert_eq!(spans, expected, "{policy}");
    }
}

#[test]
fn a_chain_through_a_lock_ends_where_nothing_takes_time() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_locking("a", "p", 0)
        .with_locking("b", "p", 0);
    for policy in TeardownPolicy::ALL {
        let plan = plan(&machine, policy);
        let chain = plan.critical_chain();
        assert!((1..=3).contains(&chain.len()), "{chain:?}");
        assert_eq!(plan.devices[plan.order[0]].held_up_by, None);
    }
}
