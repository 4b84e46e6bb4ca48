//! Who held whom up, from times that were made up.

use api::config::TeardownPolicy;

use super::*;
use crate::device_manager::teardown::tests::oracle::Machine;

fn rules(machine: &Machine, policy: TeardownPolicy) -> Rules {
    Rules::new(&machine.graph, policy)
}

#[test]
fn a_barrier_is_held_up_by_the_task_that_ends_last_and_not_by_the_last_task() {
    // u, c, p get the tasks 1, 2, 3; p waits for 2, and so for u.
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("c", "p", 0)
        .with_async("u", "", 0);
    let rules = rules(&machine, TeardownPolicy::Cookie);
    let (starts, ends) = ([10, 0, 0], [11, 1, 10]);
    let waits = Waits::new(&machine.graph, &rules, |on| Some(starts[on]), |on| ends[on]);
    assert_eq!(waits.held_up_by(0, |on| ends[on]), Some(2));
    assert_eq!(waits.held_up_by(1, |on| ends[on]), None);
    let ends = [11, 10, 1];
    let waits = Waits::new(&machine.graph, &rules, |on| Some(starts[on]), |on| ends[on]);
    assert_eq!(waits.held_up_by(0, |on| ends[on]), Some(1));
}

#[test]
fn a_lock_is_waited_for_until_the_one_before_gives_it_back() {
    let mut machine = Machine::new().with_async("p", "", 0);
    for id in ["a", "b", "c"] {
        machine = machine.with_locking(id, "p", 0);
    }
    let rules = rules(&machine, TeardownPolicy::Completion);
    let (starts, ends) = ([9, 3, 0, 5], [10, 5, 3, 9]);
    let waits = Waits::new(&machine.graph, &rules, |on| Some(starts[on]), |on| ends[on]);
    let held_up_by = |device: usize| waits.held_up_by(device, |on| ends[on]);
    assert_eq!(
        [0, 1, 2, 3].map(held_up_by),
        [Some(3), Some(2), None, Some(1)]
    );
}
