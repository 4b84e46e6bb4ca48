//! Events that end the waiting, and boots that change meanwhile.

use std::cell::{Cell, RefCell};

use super::*;

#[test]
fn lost_events_end_the_waiting_at_once() {
    let lost = EventKind::Gap {
        reason: GapReason::Overrun,
        lost: 70,
    };
    assert!(end(&lost).unwrap().contains("70 events were lost"));
    let other = EventKind::Gap {
        reason: GapReason::Restarted,
        lost: 0,
    };
    assert!(end(&other).unwrap().contains("started anew"));
    assert_eq!(end(&EventKind::VmPaused), None);
}

#[test]
fn a_reset_while_events_begin_to_be_followed_is_not_missed() {
    let boots = RefCell::new([5, 6, 6].into_iter());
    let followed = Cell::new(0);
    let look = || Ok(boots.borrow_mut().next().unwrap());
    let follow = || {
        followed.set(followed.get() + 1);
        Ok(followed.get())
    };
    let (events, boot) = within_a_boot(look, follow, |boot| *boot).unwrap();
    assert_eq!((events, boot), (2, 6), "followed anew in boot 6");
}
