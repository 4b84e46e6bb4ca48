//! Cookies, barriers and cuts on small lists.

use super::*;
use crate::device_manager::teardown::tests::oracle::Machine;

fn tasks(machine: &Machine) -> (Tasks, Vec<String>) {
    let nodes = machine.graph.nodes();
    let flags: Vec<bool> = nodes.iter().map(|node| node.asynchronous).collect();
    Tasks::new(&machine.graph, &flags)
}

/// The task of each device and the one it waits for, in the order given.
fn of(machine: &Machine, tasks: &Tasks, ids: &[&str]) -> Vec<(u32, u32)> {
    let at = ids.iter().map(|id| machine.at(id));
    at.map(|at| (tasks.cookies[at], tasks.waits_for[at]))
        .collect()
}

#[test]
fn sync_devices_gather_until_the_next_async_one() {
    let machine = Machine::new()
        .with_sync("z", "", 0)
        .with_async("a", "", 0)
        .with_sync("y", "", 0)
        .with_sync("x", "", 0);
    let (tasks, warnings) = tasks(&machine);
    let of = of(&machine, &tasks, &["x", "y", "a", "z"]);
    assert_eq!(of, [(1, 0), (1, 0), (2, 0), (3, 2)]);
    assert_eq!(tasks.sizes, [2, 1, 1]);
    assert!(warnings.is_empty());
}

#[test]
fn a_list_is_scheduled_as_soon_as_one_of_it_has_an_async_parent_or_supplier() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("s", "", 0)
        .with_sync("w", "", 0)
        .with_sync("consumer", "", 0)
        .linked("consumer", "s")
        .with_sync("child", "p", 0)
        .with_sync("x", "", 0);
    let (tasks, _) = tasks(&machine);
    let of = of(&machine, &tasks, &["x", "child", "consumer", "w", "s", "p"]);
    // s waits for the list of its consumer, and by the barrier for that of p's child too.
    assert_eq!(of, [(1, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 1)]);
}

#[test]
fn the_child_or_consumer_scheduled_last_is_the_one_waited_for() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("second", "p", 0)
        .with_async("other", "", 0)
        .with_async("first", "p", 0);
    let (tasks, _) = tasks(&machine);
    let of = of(&machine, &tasks, &["first", "other", "second", "p"]);
    assert_eq!(of, [(1, 0), (2, 0), (3, 0), (4, 3)]);
}

#[test]
fn a_wait_beyond_the_own_cookie_is_cut_down_and_all_who_are_not_waited_for_are_named() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("early", "p", 0)
        .with_async("late", "p", 0)
        .with_sync("later", "p", 0)
        .listed(&["later", "late", "p", "early"]);
    let (tasks, warnings) = tasks(&machine);
    let of = of(&machine, &tasks, &["early", "p", "late", "later"]);
    assert_eq!(of, [(1, 0), (2, 1), (3, 0), (4, 3)]);
    assert_eq!(
        warnings,
        [
            "unsafe shutdown ordering, forcing sync order: p does not wait for late, later, which the \
             list has nearer to its head"
        ]
    );
}

#[test]
fn a_link_of_sync_state_stores_no_cookie() {
    let mut machine = Machine::new().with_async("s", "", 0).with_sync("c", "", 0);
    machine.graph.link(1, 0, true).unwrap();
    let (tasks, warnings) = tasks(&machine);
    assert_eq!(of(&machine, &tasks, &["c", "s"]), [(1, 0), (2, 0)]);
    assert!(warnings.is_empty());
}

#[test]
fn nobody_waits_where_nothing_is_async_but_for_their_turn() {
    let machine = Machine::new().with_sync("p", "", 0).with_sync("c", "p", 0);
    let (tasks, _) = tasks(&machine);
    assert_eq!(of(&machine, &tasks, &["c", "p"]), [(1, 0), (1, 0)]);
    assert_eq!(tasks.sizes, [2]);
}
