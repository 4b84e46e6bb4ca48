//! A completion queue: slots are reserved before a command is fetched, so that a full queue needs no
//! special case, and entries are written phase last.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use devices::memory::GuestMemory;
use vm_memory::GuestAddress;
use zerocopy::IntoBytes;

use super::{Misplaced, SubmissionQueue, place};
use crate::gate::lock;
use crate::spec::Completion;

/// A completion queue.
pub(crate) struct CompletionQueue {
    pub(crate) id: u16,
    /// The interrupt vector, where the queue interrupts at all.
    pub(crate) vector: Option<u16>,
    base: GuestAddress,
    size: u32,
    memory: GuestMemory,
    state: Mutex<State>,
    /// The submission queues that complete here.
    feeders: Mutex<Vec<(u16, Weak<SubmissionQueue>)>>,
}

#[derive(Debug)]
struct State {
    /// Where the next entry goes.
    tail: u32,
    /// The phase that marks the next entry as new.
    phase: bool,
    /// What the guest has consumed up to, by its doorbell.
    head: u32,
    /// Slots promised to commands under way.
    reserved: u32,
    /// Somebody found no slot and waits for the doorbell.
    starved: bool,
    /// No entry is written any more.
    closed: bool,
}

/// A completion entry's place, promised to one command. Dropped unused, it is given back.
pub(crate) struct Slot {
    queue: Arc<CompletionQueue>,
}

impl CompletionQueue {
    /// A queue of `size` entries (at least 2) at `base`.
    pub(crate) fn new(
        memory: &GuestMemory,
        id: u16,
        base: u64,
        size: u32,
        vector: Option<u16>,
    ) -> Result<Arc<Self>, Misplaced> {
        Ok(Arc::new(Self {
            id,
            vector,
            base: place(memory, base, size, Completion::SIZE)?,
            size,
            memory: memory.clone(),
            state: Mutex::new(State {
                tail: 0,
                phase: true,
                head: 0,
                reserved: 0,
                starved: false,
                closed: false,
            }),
            feeders: Mutex::default(),
        }))
    }

    /// Promises a slot, or none where the queue would be full: then the head doorbell says to try again.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let mut state = lock(&self.state);
        if state.used(self.size) + state.reserved + 1 >= self.size {
            state.starved = true;
            return None;
        }
        state.reserved += 1;
        Some(Slot {
            queue: Arc::clone(self),
        })
    }

    /// The head doorbell. `None` where the value is outside the queue or beyond what was posted, else
    /// whether somebody waits for slots.
    pub(crate) fn set_head(&self, head: u32) -> Option<bool> {
        let mut state = lock(&self.state);
        if head >= self.size {
            return None;
        }
        let consumed = (head + self.size - state.head) % self.size;
        if consumed > state.used(self.size) {
            return None;
        }
        state.head = head;
        Some(std::mem::take(&mut state.starved))
    }

    /// Whether entries wait for the guest: what an INTx line shows.
    pub(crate) fn has_unread(&self) -> bool {
        lock(&self.state).used(self.size) > 0
    }

    /// Writes no entry any more: the function was reset with commands under way. Once this returns, no
    /// thread is writing one either.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
    }

    pub(crate) fn add_feeder(&self, queue: &Arc<SubmissionQueue>) {
        lock(&self.feeders).push((queue.id, Arc::downgrade(queue)));
    }

    pub(crate) fn remove_feeder(&self, sq_id: u16) {
        lock(&self.feeders).retain(|(id, _)| *id != sq_id);
    }

    /// The submission queues that complete here.
    pub(crate) fn feeders(&self) -> Vec<Arc<SubmissionQueue>> {
        let feeders = lock(&self.feeders);
        feeders
            .iter()
            .filter_map(|(_, queue)| queue.upgrade())
            .collect()
    }

    pub(crate) fn has_feeders(&self) -> bool {
        !lock(&self.feeders).is_empty()
    }
}

impl State {
    fn used(&self, size: u32) -> u32 {
        (self.tail + size - self.head) % size
    }
}

impl Slot {
    /// Writes the entry. Call only with a pass of the session: no entry is written after its end.
    pub(crate) fn complete(self, mut entry: Completion) {
        let queue = &self.queue;
        let mut state = lock(&queue.state);
        if state.closed {
            return;
        }
        entry.status_phase |= u16::from(state.phase);
        let at = GuestAddress(queue.base.0 + u64::from(state.tail) * Completion::SIZE);
        let bytes = entry.as_bytes();
        let last = u32::from(entry.status_phase) << 16 | u32::from(entry.cid);
        // The range was checked when the queue was made; where its memory has gone since, nobody reads
        // the entry. The last dword holds the phase: it goes behind a release fence, after everything the
        // entry speaks of.
        let _ = queue.memory.write_slice(&bytes[..12], at);
        let last_at = GuestAddress(at.0 + 12);
        let _ = queue.memory.store(last.to_le(), last_at, Ordering::Release);
        state.tail += 1;
        if state.tail == queue.size {
            state.tail = 0;
            state.phase = !state.phase;
        }
        // `reserved` falls when `self` is dropped: until then the slot counts twice, which only errs
        // on the side of a full queue.
        drop(state);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.queue.state).reserved -= 1;
    }
}
