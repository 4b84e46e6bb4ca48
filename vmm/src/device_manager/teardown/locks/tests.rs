//! Who gets a lock, and when.

use super::*;
use crate::device_manager::teardown::graph::Node;

/// `count` devices behind each other, the first at the root; those in `locking` lock their parents.
fn chain(count: usize, locking: &[usize]) -> Graph {
    let mut graph = Graph::new();
    for number in 0..count {
        let node = Node {
            parent: number.checked_sub(1),
            parent_lock: locking.contains(&number),
            ..Node::new(format!("d{number}"), "test")
        };
        graph.add(node).unwrap();
    }
    graph
}

/// A parent and `count` children that lock it.
fn siblings(count: usize) -> Graph {
    let mut graph = chain(1, &[]);
    for number in 0..count {
        let node = Node {
            parent: Some(0),
            parent_lock: true,
            ..Node::new(format!("c{number}"), "test")
        };
        graph.add(node).unwrap();
    }
    graph
}

#[test]
fn a_graph_in_which_nobody_locks_has_no_locks() {
    assert!(Locks::new(&chain(4, &[])).is_none());
    // The root has no parent to lock.
    assert!(Locks::new(&chain(4, &[0])).is_none());
}

#[test]
fn siblings_get_the_lock_in_the_order_in_which_they_ask() {
    let mut locks = Locks::new(&siblings(3)).unwrap();
    assert!(locks.take(2));
    assert!(!locks.take(3) && !locks.take(1));
    assert_eq!(locks.holders(3).collect::<Vec<_>>(), [2]);
    assert_eq!(locks.give_back(2), [3]);
    assert_eq!(locks.give_back(3), [1]);
    assert!(locks.give_back(1).is_empty());
}

#[test]
fn a_parent_holds_its_own_lock() {
    let mut locks = Locks::new(&siblings(1)).unwrap();
    assert!(locks.take(0));
    assert!(!locks.take(1));
    assert_eq!(locks.give_back(0), [1]);
}

#[test]
fn one_that_needs_two_locks_holds_neither_while_it_waits() {
    // d1 needs the locks of d0 and of itself, d2 that of d1.
    let mut locks = Locks::new(&chain(3, &[1, 2])).unwrap();
    assert!(locks.take(2));
    assert!(!locks.take(1));
    assert!(locks.take(0), "d1 does not hold the lock of d0");
    // The lock of d1 is free now, that of d0 is not.
    assert!(locks.give_back(2).is_empty());
    assert_eq!(locks.holders(1).collect::<Vec<_>>(), [0]);
    assert_eq!(locks.give_back(0), [1]);
}

#[test]
fn those_that_leave_the_queue_are_passed_over() {
    let mut locks = Locks::new(&siblings(3)).unwrap();
    assert!(locks.take(1) && !locks.take(2) && !locks.take(3));
    assert!(locks.give_back(2).is_empty(), "it holds nothing");
    assert_eq!(locks.give_back(1), [3]);
}

#[test]
fn one_that_joins_takes_the_lock_of_its_parent_in_turn() {
    let mut graph = siblings(1);
    let mut locks = Locks::new(&graph).unwrap();
    assert!(locks.take(1));
    let late = |parent| Node {
        parent: Some(parent),
        parent_lock: true,
        ..Node::new(format!("behind{parent}"), "test")
    };
    let second = graph.add(late(0)).unwrap();
    locks.join(Some(0), true);
    assert!(!locks.take(second));
    assert_eq!(locks.give_back(1), [second]);
    assert!(locks.give_back(second).is_empty());
    // A device that runs already did not take its own lock, and gives none back.
    assert!(locks.take(1));
    let third = graph.add(late(1)).unwrap();
    locks.join(Some(1), false);
    assert!(locks.take(third));
    assert!(locks.give_back(1).is_empty());
    assert_eq!(locks.holders(third).count(), 0);
}
