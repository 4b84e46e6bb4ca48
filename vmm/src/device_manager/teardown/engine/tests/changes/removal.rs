//! Devices that are removed while a teardown runs.

use super::*;

#[test]
fn t22_a_waiter_goes_on_when_what_it_waits_for_is_removed() {
    for policy in POLICIES {
        // The port waits for both drives; one is being shut down, the other waits for its leaf.
        let machine = Machine::new()
            .with_async("port", "", 0)
            .with_async("drive", "port", 0)
            .with_async("leaf", "drive", 0);
        let under_way = UnderWay::begin(machine, policy, &["leaf"]);
        assert_eq!(under_way.monitor.remove(1), Ok(Removal::Removed));
        assert_eq!(under_way.monitor.remove(1), Ok(Removal::Ended));
        assert_eq!(under_way.monitor.remove(2), Ok(Removal::Running));
        let unknown = GraphError::UnknownDevice { device: 3 };
        assert_eq!(under_way.monitor.remove(3), Err(unknown));
        if policy == Completion {
            assert_eq!(under_way.call(), 0, "it waits for nobody now");
        } else {
            // One at a time, and tasks up to a number, are waited for all the same.
            assert_eq!(under_way.monitor.left(), 2);
        }
        under_way.release();
        let (run, calls, told) = under_way.end();
        let mut outcomes = run.stamps.iter().map(|stamp| &stamp.outcome);
        let expected = [Outcome::Done, Outcome::Removed, Outcome::Done];
        assert!(outcomes.by_ref().eq(&expected), "{policy:?}");
        assert!(!calls.contains(&1), "{policy:?}: it was called");
        assert_eq!(told.len(), 3);
        assert_eq!(run.troubled().count(), 0, "a removal is no trouble");
    }
}

#[test]
fn t22_the_turn_passes_over_a_removed_device() {
    for policy in POLICIES {
        let machine = Machine::new()
            .with_sync("first", "", 0)
            .with_sync("second", "", 0)
            .with_sync("third", "", 0)
            .with_sync("last", "", 0);
        let under_way = UnderWay::begin(machine, policy, &["last"]);
        assert_eq!(under_way.monitor.remove(2), Ok(Removal::Removed));
        assert_eq!(under_way.monitor.remove(1), Ok(Removal::Removed));
        let open = under_way.monitor.open();
        assert!(open.iter().all(|open| open.running == (open.device == 3)));
        under_way.release();
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [0]);
        assert!(run.stamps[0].start >= run.stamps[3].end, "one at a time");
    }
}

#[test]
fn t22_a_removed_device_ends_its_task() {
    // List x, u, p, c; tasks: c, p after c, u, x after all. The barrier must pass the removed ones.
    let machine = Machine::new()
        .with_sync("x", "", 0)
        .with_async("u", "", 0)
        .with_async("p", "", 0)
        .with_async("c", "p", 0);
    let under_way = UnderWay::begin(machine, Cookie, &["c", "u"]);
    assert_eq!(under_way.monitor.remove(2), Ok(Removal::Removed));
    under_way.release();
    under_way.release();
    let (run, calls, _) = under_way.end();
    assert_eq!(calls, [0]);
    assert!(run.stamps[0].start >= run.stamps[1].end.max(run.stamps[3].end));
}

#[test]
fn t22_a_list_keeps_its_barrier_when_its_first_is_removed() {
    // The list second, first waits for the drive's task.
    let machine = Machine::new()
        .with_sync("first", "", 0)
        .with_sync("second", "", 0)
        .with_async("drive", "", 0);
    let under_way = UnderWay::begin(machine, Cookie, &["drive"]);
    assert_eq!(under_way.monitor.remove(1), Ok(Removal::Removed));
    assert_eq!(under_way.monitor.open().len(), 2);
    under_way.release();
    let (run, _, _) = under_way.end();
    assert!(run.stamps[0].start >= run.stamps[2].end);
}

#[test]
fn t22_one_that_queues_for_a_lock_is_passed_over() {
    for policy in [Cookie, Completion] {
        let under_way = UnderWay::begin(locking(true), policy, &["stick2"]);
        // stick1 and stick0 queue for the hub's lock, which stick2 holds.
        assert_eq!(under_way.monitor.remove(2), Ok(Removal::Removed));
        under_way.release();
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [1, 0]);
        assert!(run.stamps[1].start >= run.stamps[3].end);
    }
}

#[test]
fn t22_one_that_holds_a_lock_and_was_not_started_gives_it_back() {
    for policy in [Cookie, Completion] {
        // The only workers are busy, so that stick2 has the lock but no worker.
        let mut machine = locking(true);
        for number in 0..4 {
            let id = format!("busy{number}");
            let node = Node {
                asynchronous: true,
                ..Node::new(id, "test")
            };
            machine.graph.add(node).unwrap();
        }
        let busy = ["busy0", "busy1", "busy2", "busy3"];
        let under_way = UnderWay::begin(machine, policy, &busy);
        assert_eq!(under_way.monitor.remove(3), Ok(Removal::Removed));
        for _ in busy {
            under_way.release();
        }
        let (run, calls, _) = under_way.end();
        assert_eq!(calls, [2, 1, 0], "{policy:?}");
        assert_eq!(run.stamps[3].outcome, Outcome::Removed);
    }
}

#[test]
fn t22_devices_can_be_removed_before_it_begins() {
    let machine = Machine::new()
        .with_async("port", "", 0)
        .with_async("drive", "port", 0);
    let model = Arc::new(Model::of(&machine));
    let graph = Arc::new(machine.graph);
    let few = Arc::new(Few(AtomicUsize::new(0), usize::MAX));
    let teardown = Teardown::with_threads(
        graph,
        Completion,
        4,
        model.clone(),
        Arc::new(Unobserved),
        few.clone(),
    );
    let monitor = teardown.monitor();
    assert_eq!(monitor.remove(1), Ok(Removal::Removed));
    assert_eq!(
        few.0.load(Ordering::SeqCst),
        0,
        "nothing runs before it begins"
    );
    assert_eq!(monitor.remove(0), Ok(Removal::Removed));
    let late = monitor.add(node("late", None), Arc::new(AtOnce));
    assert_eq!(late, Ok(2), "it has not begun");
    let run = teardown.run();
    assert_eq!(run.stamps[2].outcome, Outcome::Done);
    assert_eq!(run.stamps[0].outcome, Outcome::Removed);
}
