//! Every device exactly once, the rules kept, no wake-up lost, no thread stuck: under schedules that are
//! drawn.

use std::time::Duration;

use api::config::TeardownPolicy::{Completion, Cookie, Serial};

use super::model::{Case, Change};
use crate::device_manager::teardown::clock::Cost;
use crate::device_manager::teardown::graph::{Graph, Node};
use crate::device_manager::teardown::tests::oracle::Machine;

/// Schedules of each kind that are drawn for a case.
const ROUNDS: usize = 30;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The machine with calls that block for so many milliseconds.
fn working(mut machine: Machine, work: &[(&str, u64)]) -> Machine {
    for &(id, milliseconds) in work {
        let device = machine.at(id);
        machine.costs[device].work = ms(milliseconds);
    }
    machine
}

/// The machine with a deadline for one device.
fn with_deadline(machine: Machine, id: &str, deadline: Duration) -> Machine {
    let mut graph = Graph::new();
    for node in machine.graph.nodes() {
        let deadline = if node.id == id {
            deadline
        } else {
            node.deadline
        };
        graph
            .add(Node {
                deadline,
                ..node.clone()
            })
            .unwrap();
    }
    Machine { graph, ..machine }
}

/// A port with drives, whose calls block for different times.
fn fan_out() -> Machine {
    let machine = Machine::new()
        .with_async("port", "", 0)
        .with_async("a", "port", 0)
        .with_async("b", "port", 0)
        .with_async("c", "port", 0)
        .with_async("d", "port", 0);
    working(machine, &[("a", 1), ("b", 2), ("c", 3), ("port", 1)])
}

/// Synchronous devices, each with something asynchronous behind it.
fn lane() -> Machine {
    let machine = Machine::new()
        .with_sync("bridge", "", 0)
        .with_async("disk", "bridge", 2)
        .with_sync("hub", "", 0)
        .with_async("stick", "hub", 1)
        .with_sync("rtc", "", 0);
    working(machine, &[("rtc", 2), ("hub", 1), ("stick", 1)])
}

/// Latencies alone, in a tree, some of devices whose calls do not block.
fn timers() -> Machine {
    let mut machine = Machine::new();
    for (number, parent) in [None, Some(0), Some(0), Some(1)].into_iter().enumerate() {
        let node = Node {
            parent,
            asynchronous: true,
            blocking: number % 2 == 0,
            ..Node::new(format!("d{number}"), "test")
        };
        machine.graph.add(node).unwrap();
        machine.costs.push(Cost::latency(ms(number as u64 + 1)));
    }
    machine.with_sync("rtc", "", 1)
}

/// Siblings that lock their parent, some synchronous.
fn locking() -> Machine {
    let machine = Machine::new()
        .with_async("hub", "", 0)
        .with_locking("a", "hub", 1)
        .with_locking("b", "hub", 0)
        .with_locking_sync("c", "hub", 1);
    working(machine, &[("b", 1), ("hub", 1)])
}

/// Tasks of `cookie`: drives with lists of synchronous devices between them.
fn tasks() -> Machine {
    let machine = Machine::new()
        .with_async("p0", "", 0)
        .with_sync("s0", "p0", 0)
        .with_async("p1", "", 1)
        .with_sync("s1", "p1", 0)
        .with_sync("s2", "", 0);
    working(machine, &[("p0", 2), ("s1", 1), ("s2", 1)])
}

fn machines() -> [Machine; 5] {
    [fan_out(), lane(), timers(), locking(), tasks()]
}

#[test]
fn every_device_ends_at_its_moment() {
    for machine in machines() {
        for policy in [Serial, Cookie, Completion] {
            Case::new(machine.clone(), policy, 8).explore(ROUNDS / 3);
        }
    }
}

#[test]
fn few_workers_do_it_all() {
    for machine in [fan_out(), lane(), timers()] {
        for workers in 1..=3 {
            Case::new(machine.clone(), Completion, workers).explore(ROUNDS);
        }
    }
}

#[test]
fn locks_and_tasks_with_few_workers() {
    for (machine, policy) in [
        (locking(), Completion),
        (locking(), Cookie),
        (tasks(), Cookie),
    ] {
        for workers in 1..=2 {
            Case::new(machine.clone(), policy, workers).explore(ROUNDS);
        }
    }
}

#[test]
fn t21_no_thread_at_any_index() {
    for threads in 0..4 {
        for machine in [fan_out(), lane(), timers(), locking()] {
            let case = Case::new(machine, Completion, 3);
            Case { threads, ..case }.explore(ROUNDS / 2);
        }
    }
}

#[test]
fn t22_any_device_removed_at_any_moment() {
    for machine in machines() {
        for device in 0..machine.costs.len() {
            for policy in [Cookie, Completion] {
                let case = Case::new(machine.clone(), policy, 2);
                let changes = vec![Change::Remove(device), Change::Remove(0)];
                Case { changes, ..case }.explore(ROUNDS / 6);
            }
        }
    }
}

#[test]
fn t22_whoever_waited_for_a_removed_device_goes_on_at_once() {
    // A quick port has no worker of its own to see that its turn has come.
    let mut machine = Machine::new();
    let port = Node {
        asynchronous: true,
        blocking: false,
        ..Node::new("port", "test")
    };
    machine.graph.add(port).unwrap();
    machine.costs.push(Cost::default());
    let machine = machine
        .with_async("drive", "port", 0)
        .with_async("leaf", "drive", 0);
    let quick = working(machine, &[("leaf", 9)]);
    let busy = working(quick.clone().with_sync("rtc", "", 0), &[("rtc", 8)]);
    for machine in [quick, busy, fan_out(), timers()] {
        let case = Case::new(machine, Completion, 8);
        let changes = vec![Change::Remove(1)];
        Case { changes, ..case }.explore(ROUNDS);
    }
}

#[test]
fn t23_a_device_added_at_any_moment() {
    for machine in machines() {
        for policy in [Serial, Cookie, Completion] {
            for parent in [None, Some(0), Some(1)] {
                let case = Case::new(machine.clone(), policy, 2);
                let changes = vec![
                    Change::AddBehind(parent),
                    Change::AddBehind(Some(0)),
                    Change::Remove(1),
                ];
                Case { changes, ..case }.explore(ROUNDS / 6);
            }
        }
    }
}

#[test]
fn t27_a_device_given_up_at_its_deadline() {
    let hung = working(fan_out(), &[("b", 50)]);
    let hung = with_deadline(hung, "b", ms(2));
    for workers in [1, 2, 8] {
        Case::new(hung.clone(), Completion, workers).explore(ROUNDS);
    }
    // Beside a synchronous device that blocks, the keeper has to see to it.
    let busy = working(lane(), &[("stick", 50)]);
    Case::new(with_deadline(busy, "stick", ms(1)), Completion, 8).explore(ROUNDS);
}

#[test]
fn a_slow_host_changes_no_order() {
    for machine in machines() {
        for policy in [Cookie, Completion] {
            let case = Case::new(with_deadline(machine.clone(), "b", ms(1)), policy, 2);
            let changes = vec![Change::Remove(1), Change::AddBehind(Some(0))];
            let slow_host = true;
            Case {
                changes,
                slow_host,
                ..case
            }
            .explore(ROUNDS / 3);
        }
    }
}
