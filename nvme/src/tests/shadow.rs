//! Doorbells in memory: a host that rings only when it is asked to loses no command, and nonsense in memory
//! is what nonsense in a register is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::GuestAddress;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, Guest, MEMORY, SHADOW, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::Controller;
use crate::spec::registers::offset;
use crate::spec::{Status, Submission};

fn config(prp1: u64, prp2: u64) -> Submission {
    Submission {
        opcode: admin::DOORBELL_BUFFER_CONFIG,
        prp1,
        prp2,
        ..Submission::zeroed()
    }
}

fn read() -> Submission {
    transfer(io::READ, 0, 1, DATA, 0)
}

/// A guest with shadow doorbells and one queue pair.
fn up() -> Guest {
    let mut guest = Guest::new();
    guest.enable();
    guest.use_shadow();
    guest.create_pair(1);
    guest
}

fn store(guest: &Guest, at: u64, value: u32) {
    let at = GuestAddress(SHADOW + at);
    guest.memory.store(value, at, Ordering::Release).unwrap();
}

#[test]
fn no_command_waits_for_a_doorbell_that_is_not_rung() {
    for first in [true, false] {
        let mut guest = Guest::new();
        guest.enable_msix();
        guest.enable();
        if first {
            guest.use_shadow();
            guest.create_pair(1);
        } else {
            // Queues that are there already go on from where they are.
            guest.create_pair(1);
            for _ in 0..70 {
                guest.run(1, read()).unwrap();
            }
            guest.use_shadow();
        }
        guest.rings.store(0, Ordering::Relaxed);
        for round in 0..3000_u32 {
            let burst = 1 + round % 40;
            let cids: Vec<_> = (0..burst)
                .map(|_| {
                    let cid = guest.push(1, read());
                    guest.ring(1);
                    cid
                })
                .collect();
            for cid in cids {
                assert_eq!(result(&guest.wait(1, cid)), Ok(0));
            }
        }
        // 61500 commands would be twice as many writes to doorbells. Heads alone are rarely rung for.
        let rings = guest.rings.load(Ordering::Relaxed);
        assert!(rings < 64_000, "{rings} rings");
    }
}

#[test]
fn a_full_completion_queue_goes_on_when_its_head_moves_in_memory() {
    let mut guest = up();
    let second = Submission {
        prp1: 0x60_0000,
        ..Guest::create_sq_command(3, 1)
    };
    guest.admin_ok(second);
    for _ in 0..20 {
        let cids: Vec<_> = (0..63).map(|_| guest.push(1, read())).collect();
        let session = guest.controller.session.load_full().unwrap();
        let queue = session.submission_queue(1).unwrap();
        let end = (queue.head() + 63) % 64;
        guest.ring(1);
        eventually("a full queue", || queue.head() == end);
        for cid in cids {
            guest.wait(1, cid);
        }
    }
}

#[test]
fn the_pin_falls_when_the_head_moves_in_memory() {
    let mut guest = up();
    for _ in 0..100 {
        let cid = guest.submit(1, read());
        eventually("an interrupt", || *guest.line.0.lock().unwrap());
        guest.wait(1, cid);
        eventually("no interrupt", || !*guest.line.0.lock().unwrap());
    }
}

#[test]
fn nonsense_in_memory_raises_the_event_of_nonsense_in_a_register() {
    let mut guest = up();
    let event = guest.submit(
        0,
        Submission {
            opcode: admin::ASYNC_EVENT_REQUEST,
            ..Submission::zeroed()
        },
    );
    // A tail outside the queue: the ring that it passes EventIdx by says to look.
    store(&guest, 8, 64);
    guest.write(offset::DOORBELLS + 8, 0);
    assert_eq!(result(&guest.wait(0, event)), Ok(0x01_01_00));
    for tail in [u32::MAX, 1000, 65, 1 << 31] {
        store(&guest, 8, tail);
        guest.write(offset::DOORBELLS + 8, 1);
    }
    // Heads of a completion queue that nothing was posted to.
    for head in [3, 64, u32::MAX] {
        store(&guest, 12, head);
        guest.write(offset::DOORBELLS + 12, 1);
    }
    store(&guest, 8, 0);
    store(&guest, 12, 0);
    guest.run(1, read()).unwrap();
}

#[test]
fn buffers_are_two_pages_of_memory() {
    let mut guest = Guest::up();
    let cases = [
        (config(SHADOW + 4, SHADOW), Status::PRP_OFFSET_INVALID),
        (config(SHADOW, SHADOW + 2048), Status::PRP_OFFSET_INVALID),
        (config(SHADOW, SHADOW), Status::INVALID_FIELD),
        (config(MEMORY, SHADOW), Status::DATA_TRANSFER_ERROR),
        (config(SHADOW, !0xFFF), Status::DATA_TRANSFER_ERROR),
    ];
    for (command, status) in cases {
        assert_eq!(guest.admin(command), refused(status), "{command:?}");
    }
    guest.run(1, read()).unwrap();
    guest.admin_ok(transfer(admin::IDENTIFY, 1, 1, DATA, 0));
    let found = guest.bytes(DATA, 4096);
    let found: Controller = zerocopy::FromBytes::read_from_bytes(&found).unwrap();
    assert_eq!({ found.oacs } & 1 << 8, 1 << 8);
}

#[test]
fn a_reset_turns_shadow_doorbells_off_and_leaves_their_memory_alone() {
    let mut guest = up();
    guest.run(1, read()).unwrap();
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.fill(SHADOW, &[0xAB; 8192]);
    guest.enable();
    guest.create_pair(1);
    for _ in 0..100 {
        guest.run(1, read()).unwrap();
    }
    assert_eq!(guest.bytes(SHADOW, 8192), [0xAB; 8192]);
}

#[test]
fn a_guest_that_stops_midway_costs_no_thread() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(Arc::clone(&backend));
    guest.enable();
    guest.use_shadow();
    guest.create_pair(1);
    guest.run(1, read()).unwrap();
    // Bus mastering off with a command in the queue: it is fetched when that comes back.
    guest.disable_bus_master();
    let cid = guest.submit(1, read());
    guest.write(offset::DOORBELLS + 8, 0);
    assert!(!guest.has_completion(1));
    guest.power_up();
    assert_eq!(result(&guest.wait(1, cid)), Ok(0));
}

#[test]
fn nobody_looks_at_the_memory_of_a_session_that_is_over() {
    let mut guest = up();
    guest.run(1, read()).unwrap();
    let session = guest.controller.session.load_full().unwrap();
    let queue = session.completion_queue(1).unwrap();
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.fill(SHADOW, &[0xAB; 8192]);
    session.update_pin();
    queue.unread();
    queue.has_unread();
    assert_eq!(queue.ring_head(1), Some(false));
    assert!(!queue.take_wrong(), "it was looked at");
    assert_eq!(guest.bytes(SHADOW, 8192), [0xAB; 8192]);
}
