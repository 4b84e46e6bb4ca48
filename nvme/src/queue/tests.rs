//! Queue arithmetic: full, starved, wrapped, and values a guest should not write.

use super::*;
use crate::spec::{Completion, Status, Submission};
use zerocopy::IntoBytes;

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap()
}

fn entry(cid: u16) -> Completion {
    let command = Submission {
        cid,
        ..Submission::zeroed()
    };
    Completion::of(&command, 1, 2, Status::SUCCESS, 3)
}

fn read(memory: &GuestMemory, index: u64) -> Completion {
    let mut found = Completion::default();
    let at = GuestAddress(0x1000 + index * 16);
    memory.read_slice(found.as_mut_bytes(), at).unwrap();
    found
}

#[test]
fn slots_are_reserved_given_back_and_run_out() {
    let memory = memory();
    let queue = CompletionQueue::new(&memory, 1, 0x1000, 4, None).unwrap();
    let first = queue.reserve().unwrap();
    let second = queue.reserve().unwrap();
    let third = queue.reserve().unwrap();
    assert!(queue.reserve().is_none(), "one entry stays empty");
    drop(second);
    first.complete(&memory.view(), entry(7));
    third.complete(&memory.view(), entry(8));
    assert_eq!(read(&memory, 0).cid, 7);
    assert_eq!(read(&memory, 1).cid, 8);
    assert_eq!(read(&memory, 1).status_phase & 1, 1);
    assert_eq!(queue.set_head(2), Some(true), "somebody was starved");
    assert_eq!(queue.set_head(2), Some(false));
}

#[test]
fn the_phase_turns_at_the_end() {
    let memory = memory();
    let queue = CompletionQueue::new(&memory, 1, 0x1000, 2, None).unwrap();
    for round in 0..4_u32 {
        queue
            .reserve()
            .unwrap()
            .complete(&memory.view(), entry(round as u16));
        let found = read(&memory, u64::from(round % 2));
        assert_eq!(u32::from(found.status_phase & 1), 1 - round / 2 % 2);
        assert!(queue.has_unread());
        assert!(queue.set_head((round + 1) % 2).is_some());
        assert!(!queue.has_unread());
    }
}

#[test]
fn a_head_beyond_the_tail_or_the_queue_is_refused() {
    let memory = memory();
    let queue = CompletionQueue::new(&memory, 1, 0x1000, 4, None).unwrap();
    assert_eq!(queue.set_head(4), None);
    assert_eq!(queue.set_head(1), None);
    queue.reserve().unwrap().complete(&memory.view(), entry(1));
    assert_eq!(queue.set_head(2), None);
    assert_eq!(queue.set_head(1), Some(false));
    assert_eq!(queue.set_head(0), None, "backwards is beyond the tail");
}

#[test]
fn queues_lie_in_memory_and_on_pages() {
    let memory = memory();
    let of = |base, size| CompletionQueue::new(&memory, 1, base, size, None).map(|_| ());
    assert_eq!(of(0x1004, 4), Err(Misplaced::Unaligned));
    assert_eq!(of(0xF000, 256), Ok(()));
    assert_eq!(of(0xF000, 257), Err(Misplaced::Outside));
    assert_eq!(of(u64::MAX - 0xFFF, 65536), Err(Misplaced::Outside));
}
