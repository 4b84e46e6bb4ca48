//! Functions that are reset together: once, by whichever comes last, and what is known where that does not happen.

use std::collections::BTreeSet;
use std::thread;

use super::*;
use crate::client::{Client, ClientError, region};
use crate::vfio::UnfinishedReset;

const SLOT: &str = "slot 0000:03:00";

fn unfinished(members: &[&str], why: &str) -> Vec<UnfinishedReset> {
    vec![UnfinishedReset {
        name: SLOT.to_owned(),
        members: members.iter().map(|member| (*member).to_owned()).collect(),
        reason: format!("{SLOT} was not reset: {why}"),
    }]
}

#[test]
fn functions_of_one_slot_are_reset_once_by_whichever_comes_last() {
    for (groups, given) in [([7, 7], 1), ([7, 8], 2)] {
        let scene = Scene::sharing(groups);
        let first = scene.open("0000:03:00.0").unwrap();
        let second = scene.open("0000:03:00.1").unwrap();
        scene.vfio.check_reset_sets().unwrap();
        let set = second.reset_set().unwrap();
        assert_eq!(set.name, "slot 0000:03:00");
        assert_eq!(set.members, ["0000:03:00.0", "0000:03:00.1"]);
        assert!(!first.can_reset());
        for round in 1..3 {
            second.reset(soon()).unwrap();
            assert_eq!(scene.script.hot_resets().len(), round - 1);
            first.reset(soon()).unwrap();
            assert_eq!(scene.script.hot_resets(), vec![given; round]);
            assert_eq!(scene.vfio.unfinished_resets(), []);
        }
        assert_eq!(scene.script.count("Reset"), 0);
    }
}

#[test]
fn a_set_whose_member_does_not_come_is_unfinished_and_the_next_teardown_begins_anew() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    assert_eq!(scene.vfio.unfinished_resets(), []);
    first.reset(soon()).unwrap();
    assert_eq!(
        scene.vfio.unfinished_resets(),
        unfinished(&["0000:03:00.0"], "0000:03:00.1 did not get to its reset")
    );
    assert_eq!(scene.vfio.unfinished_resets(), []);
    // Whoever comes now is not the last one.
    second.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_member_that_is_gone_before_its_turn_leaves_the_set_unfinished() {
    let scene = Scene::sharing([7, 7]);
    let notes = Arc::default();
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open_for("0000:03:00.1", &notes).unwrap();
    first.reset(soon()).unwrap();
    second.leave("it was unplugged");
    assert!(second.reset(soon()).is_err());
    assert!(scene.script.hot_resets().is_empty());
    assert_eq!(
        scene.vfio.unfinished_resets(),
        unfinished(&["0000:03:00.0"], "0000:03:00.1 is gone (it was unplugged)")
    );
    // In the next teardown nobody waits for it.
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_hot_reset_that_fails_is_known_for_all_who_came_and_can_be_tried_again() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    scene.script.fail("HotReset(", &[libc::EIO]);
    first.reset(soon()).unwrap();
    let text = second.reset(soon()).unwrap_err().to_string();
    assert!(text.contains("hot reset of slot 0000:03:00"), "{text}");
    // All of them wait still: another try is the whole set's.
    second.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);

    scene.script.fail("HotReset(", &[libc::EIO]);
    first.reset(soon()).unwrap();
    second.reset(soon()).unwrap_err();
    assert_eq!(
        scene.vfio.unfinished_resets(),
        unfinished(
            &["0000:03:00.0", "0000:03:00.1"],
            "its hot reset failed: Input/output error (os error 5)"
        )
    );
    // The failure was that of the round before.
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    second.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1, 1]);
}

#[test]
fn a_hot_reset_that_has_not_ended_is_unfinished_and_its_end_does_not_count_later() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    let release = scene.script.hang("HotReset(");
    thread::scope(|scope| {
        first.reset(soon()).unwrap();
        let hung = scope.spawn(|| second.reset(soon()));
        scene.script.wait_for("HotReset(");
        assert_eq!(
            scene.vfio.unfinished_resets(),
            unfinished(
                &["0000:03:00.0", "0000:03:00.1"],
                "its hot reset has not ended yet"
            )
        );
        first.reset(soon()).unwrap();
        drop(release);
        hung.join().unwrap().unwrap();
    });
    // The first one has waited since the next teardown began: it was not reset in that.
    let unfinished = scene.vfio.unfinished_resets();
    assert_eq!(unfinished[0].members, ["0000:03:00.0"]);
}

#[test]
fn a_function_that_goes_on_without_its_reset_does_not_count_for_the_next_one() {
    let scene = Scene::sharing([7, 7]);
    let notes = Arc::default();
    let first = scene.open_for("0000:03:00.0", &notes).unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    first.reset(soon()).unwrap();
    // Its guest turns bus mastering on.
    first.write(region::CONFIG, 4, &[0x06, 0]).unwrap();
    assert!(
        notes.all()[0].contains("goes on without its reset"),
        "{:?}",
        notes.all()
    );
    second.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_function_with_its_own_reset_comes_to_that_of_the_others_too() {
    for own_first in [true, false] {
        let scene = Scene::slot(&[
            ("0000:03:00.0", 7, true),
            ("0000:03:00.1", 7, false),
            ("0000:03:00.2", 7, false),
        ]);
        let notes = Arc::default();
        let own = scene.open_for("0000:03:00.0", &notes).unwrap();
        let others = ["0000:03:00.1", "0000:03:00.2"].map(|other| scene.open(other).unwrap());
        scene.vfio.check_reset_sets().unwrap();
        assert!(own.can_reset() && own.reset_set().is_none());
        for round in 1..3 {
            if own_first {
                own.reset(soon()).unwrap();
            }
            for other in &others {
                assert_eq!(scene.script.hot_resets().len(), round - 1);
                other.reset(soon()).unwrap();
            }
            if !own_first {
                assert_eq!(scene.script.hot_resets().len(), round - 1);
                own.reset(soon()).unwrap();
            }
            assert_eq!(scene.script.hot_resets().len(), round);
            assert_eq!(scene.script.count("Reset"), round);
            assert_eq!(scene.vfio.unfinished_resets(), []);
            own.write(region::CONFIG, 4, &[0x06, 0]).unwrap();
        }
        // It had its own reset each time, and is not said to lack one.
        assert_eq!(notes.all(), Vec::<String>::new());
    }
}

#[test]
fn a_function_with_its_own_reset_that_works_keeps_the_others_from_theirs() {
    let scene = Scene::slot(&[("0000:03:00.0", 7, true), ("0000:03:00.1", 7, false)]);
    let own = scene.open("0000:03:00.0").unwrap();
    let other = scene.open("0000:03:00.1").unwrap();
    // Its guest resets it, and uses it.
    own.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    own.write(region::CONFIG, 4, &[0x06, 0]).unwrap();
    other.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    // One that was put off has not come yet.
    scene.script.fail("Reset", &[libc::EAGAIN]);
    own.reset(soon()).unwrap_err();
    assert!(scene.script.hot_resets().is_empty());
    assert_eq!(
        scene.vfio.unfinished_resets(),
        unfinished(&["0000:03:00.1"], "0000:03:00.0 did not get to its reset")
    );
    // By itself it begins no set's reset, be it that all the others are at rest, since they were reset before it came.
    own.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    other.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    own.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_reset_of_its_own_that_fails_does_not_keep_the_others_from_theirs() {
    let scene = Scene::slot(&[("0000:03:00.0", 7, true), ("0000:03:00.1", 7, false)]);
    let own = scene.open("0000:03:00.0").unwrap();
    let other = scene.open("0000:03:00.1").unwrap();
    other.reset(soon()).unwrap();
    scene.script.fail("Reset", &[libc::EIO]);
    let text = own.reset(soon()).unwrap_err().to_string();
    assert!(text.contains("0000:03:00.0: reset: Input/output"), "{text}");
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_hot_reset_that_is_put_off_can_be_asked_for_again_by_the_one_who_came_last() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    scene.script.fail("HotReset(", &[libc::EAGAIN]);
    first.reset(soon()).unwrap();
    let Err(ClientError::Refused { source, .. }) = second.reset(soon()) else {
        panic!("not refused");
    };
    assert_eq!(source.raw_os_error(), Some(libc::EAGAIN));
    second.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_hot_reset_that_fails_fails_those_too_that_were_reset_by_themselves() {
    let scene = Scene::slot(&[("0000:03:00.0", 7, true), ("0000:03:00.1", 7, false)]);
    let own = scene.open("0000:03:00.0").unwrap();
    let other = scene.open("0000:03:00.1").unwrap();
    scene.script.fail("HotReset(", &[libc::EIO]);
    own.reset(soon()).unwrap();
    other.reset(soon()).unwrap_err();
    let unfinished = scene.vfio.unfinished_resets();
    assert_eq!(unfinished[0].members, ["0000:03:00.0", "0000:03:00.1"]);
}

#[test]
fn a_function_that_is_reset_with_others_than_those_it_needs_comes_to_both() {
    let behind = ["0000:04:00.0", "0000:04:00.1"];
    let scene = Scene::slot(&[
        ("0000:03:00.0", 7, false),
        (behind[0], 8, false),
        (behind[1], 8, false),
    ]);
    let set: BTreeSet<_> = behind
        .map(|address| (8, HostPath::parse(address).unwrap()))
        .into();
    for (_, path) in &set {
        let mut dependents = scene.script.dependents_of.lock().unwrap();
        dependents.insert(*path, set.clone());
    }
    let above = scene.open("0000:03:00.0").unwrap();
    let behind = behind.map(|address| scene.open(address).unwrap());
    assert_eq!(behind[0].reset_set().unwrap().members.len(), 2);
    assert_eq!(above.reset_set().unwrap().members.len(), 3);
    // Those behind it need nobody else.
    behind
        .iter()
        .for_each(|device| device.reset(soon()).unwrap());
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
    // It needs them to be at rest.
    above.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    behind
        .iter()
        .for_each(|device| device.reset(soon()).unwrap());
    assert_eq!(scene.script.hot_resets(), [1, 2, 1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_function_that_comes_once_more_after_its_reset_is_reset_again() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    // The guest resets one of them and leaves it alone from then on.
    first.reset(soon()).unwrap();
    // In the teardown the other one finds it at rest, and then it is its turn.
    second.reset(soon()).unwrap();
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1, 1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_function_that_was_released_is_not_waited_for() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    second.release();
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_set_of_one_is_a_device_that_is_reset_by_itself() {
    let scene = Scene::sharing([7, 7]);
    scene.script.dependents.lock().unwrap().pop_last();
    let device = scene.open("0000:03:00.0").unwrap();
    assert!(device.can_reset());
    device.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}
