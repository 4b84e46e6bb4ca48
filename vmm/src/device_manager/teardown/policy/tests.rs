//! Who waits for whom, and what happens to rules that go round in a circle.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::{Machine, machines};

fn rules(machine: &Machine, policy: TeardownPolicy) -> Rules {
    Rules::new(&machine.graph, policy)
}

fn waits<'a>(machine: &'a Machine, rules: &Rules, id: &str) -> Vec<&'a str> {
    rules.waits_on[machine.at(id)]
        .iter()
        .map(|&on| machine.graph.node(on).id.as_str())
        .collect()
}

#[test]
fn an_async_device_waits_for_all_children_and_consumers() {
    let machine = Machine::new()
        .with_async("port", "", 0)
        .with_async("drive", "port", 0)
        .with_sync("led", "port", 0)
        .with_async("raid", "", 0)
        .linked("raid", "port");
    let rules = rules(&machine, TeardownPolicy::Completion);
    assert_eq!(waits(&machine, &rules, "port"), ["drive", "led", "raid"]);
    assert!(rules.warnings.is_empty());
}

#[test]
fn a_sync_device_waits_for_async_ones_and_its_turn() {
    let machine = Machine::new()
        .with_sync("port", "", 0)
        .with_async("drive", "port", 0)
        .with_sync("led", "port", 0)
        .with_sync("rtc", "", 0);
    let rules = rules(&machine, TeardownPolicy::Completion);
    assert_eq!(waits(&machine, &rules, "port"), ["drive", "led"]);
    assert_eq!(waits(&machine, &rules, "led"), ["rtc"]);
    assert!(waits(&machine, &rules, "rtc").is_empty());
}

#[test]
fn serial_is_the_list_backwards() {
    let machine = Machine::new()
        .with_async("a", "", 0)
        .with_async("b", "a", 0)
        .with_async("c", "", 0);
    let rules = rules(&machine, TeardownPolicy::Serial);
    assert_eq!(rules.lane, [2, 1, 0]);
    assert_eq!(rules.asynchronous, [false; 3]);
    let waits_on: Vec<&[usize]> = rules.waits_on.iter().collect();
    assert_eq!(waits_on, [&[1][..], &[2], &[]]);
}

#[test]
fn a_child_that_is_a_consumer_too_is_waited_for_once() {
    let machine = Machine::new()
        .with_async("a", "", 0)
        .with_async("b", "a", 0)
        .linked("b", "a");
    assert_eq!(
        waits(&machine, &rules(&machine, TeardownPolicy::Completion), "a"),
        ["b"]
    );
}

#[test]
fn an_inversion_of_sync_devices_is_warned_of() {
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("c", "p", 0)
        .listed(&["c", "p"]);
    assert_eq!(
        rules(&machine, TeardownPolicy::Serial).warnings,
        ["p goes before its child c, as the list has them"]
    );
    assert!(
        rules(&machine, TeardownPolicy::Completion)
            .warnings
            .is_empty()
    );
}

#[test]
fn t7_a_sync_parent_that_overlaps_its_async_child_under_cookie_is_warned_of() {
    let machine = Machine::new()
        .with_sync("p", "", 0)
        .with_sync("s", "", 0)
        .with_async("c", "p", 0)
        .linked("c", "s");
    assert!(
        rules(&machine, TeardownPolicy::Cookie).warnings.is_empty(),
        "in a list that can be kept nothing overlaps"
    );
    let machine = machine.listed(&["c", "p", "s"]);
    assert_eq!(
        rules(&machine, TeardownPolicy::Cookie).warnings,
        [
            "s does not wait for its consumer c, which the list has nearer to its head: they may overlap",
            "p does not wait for its child c, which the list has nearer to its head: they may overlap",
        ]
    );
    assert!(
        rules(&machine, TeardownPolicy::Completion)
            .warnings
            .is_empty()
    );
}

#[test]
fn a_list_of_cookie_waits_as_one() {
    let machine = Machine::new()
        .with_sync("y", "", 0)
        .with_sync("x", "", 0)
        .with_async("drive", "", 0);
    let rules = rules(&machine, TeardownPolicy::Cookie);
    let waits_on: Vec<&[usize]> = rules.waits_on.iter().collect();
    assert_eq!(waits_on, [&[1][..], &[], &[]]);
    assert_eq!(rules.lane, [1, 0]);
    assert_eq!(rules.tasks.unwrap().waits_for, [0, 1, 0]);
}

#[test]
fn t20_the_inversion_c_s_p_is_forced_to_sync_and_named() {
    let mut machine = Machine::new().with_sync("s", "", 0).with_async("p", "s", 0);
    machine.add("c", "p", false, 0);
    let machine = machine.listed(&["c", "s", "p"]).with_async("drive", "", 0);
    let rules = rules(&machine, TeardownPolicy::Completion);
    assert_eq!(
        rules.asynchronous,
        [false, false, false, true],
        "who is not in the circle stays async"
    );
    assert!(
        rules.warnings[0].starts_with("ordering forced to sync: "),
        "{:?}",
        rules.warnings
    );
    for id in ["c", "s", "p"] {
        assert!(rules.warnings[0].contains(id), "{:?}", rules.warnings);
    }
    assert_eq!(rules.lane, [1, 0, 2]);
}

#[test]
fn t20_a_circle_names_those_whose_relations_close_it() {
    // c, x, y, z, s: each waits for the turn of the next.
    let mut machine = Machine::new().with_sync("s", "", 0).with_async("p", "s", 0);
    for id in ["z", "y", "x"] {
        machine.add(id, "", false, 0);
    }
    let machine = machine
        .with_sync("c", "p", 0)
        .listed(&["c", "x", "y", "z", "s", "p"]);
    let rules = rules(&machine, TeardownPolicy::Completion);
    let warning = &rules.warnings[0];
    let names = warning
        .strip_prefix("ordering forced to sync: ")
        .and_then(|rest| {
            rest.strip_suffix(
                " wait for each other in a circle, over 3 synchronous devices in between",
            )
        });
    let mut names: Vec<&str> = names.unwrap().split(", ").collect();
    names.sort_unstable();
    assert_eq!(names, ["c", "p", "s"], "{warning}");
}

#[test]
fn t20_a_true_cycle_is_forced_to_sync() {
    let mut machine = Machine::new()
        .with_async("a", "", 0)
        .with_async("b", "", 0)
        .linked("b", "a");
    machine.graph.reparent(0, Some(1)).unwrap();
    let rules = rules(&machine, TeardownPolicy::Completion);
    assert_eq!(rules.asynchronous, [false, false]);
    assert!(rules.warnings[0].contains('a') && rules.warnings[0].contains('b'));
    assert_eq!(rules.lane, [1, 0]);
}

#[test]
fn t20_circles_apart_are_found_in_one_pass() {
    // Ten times c, s, p. A pass each would be a pass a circle on machines of thousands of devices.
    let mut machine = Machine::new();
    let mut list = Vec::new();
    for number in 0..10 {
        let [c, s, p] = ["c", "s", "p"].map(|name| format!("{name}{number}"));
        machine = machine
            .with_sync(&s, "", 0)
            .with_async(&p, &s, 0)
            .with_sync(&c, &p, 0);
        list.extend([c, s, p]);
    }
    let machine = machine.listed(&list.iter().map(String::as_str).collect::<Vec<_>>());
    let flags = machine.graph.nodes().iter().map(|node| node.asynchronous);
    let rules = Rules::by_completion(&machine.graph, flags.collect());
    assert_eq!(rules.find_cycles().len(), 10);
}

proptest! {
    #[test]
    fn any_list_can_be_ordered(machine in machines(80, Duration::from_millis(1), true)) {
        for policy in [TeardownPolicy::Serial, TeardownPolicy::Completion] {
            let rules = rules(&machine, policy);
            prop_assert!(rules.find_cycles().is_empty());
            let forced = rules.warnings.iter().any(|warning| warning.starts_with("ordering forced"));
            let changed = (0..machine.graph.len()).any(|device| {
                policy == TeardownPolicy::Completion
                    && rules.asynchronous[device] != machine.graph.node(device).asynchronous
            });
            prop_assert_eq!(forced, changed);
        }
    }
}
