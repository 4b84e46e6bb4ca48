//! Devices that are registered while a teardown runs.

use super::*;

#[test]
fn t23_a_device_that_joins_is_next_in_turn() {
    for policy in POLICIES {
        let machine = Machine::new()
            .with_sync("first", "", 0)
            .with_sync("second", "", 0)
            .with_sync("third", "", 0);
        let under_way = UnderWay::begin(machine, policy, &["third"]);
        let gate = under_way.gate.clone();
        // Asynchronous or not, it goes through the synchronous order.
        let flagged = Node {
            asynchronous: true,
            ..node("late", Some(0))
        };
        assert_eq!(under_way.monitor.add(flagged, gate.clone()), Ok(3));
        assert_eq!(
            under_way.monitor.add(node("later", None), gate.clone()),
            Ok(4)
        );
        let twice = under_way.monitor.add(node("late", None), gate);
        assert!(matches!(
            twice,
            Err(AddError::Graph(GraphError::DuplicateId { .. }))
        ));
        let monitor = under_way.monitor.clone();
        under_way.release();
        let (run, calls, told) = under_way.end();
        // The tail is read anew: the last to be registered goes first.
        assert_eq!(calls, [4, 3, 1, 0], "{policy:?}");
        assert_eq!(told.len(), 5);
        assert_eq!(run.graph.len(), 5);
        assert_eq!(run.rules.lane, [2, 4, 3, 1, 0]);
        assert!(!run.rules.asynchronous[3]);
        assert_eq!(run.graph.order(), [0, 1, 3, 4, 2]);
        assert!(run.warnings.is_empty(), "{:?}", run.warnings);
        let over = monitor.add(node("too-late", None), Arc::new(NoCall));
        assert!(matches!(over, Err(AddError::Over { .. })));
    }
}

/// A device that must not be called.
struct NoCall;

impl Target for NoCall {
    fn shut_down(
        &self,
        device: usize,
        _: Deadline,
        _: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        panic!("{device} was called")
    }
}

#[test]
fn t23_a_parent_that_has_not_started_waits() {
    for policy in [Cookie, Completion] {
        let machine = Machine::new()
            .with_async("port", "", 0)
            .with_async("drive", "port", 0)
            .with_sync("rtc", "", 0);
        let under_way = UnderWay::begin(machine, policy, &["rtc", "drive"]);
        let gate = under_way.gate.clone();
        assert_eq!(under_way.monitor.add(node("late", Some(0)), gate), Ok(3));
        under_way.release();
        under_way.release();
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [3, 0], "{policy:?}");
        assert!(run.stamps[3].start >= run.stamps[2].end, "one at a time");
        assert!(run.rules.waits_on[0].contains(&3));
        assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    }
}

#[test]
fn t23_a_parent_that_was_ready_waits_after_all() {
    for policy in [Cookie, Completion] {
        // All workers are busy, so that the port is ready and not started.
        let mut machine = Machine::new().with_async("port", "", 0);
        for number in 0..4 {
            machine.add(&format!("busy{number}"), "", true, 0);
        }
        let machine = machine.with_sync("rtc", "", 0);
        let all = ["rtc", "busy0", "busy1", "busy2", "busy3"];
        let under_way = UnderWay::begin(machine, policy, &all);
        let gate = under_way.gate.clone();
        assert_eq!(under_way.monitor.add(node("late", Some(0)), gate), Ok(6));
        for _ in all {
            under_way.release();
        }
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [6, 0], "{policy:?}");
        assert!(run.stamps[0].start >= run.stamps[6].end);
    }
}

#[test]
fn t23_a_parent_that_has_started_is_warned_of() {
    for policy in POLICIES {
        let machine = Machine::new()
            .with_sync("first", "", 0)
            .with_sync("port", "", 0)
            .with_sync("ended", "", 0);
        let under_way = UnderWay::begin(machine, policy, &["port"]);
        for (id, parent) in [("on-running", 1), ("on-ended", 2)] {
            let gate = under_way.gate.clone();
            assert!(under_way.monitor.add(node(id, Some(parent)), gate).is_ok());
        }
        under_way.release();
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [4, 3, 0]);
        assert!(run.warnings[0].contains("on-running") && run.warnings[0].contains("port"));
        assert!(run.warnings[1].contains("on-ended") && run.warnings[1].contains("ended"));
    }
}

#[test]
fn t23_one_that_joins_waits_for_its_parents_lock() {
    for policy in [Cookie, Completion] {
        let under_way = UnderWay::begin(locking(true), policy, &["stick2"]);
        let late = Node {
            parent_lock: true,
            ..node("late", Some(0))
        };
        let gate = under_way.gate.clone();
        assert_eq!(under_way.monitor.add(late, gate), Ok(4));
        under_way.release();
        let (run, mut calls, _) = under_way.end();
        assert_eq!(calls.pop(), Some(0), "the hub is last");
        for pair in [3, 2, 1, 4].windows(2) {
            assert!(run.stamps[pair[1]].start >= run.stamps[pair[0]].end);
        }
    }
}

#[test]
fn t23_one_that_joined_can_be_removed() {
    for policy in POLICIES {
        let machine = Machine::new()
            .with_async("port", "", 0)
            .with_sync("rtc", "", 0);
        let under_way = UnderWay::begin(machine, policy, &["rtc"]);
        let joined = under_way.monitor.add(node("late", None), Arc::new(NoCall));
        assert_eq!(joined, Ok(2));
        assert_eq!(under_way.monitor.remove(2), Ok(Removal::Removed));
        under_way.release();
        let (run, _, _) = under_way.end();
        assert_eq!(run.stamps[2].outcome, Outcome::Removed);
    }
}
