//! Every order in which host and controller can meet at a shadow doorbell, under the memory model.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use super::{Words, rest};

/// The two words, with or without the controller's fence.
struct Model {
    doorbell: AtomicU32,
    event: AtomicU32,
    fenced: bool,
}

impl Words for Model {
    fn doorbell(&self) -> Option<u32> {
        Some(self.doorbell.load(Ordering::Acquire))
    }

    fn set_event(&self, index: u32) {
        self.event.store(index, Ordering::Release);
    }

    fn fence(&self) {
        if self.fenced {
            fence(Ordering::SeqCst);
        }
    }
}

/// As Linux decides whether to ring (`nvme_dbbuf_need_event`).
fn needs_ring(event: u32, new: u32, old: u32) -> bool {
    (new as u16).wrapping_sub(event as u16).wrapping_sub(1) < (new as u16).wrapping_sub(old as u16)
}

/// A host that submits `count` commands, one after the other, against a controller that looks and then
/// rests. Whatever the controller did not see was rung for.
fn meet(fenced: bool, count: u32) {
    loom::model(move || {
        let words = Arc::new(Model {
            doorbell: AtomicU32::new(0),
            // Behind, as while the controller is awake.
            event: AtomicU32::new(40),
            fenced,
        });
        let rung = Arc::new(AtomicBool::new(false));
        let host = {
            let (words, rung) = (Arc::clone(&words), Arc::clone(&rung));
            loom::thread::spawn(move || {
                for old in 0..count {
                    words.doorbell.store(old + 1, Ordering::Release);
                    fence(Ordering::SeqCst);
                    if needs_ring(words.event.load(Ordering::Acquire), old + 1, old) {
                        rung.store(true, Ordering::Release);
                    }
                }
            })
        };
        let seen = words.doorbell().unwrap();
        let moved = rest(&*words, seen).unwrap() != seen;
        host.join().unwrap();
        let is_behind = words.doorbell().unwrap() != seen;
        assert!(
            !is_behind || moved || rung.load(Ordering::Acquire),
            "a command was neither seen nor rung for"
        );
    });
}

#[test]
fn no_command_is_lost_between_a_look_and_a_rest() {
    meet(true, 1);
    meet(true, 2);
}

#[test]
#[should_panic(expected = "neither seen nor rung for")]
fn without_the_fence_one_would_be_lost() {
    meet(false, 1);
}
