//! Doorbells as eventfds: no command waits for a signal that is lost, none is signalled whose value counts,
//! and what is connected follows the BAR and stays over resets.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::io_event::IoEvents;
use devices::lifecycle::{Deadline, Device, Phases};

use super::backend::TestBackend;
use super::driver::{DATA, DISK, Guest, SHADOW, config, eventually, result, transfer};
use crate::Engine;
use crate::spec::Submission;
use crate::spec::command::{admin, io};
use crate::spec::registers::offset;

const HERE: u64 = 0xC000_0000;
const THERE: u64 = 0xC001_0000;

fn read() -> Submission {
    transfer(io::READ, 0, 1, DATA, 0)
}

/// Where the tail doorbell of queue `id` is.
fn tail(bar: u64, id: u64) -> u64 {
    bar + offset::DOORBELLS + id * 8
}

/// Enabled with shadow doorbells and queue pairs 1 and 2.
fn start(guest: &mut Guest) {
    guest.enable();
    guest.use_shadow();
    guest.create_pair(1);
    guest.create_pair(2);
}

fn on(engine: Arc<Engine>) -> Guest {
    let mut guest = Guest::on_engine(config(vec![TestBackend::new(DISK)]), engine);
    guest.place(Some(HERE));
    // The pin would have the guest ring for every head that moves.
    guest.enable_msix();
    start(&mut guest);
    guest
}

fn up() -> Guest {
    on(Engine::new(NonZeroUsize::new(2)).unwrap())
}

/// Commands one at a time, so that queues come to rest in between.
fn work(guest: &mut Guest, count: u32) {
    for round in 0..count {
        let id = 1 + (round % 2) as u16;
        guest.run(id, read()).unwrap();
    }
}

fn reset(guest: &Guest) {
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
}

fn shut_down(guest: &mut Guest) {
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_secs(20));
    guest.controller.shut_down(by, &mut phases).unwrap();
    guest.place(None);
    guest.power_up();
    guest.place(Some(HERE));
}

#[test]
fn a_guest_that_signals_waits_for_nothing() {
    let two = NonZeroUsize::new(2);
    for engine in [Engine::new(two), Engine::without_ring(two)] {
        let mut guest = on(engine.unwrap());
        for round in 0..2000_u32 {
            let id = 1 + (round % 2) as u16;
            let cids: Vec<_> = (0..1 + round % 5)
                .map(|_| guest.submit(id, read()))
                .collect();
            for cid in cids {
                assert_eq!(result(&guest.wait(id, cid)), Ok(0));
            }
            if round % 100 == 0 {
                // Long enough for the threads to sleep.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let counts = guest.controller.doorbell_counts();
        assert!(counts.signalled > 0, "{counts:?}");
        // Heads alone, once a lap.
        assert!(counts.written < 500, "{counts:?}");
    }
}

#[test]
fn a_busy_thread_sees_the_signals_of_its_other_queues() {
    for engine in [
        Engine::new(NonZeroUsize::new(1)),
        Engine::without_ring(NonZeroUsize::new(1)),
    ] {
        let mut guest = on(engine.unwrap());
        for _ in 0..300 {
            // Queue 2 rests while queue 1 has always something to do.
            let busy: Vec<_> = (0..60).map(|_| guest.submit(1, read())).collect();
            let cid = guest.submit(2, read());
            assert_eq!(result(&guest.wait(2, cid)), Ok(0));
            for cid in busy {
                guest.wait(1, cid);
            }
        }
    }
}

#[test]
fn doorbells_whose_values_count_are_written() {
    // No place, no shadow, or shadows that come last: none is lost.
    let mut guest = Guest::new();
    start(&mut guest);
    assert_eq!(guest.machine.addresses(), [0; 0], "the BAR is nowhere");
    work(&mut guest, 10);

    let mut guest = Guest::new();
    guest.place(Some(HERE));
    guest.enable();
    guest.create_pair(1);
    guest.create_pair(2);
    work(&mut guest, 100);
    assert_eq!(guest.machine.addresses(), [0; 0], "there is no shadow");
    assert_eq!(guest.controller.doorbell_events().len(), 0);
    guest.use_shadow();
    let both = [tail(HERE, 1), tail(HERE, 2)];
    assert_eq!(
        guest.machine.addresses(),
        both,
        "and none of the admin queue"
    );
    work(&mut guest, 100);
}

#[test]
fn a_session_without_shadow_doorbells_has_its_doorbells_back() {
    let mut guest = up();
    work(&mut guest, 10);
    reset(&guest);
    assert_eq!(
        guest.machine.addresses().len(),
        2,
        "nothing changes at a reset"
    );
    assert_eq!(guest.controller.doorbell_events().len(), 0);
    guest.enable();
    guest.create_pair(1);
    assert_eq!(guest.machine.addresses(), [tail(HERE, 2)]);
    guest.create_pair(2);
    assert_eq!(guest.machine.addresses(), [0; 0]);
    work(&mut guest, 200);
    // And again, after the machine's reset too.
    shut_down(&mut guest);
    start(&mut guest);
    assert_eq!(guest.machine.addresses().len(), 2);
    work(&mut guest, 200);
    shut_down(&mut guest);
    guest.enable();
    guest.create_pair(1);
    guest.create_pair(2);
    assert_eq!(guest.machine.addresses(), [0; 0]);
    work(&mut guest, 200);
}

#[test]
fn nothing_changes_over_resets_of_a_guest_that_uses_shadow_doorbells() {
    let mut guest = up();
    for round in 0..10 {
        work(&mut guest, 20);
        if round % 2 == 0 {
            reset(&guest);
        } else {
            shut_down(&mut guest);
        }
        start(&mut guest);
    }
    work(&mut guest, 20);
    assert_eq!(guest.machine.changes.load(Ordering::Relaxed), 2);
}

#[test]
fn a_queue_that_no_eventfd_is_left_for_is_rung_as_ever() {
    let mut guest = Guest::new();
    guest.machine.room.store(1, Ordering::Relaxed);
    guest.place(Some(HERE));
    start(&mut guest);
    assert_eq!(guest.machine.addresses(), [tail(HERE, 1)]);
    assert_eq!(guest.controller.doorbell_events().len(), 1);
    work(&mut guest, 500);
    let counts = guest.controller.doorbell_counts();
    assert!(counts.signalled > 0 && counts.written > 0, "{counts:?}");
}

#[test]
fn eventfds_follow_the_bar() {
    let mut guest = up();
    work(&mut guest, 10);
    for round in 0..20 {
        let (from, to) = [(HERE, THERE), (THERE, HERE)][round % 2];
        guest.place(None);
        // The place is another's now.
        guest.machine.clear(&(from..=from + 0x3FFF));
        guest.place(Some(to));
        work(&mut guest, 10);
        let both = [tail(to, 1), tail(to, 2)];
        eventually("doorbells at the new place", || {
            guest.machine.addresses() == both
        });
        work(&mut guest, 10);
    }
}

#[test]
fn a_signal_of_a_queue_that_is_gone_is_nothing() {
    let mut guest = up();
    let delete = |id: u32| Submission {
        opcode: admin::DELETE_SQ,
        cdw10: id,
        ..Submission::zeroed()
    };
    guest.admin_ok(delete(2));
    for _ in 0..100 {
        assert!(guest.machine.signal(tail(HERE, 2)));
        guest.run(1, read()).unwrap();
    }
    guest.write(offset::CC, 0);
    for id in [1, 2] {
        assert!(guest.machine.signal(tail(HERE, id)));
    }
    eventually("not ready", || !guest.is_ready());
    start(&mut guest);
    work(&mut guest, 20);
}

#[test]
fn a_released_drive_leaves_no_eventfd() {
    let mut guest = up();
    work(&mut guest, 10);
    assert_eq!(guest.controller.doorbell_events().len(), 2);
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_secs(20));
    guest.controller.shut_down(by, &mut phases).unwrap();
    let events: Vec<_> = guest.controller.doorbell_events();
    assert_eq!(events.len(), 0);
    guest.controller.release();
    assert_eq!(guest.machine.addresses(), [0; 0]);
    guest.place(Some(THERE));
    assert_eq!(guest.machine.addresses(), [0; 0]);
}

/// Stores the doorbell of queue `id` in memory, once its thread looks there no more, and tells nobody.
fn store_unheard(guest: &mut Guest, id: u16) -> u16 {
    let word = |guest: &Guest, page: u64| {
        let raw = guest.bytes(SHADOW + page + u64::from(id) * 8, 4);
        u32::from_le_bytes(raw.try_into().unwrap())
    };
    // The thread stores what it has seen before it sleeps.
    eventually("a thread at rest", || word(guest, 4096) == word(guest, 0));
    let tail = word(guest, 0) + 1;
    let cid = guest.push(id, read());
    guest.fill(SHADOW + u64::from(id) * 8, &tail.to_le_bytes());
    cid
}

/// Queues of a session that began while the BAR was away, with the eventfds of an earlier one at the old place.
fn away() -> Guest {
    let mut guest = up();
    work(&mut guest, 10);
    guest.place(None);
    reset(&guest);
    start(&mut guest);
    // Both have rested since.
    work(&mut guest, 2);
    guest
}

#[test]
fn an_eventfd_of_an_earlier_session_rings_for_the_queue_that_is_there_now() {
    let mut guest = away();
    for id in [1, 2] {
        let cid = store_unheard(&mut guest, id);
        assert!(guest.machine.signal(tail(HERE, id.into())));
        assert_eq!(result(&guest.wait(id, cid)), Ok(0));
    }
}

#[test]
fn what_was_rung_unheard_while_the_bar_was_away_is_served_when_it_is_back() {
    let mut guest = away();
    let cids = [1, 2].map(|id| (id, store_unheard(&mut guest, id)));
    guest.place(Some(HERE));
    for (id, cid) in cids {
        assert_eq!(result(&guest.wait(id, cid)), Ok(0));
    }
}

#[test]
fn a_doorbell_that_the_host_does_not_watch_is_written_and_none_before_is_lost() {
    let mut guest = up();
    work(&mut guest, 10);
    let cid = store_unheard(&mut guest, 1);
    guest.controller.drive.doorbell_events.refuse(1);
    assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    eventually("a doorbell that is written", || {
        guest.machine.addresses() == [tail(HERE, 2)]
    });
    work(&mut guest, 100);
    // And in the sessions to come.
    reset(&guest);
    start(&mut guest);
    assert_eq!(guest.machine.addresses(), [tail(HERE, 2)]);
    work(&mut guest, 100);
}
