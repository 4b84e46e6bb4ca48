//! A completion queue: slots are reserved before a command is fetched, so that a full queue needs no
//! special case, and entries are written phase last.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;
use devices::memory::{Access, GuestMemory, MemoryMap};
use vm_memory::{GuestAddress, VolatileMemory};
use zerocopy::IntoBytes;

use super::shadow::{self, Shadow, ShadowBuffers, Side, Words};
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
    /// What the guest has consumed up to, by its doorbell.
    head: AtomicU32,
    /// Where the next entry goes, for those who do not write one.
    tail: AtomicU32,
    /// Slots promised to commands under way, and entries that the guest has not consumed.
    taken: AtomicU32,
    /// Somebody found no slot and waits for the doorbell.
    starved: AtomicBool,
    /// Where the guest keeps its doorbell, if not here.
    shadow: ArcSwapOption<Shadow>,
    /// The shadow doorbell that was looked at last. Held from a look, or from the choice of EventIdx, to what
    /// comes of it, so that of two threads none acts on what the other has moved past.
    seen: Mutex<Seen>,
    /// It had a value that a doorbell cannot have.
    wrong: AtomicBool,
    /// For whoever writes an entry.
    writer: Mutex<Writer>,
    /// The submission queues that complete here.
    feeders: Mutex<Vec<(u16, Weak<SubmissionQueue>)>>,
}

#[derive(Debug, Default)]
struct Seen {
    head: u32,
    /// The session is over: its memory may be another's.
    over: bool,
}

#[derive(Debug)]
struct Writer {
    tail: u32,
    /// The phase that marks the next entry as new.
    phase: bool,
    /// No entry is written any more.
    closed: bool,
}

/// A completion entry's place, promised to one command. Dropped unused, it is given back. One of a command that
/// ends at once borrows its queue; one that outlives that is [kept](Slot::keep).
pub(crate) struct Slot<Q: Deref<Target = CompletionQueue> = Arc<CompletionQueue>> {
    queue: Q,
    /// It is not this value's to give back.
    is_spent: bool,
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
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            starved: AtomicBool::new(false),
            shadow: ArcSwapOption::empty(),
            seen: Mutex::default(),
            wrong: AtomicBool::new(false),
            writer: Mutex::new(Writer {
                tail: 0,
                phase: true,
                closed: false,
            }),
            feeders: Mutex::default(),
        }))
    }

    /// Promises a slot, or none where the queue would be full: then the head doorbell says to try again.
    /// For the thread that owns the queue alone.
    pub(crate) fn reserve(&self) -> Option<Slot<&Self>> {
        if !self.has_room() {
            self.look();
        }
        if !self.has_room() {
            // Said before the second look: a doorbell that comes after it finds somebody starved.
            self.starved.store(true, Ordering::SeqCst);
            self.rest();
            if !self.has_room() {
                return None;
            }
        }
        self.taken.fetch_add(1, Ordering::AcqRel);
        Some(Slot {
            queue: self,
            is_spent: false,
        })
    }

    /// The slot of a command that [left it here](Slot::leave).
    pub(crate) fn take_up(&self) -> Slot<&Self> {
        Slot {
            queue: self,
            is_spent: false,
        }
    }

    /// One entry stays empty.
    fn has_room(&self) -> bool {
        self.taken.load(Ordering::SeqCst) + 1 < self.size
    }

    /// The head doorbell. `None` where the value is outside the queue or beyond what was posted, else
    /// whether somebody waits for slots.
    pub(crate) fn set_head(&self, head: u32) -> Option<bool> {
        self.move_head(head)
            .then(|| self.starved.swap(false, Ordering::SeqCst))
    }

    /// Returns whether the head can be there.
    fn move_head(&self, head: u32) -> bool {
        if head >= self.size {
            return false;
        }
        let before = self.head.load(Ordering::Acquire);
        let consumed = (head + self.size - before) % self.size;
        let posted = (self.tail.load(Ordering::Acquire) + self.size - before) % self.size;
        if consumed > posted {
            return false;
        }
        // Of two doorbells at the same time one counts.
        let order = (Ordering::AcqRel, Ordering::Acquire);
        if (self.head.compare_exchange(before, head, order.0, order.1)).is_ok() {
            // SeqCst, as in `reserve`: of new room and a starved thread, one sees the other.
            self.taken.fetch_sub(consumed, Ordering::SeqCst);
        }
        true
    }

    /// The doorbell was rung. With a shadow doorbell that is no more than a reason to look there.
    pub(crate) fn ring_head(&self, head: u32) -> Option<bool> {
        if self.shadow.load().is_none() {
            return self.set_head(head);
        }
        self.look();
        (head < self.size).then(|| self.starved.swap(false, Ordering::SeqCst))
    }

    /// Has the guest keep its doorbell in `buffers`.
    pub(crate) fn use_shadow(&self, buffers: ShadowBuffers) {
        let head = self.head.load(Ordering::Acquire);
        let words = buffers.words(&self.memory, self.id, Side::Head, head);
        lock(&self.seen).head = head;
        self.shadow.store(Some(Arc::new(words)));
    }

    /// Whether the shadow doorbell had a wrong value since this was asked last.
    pub(crate) fn take_wrong(&self) -> bool {
        self.wrong.load(Ordering::Relaxed) && self.wrong.swap(false, Ordering::AcqRel)
    }

    /// Takes the head from the shadow doorbell, if there is one.
    fn look(&self) {
        if let Some(shadow) = &*self.shadow.load() {
            let mut seen = lock(&self.seen);
            if !seen.over {
                self.take_over(&mut seen, shadow.doorbell());
            }
        }
    }

    /// The same, and has the guest ring when the head moves on.
    fn rest(&self) {
        if let Some(shadow) = &*self.shadow.load() {
            let mut seen = lock(&self.seen);
            // Until the head that the guest was told of is the head: it rings when it goes beyond that.
            while !seen.over {
                let head = self.head.load(Ordering::Acquire);
                let doorbell = shadow::rest(&**shadow, head);
                self.take_over(&mut seen, doorbell);
                if self.head.load(Ordering::Acquire) == head {
                    return;
                }
            }
        }
    }

    fn take_over(&self, seen: &mut Seen, doorbell: Option<u32>) {
        if let Some(head) = doorbell
            && head != seen.head
        {
            seen.head = head;
            if !self.move_head(head) {
                self.wrong.store(true, Ordering::Release);
            }
        }
    }

    /// The session is over. Once this returns, nobody looks at the doorbell in memory or tells the guest there
    /// when to ring, with a pass or without.
    pub(crate) fn forget_shadow(&self) {
        lock(&self.seen).over = true;
    }

    /// Whether entries wait for the guest: what an INTx line shows.
    pub(crate) fn has_unread(&self) -> bool {
        if self.used() > 0 {
            self.rest();
        }
        self.used() > 0
    }

    /// How many entries wait for the guest.
    pub(crate) fn unread(&self) -> u32 {
        self.look();
        self.used()
    }

    /// Entries that the guest has not consumed.
    fn used(&self) -> u32 {
        let tail = self.tail.load(Ordering::Acquire);
        (tail + self.size - self.head.load(Ordering::SeqCst)) % self.size
    }

    /// Writes no entry any more: the function was reset with commands under way. Once this returns, no
    /// thread is writing one either.
    pub(crate) fn close(&self) {
        lock(&self.writer).closed = true;
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

    /// Writes an entry where the next one goes. Returns false where none is written any more.
    fn write(&self, memory: &MemoryMap, mut entry: Completion) -> bool {
        let mut writer = lock(&self.writer);
        if writer.closed {
            return false;
        }
        entry.status_phase |= u16::from(writer.phase);
        let at = GuestAddress(self.base.0 + u64::from(writer.tail) * Completion::SIZE);
        let last = u32::from(entry.status_phase) << 16 | u32::from(entry.cid);
        let tail = if writer.tail + 1 == self.size {
            0
        } else {
            writer.tail + 1
        };
        // The range was checked when the queue was made, and an entry lies in one page; where its memory has
        // gone since, nobody reads the entry.
        let place = memory.slice(at, Completion::SIZE as usize, Access::Write);
        let phase = place.as_ref().and_then(|place| {
            place.copy_from(&entry.as_bytes()[..12]);
            place.get_atomic_ref::<AtomicU32>(12).ok()
        });
        // Before the entry is seen: the guest may ring for it at once, and that is no doorbell beyond the end.
        self.tail.store(tail, Ordering::Release);
        // The last dword holds the phase: it goes last, after everything the entry speaks of.
        if let Some(phase) = phase {
            phase.store(last.to_le(), Ordering::Release);
        }
        writer.tail = tail;
        if tail == 0 {
            writer.phase = !writer.phase;
        }
        true
    }
}

impl<Q: Deref<Target = CompletionQueue>> Slot<Q> {
    /// Writes the entry to guest `memory`. Call only with a pass of the session: no entry is written after its
    /// end.
    pub(crate) fn complete(mut self, memory: &MemoryMap, entry: Completion) {
        // A written slot is taken until the guest has consumed the entry.
        self.is_spent = self.queue.write(memory, entry);
    }

    /// Leaves the slot with its queue, for a command that goes on and takes it up at its end.
    pub(crate) fn leave(mut self) {
        self.is_spent = true;
    }

    /// The slot for a command that goes on; `queue` is the slot's own.
    pub(crate) fn keep(mut self, queue: &Arc<CompletionQueue>) -> Slot {
        self.is_spent = true;
        Slot {
            queue: Arc::clone(queue),
            is_spent: false,
        }
    }
}

impl<Q: Deref<Target = CompletionQueue>> Drop for Slot<Q> {
    fn drop(&mut self) {
        if !self.is_spent {
            self.queue.taken.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
