//! Who goes before whom: children and parents, consumers and suppliers, in lists of either order.

use super::*;

#[test]
fn t2_an_async_child_ends_before_its_async_parent_starts() {
    let machine = Machine::new()
        .with_async("p", "", 5)
        .with_async("c", "p", 7);
    for policy in TeardownPolicy::ALL {
        let spans = spans_ms(&machine, policy, ["c", "p"]);
        assert_eq!(spans, [(0, 7), (7, 12)], "{policy}");
    }
}

#[test]
fn t3_a_consumer_ends_before_its_supplier_starts() {
    // Registered the other way round: the link moves the consumer to the tail.
    let machine = Machine::new()
        .with_async("c", "", 7)
        .with_async("s", "", 5)
        .linked("c", "s");
    for policy in TeardownPolicy::ALL {
        let spans = spans_ms(&machine, policy, ["c", "s"]);
        assert_eq!(spans, [(0, 7), (7, 12)], "{policy}");
    }
}

#[test]
fn t4_sync_state_only_links_are_ignored_even_in_a_cycle() {
    for asynchronous in [true, false] {
        let mut machine = Machine::new();
        machine.add("a", "", asynchronous, 5);
        machine.add("b", "", asynchronous, 5);
        let machine = machine
            .sync_state_linked("a", "b")
            .sync_state_linked("b", "a");
        for policy in [Cookie, Completion] {
            let plan = plan(&machine, policy);
            let expected = if asynchronous { 5 } else { 10 };
            assert_eq!(plan.total.as_millis(), expected, "{policy}");
            assert!(plan.rules.warnings.is_empty());
        }
    }
}

#[test]
fn t4_a_cycle_of_a_sync_state_only_link_and_one_that_orders_is_none() {
    let machine = Machine::new()
        .with_async("a", "", 5)
        .with_async("b", "", 7)
        .sync_state_linked("a", "b")
        .linked("b", "a");
    for policy in TeardownPolicy::ALL {
        let spans = spans_ms(&machine, policy, ["b", "a"]);
        assert_eq!(spans, [(0, 7), (7, 12)], "{policy}");
    }
}

#[test]
fn t5_a_sync_parent_later_in_the_list_does_not_hang() {
    for (child_async, expected) in [(false, [12, 12, 12]), (true, [12, 7, 12])] {
        let mut machine = Machine::new().with_sync("p", "", 5);
        machine.add("c", "p", child_async, 7);
        let machine = machine.listed(&["c", "p"]);
        assert_eq!(totals_ms(&machine, TeardownPolicy::ALL), expected);
    }
}

#[test]
fn t6_an_async_parent_later_in_the_list_goes_last_under_completion() {
    for child_async in [false, true] {
        let mut machine = Machine::new().with_async("p", "", 5);
        machine.add("c", "p", child_async, 7);
        let machine = machine.listed(&["c", "p"]);
        let spans = spans_ms(&machine, Completion, ["c", "p"]);
        assert_eq!(spans, [(0, 7), (7, 12)]);
        assert!(plan(&machine, Completion).rules.warnings.is_empty());
    }
}

#[test]
fn t6_an_async_parent_later_in_the_list_goes_first_under_cookie_with_a_warning() {
    // The list of a synchronous child waits for all older tasks; an asynchronous child for none.
    for (child_async, child) in [(false, (5, 12)), (true, (0, 7))] {
        let mut machine = Machine::new().with_async("p", "", 5);
        machine.add("c", "p", child_async, 7);
        let machine = machine.listed(&["c", "p"]);
        assert_eq!(spans_ms(&machine, Cookie, ["p", "c"]), [(0, 5), child]);
        let plan = plan(&machine, Cookie);
        assert_eq!(names(&machine, &plan.order), ["p", "c"]);
        let [warning] = &plan.rules.warnings[..] else {
            panic!("{:?}", plan.rules.warnings)
        };
        assert!(warning.starts_with("unsafe shutdown ordering, forcing sync order: p "));
    }
}

#[test]
fn t7_a_sync_parent_later_in_the_list_waits_under_completion_and_overlaps_under_cookie() {
    let machine = Machine::new()
        .with_sync("p", "", 5)
        .with_async("c", "p", 7)
        .listed(&["c", "p"]);
    let ids = ["c", "p"];
    assert_eq!(spans_ms(&machine, Completion, ids), [(0, 7), (7, 12)]);
    assert_eq!(spans_ms(&machine, Cookie, ids), [(0, 7), (0, 5)]);
    assert_eq!(spans_ms(&machine, Serial, ids), [(5, 12), (0, 5)]);
}

#[test]
fn t8_an_async_parent_waits_for_a_sync_child() {
    let machine = Machine::new().with_async("p", "", 5).with_sync("c", "p", 7);
    for policy in TeardownPolicy::ALL {
        let spans = spans_ms(&machine, policy, ["c", "p"]);
        assert_eq!(spans, [(0, 7), (7, 12)], "{policy}");
    }
}

#[test]
fn t9_a_sync_parent_waits_for_an_async_child() {
    let machine = Machine::new()
        .with_sync("p", "", 5)
        .with_async("c", "p", 7)
        .with_sync("x", "", 1);
    for policy in [Cookie, Completion] {
        let spans = spans_ms(&machine, policy, ["x", "c", "p"]);
        assert_eq!(spans, [(0, 1), (0, 7), (7, 12)], "{policy}");
    }
}

#[test]
fn t10_sync_devices_go_backwards_one_at_a_time() {
    // The drive in between cuts them into two lists under cookie: the second waits for it.
    let machine = Machine::new()
        .with_sync("a", "", 1)
        .with_sync("b", "", 2)
        .with_async("drive", "", 50)
        .with_sync("c", "", 3)
        .with_sync("d", "", 4);
    let ids = ["d", "c", "b", "a"];
    let alone = [(0, 4), (4, 7), (7, 9), (9, 10)];
    assert_eq!(spans_ms(&machine, Completion, ids), alone);
    let behind = [(0, 4), (4, 7), (50, 52), (52, 53)];
    assert_eq!(spans_ms(&machine, Cookie, ids), behind);
    let serial = [(0, 4), (4, 7), (57, 59), (59, 60)];
    assert_eq!(spans_ms(&machine, Serial, ids), serial);
}

#[test]
fn t12_siblings_under_a_parent_that_must_be_locked_go_one_by_one() {
    let machine = Machine::new()
        .with_async("hub", "", 1)
        .with_locking("a", "hub", 10)
        .with_locking("b", "hub", 20)
        .with_async("free", "hub", 5)
        .with_async("hub2", "", 1)
        .with_locking("c", "hub2", 30);
    for policy in [Cookie, Completion] {
        let spans = spans_ms(&machine, policy, ["c", "free", "b", "a"]);
        assert_eq!(spans, [(0, 30), (0, 5), (0, 20), (20, 30)], "{policy}");
        let a = plan(&machine, policy).devices[machine.at("a")];
        assert_eq!(a.held_up_by, Some(machine.at("b")));
        assert_eq!(a.ready.as_millis(), 20);
    }
    // The other hub is older than this one, which is why cookie has it wait.
    let totals = totals_ms(&machine, TeardownPolicy::ALL);
    assert_eq!(totals, [67, 32, 31]);
}

#[test]
fn t12_a_parent_that_overlaps_its_children_holds_its_own_lock() {
    // T7, where cookie lets the parent go at once: its child cannot lock it then.
    let machine = Machine::new()
        .with_sync("p", "", 5)
        .with_locking("c", "p", 7)
        .listed(&["c", "p"]);
    assert_eq!(spans_ms(&machine, Cookie, ["p", "c"]), [(0, 5), (5, 12)]);
}

#[test]
fn t12_a_sync_device_waits_for_the_lock_of_an_async_sibling() {
    let machine = Machine::new()
        .with_async("hub", "", 1)
        .with_locking_sync("sync", "hub", 10)
        .with_locking("async", "hub", 20)
        .with_sync("last", "", 2);
    let spans = spans_ms(&machine, Completion, ["async", "last", "sync", "hub"]);
    assert_eq!(spans, [(0, 20), (0, 2), (20, 30), (30, 31)]);
}

#[test]
fn t19_a_diamond_waits_for_the_slowest() {
    let machine = Machine::new()
        .with_async("top", "", 1)
        .with_async("left", "top", 20)
        .with_async("right", "top", 30)
        .with_async("bottom", "left", 5)
        .linked("bottom", "right");
    for policy in [Cookie, Completion] {
        let plan = plan(&machine, policy);
        assert_eq!(span_ms(&machine, &plan, "top"), (35, 36), "{policy}");
        let chain = plan.critical_chain();
        assert_eq!(names(&machine, &chain), ["bottom", "right", "top"]);
    }
}
