//! A submission queue: the tail that the doorbell stored, the head that its one thread moves.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;
use devices::memory::{GuestMemory, MemoryMap};
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, IntoBytes};

use super::running::{Hold, Running};
use super::shadow::{Shadow, ShadowBuffers, Side};
use super::{CompletionQueue, Misplaced, Slot, place};
use crate::engine::{Place, Serve, Transfer, Transfers};
use crate::gate::{Gate, lock};
use crate::respond::{Deferred, Responder, Work};
use crate::session::Session;
use crate::spec::Submission;

/// A submission queue.
pub(crate) struct SubmissionQueue {
    pub(crate) id: u16,
    /// Where completions go.
    pub(crate) completions: Arc<CompletionQueue>,
    /// Commands under way; closed when the queue is deleted.
    pub(crate) gate: Arc<Gate>,
    pub(super) session: Weak<Session>,
    /// That of the session.
    pub(super) session_gate: Arc<Gate>,
    place: Place,
    base: GuestAddress,
    size: u32,
    memory: GuestMemory,
    tail: AtomicU32,
    /// Where the guest keeps its doorbell, if not here.
    pub(super) shadow: ArcSwapOption<Shadow>,
    /// The shadow doorbell that was looked at last, by the thread that serves the queue.
    pub(super) seen: AtomicU32,
    /// Moved by the thread that serves the queue alone.
    head: AtomicU32,
    /// Whether the queue stands in its thread's mailbox, so that it stands there once.
    pub(super) scheduled: AtomicBool,
    /// Commands on the drive's lane and commands held up by a fault, for Abort.
    deferred: Mutex<Vec<Arc<Deferred>>>,
    /// Among them are some that are to be executed now.
    resumed: AtomicBool,
    /// Commands on the thread's ring.
    pub(super) running: Mutex<Running>,
    /// Whether there is something to cancel on the ring.
    pub(super) cancels: AtomicBool,
}

/// What a look for the next command found.
pub(crate) enum Fetch {
    /// A command, copied once.
    Command(Submission),
    /// Nothing.
    Empty,
    /// Nothing, and the shadow doorbell says what no doorbell can.
    Wrong,
    /// The entry could not be read.
    Failed,
}

impl SubmissionQueue {
    /// A queue of `size` entries (at least 2) at `base`, served at `place`.
    pub(crate) fn new(
        session: &Arc<Session>,
        memory: &GuestMemory,
        (id, place_of_service): (u16, Place),
        base: u64,
        size: u32,
        completions: Arc<CompletionQueue>,
    ) -> Result<Arc<Self>, Misplaced> {
        Ok(Arc::new(Self {
            id,
            completions,
            gate: Gate::new(),
            session: Arc::downgrade(session),
            session_gate: Arc::clone(&session.gate),
            place: place_of_service,
            base: place(memory, base, size, Submission::SIZE)?,
            size,
            memory: memory.clone(),
            tail: AtomicU32::new(0),
            shadow: ArcSwapOption::empty(),
            seen: AtomicU32::new(0),
            head: AtomicU32::new(0),
            scheduled: AtomicBool::new(false),
            deferred: Mutex::default(),
            resumed: AtomicBool::new(false),
            running: Mutex::default(),
            cancels: AtomicBool::new(false),
        }))
    }

    /// Where it is served.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The tail doorbell. Returns whether the value is inside the queue.
    pub(crate) fn set_tail(&self, tail: u32) -> bool {
        if tail >= self.size {
            return false;
        }
        self.tail.store(tail, Ordering::Release);
        true
    }

    /// The doorbell was rung with `tail`. With a shadow doorbell that is no more than a reason to look there.
    pub(crate) fn ring_tail(&self, tail: u32) -> bool {
        if self.shadow.load().is_none() {
            return self.set_tail(tail);
        }
        tail < self.size
    }

    /// Has the guest keep its doorbell in `buffers`.
    pub(crate) fn use_shadow(&self, buffers: ShadowBuffers) {
        let tail = self.tail.load(Ordering::Acquire);
        let words = buffers.words(&self.memory, self.id, Side::Tail, tail);
        self.seen.store(tail, Ordering::Release);
        self.shadow.store(Some(Arc::new(words)));
    }

    /// Whether the guest need not ring while the queue is looked at.
    pub(crate) fn has_shadow(&self) -> bool {
        self.shadow.load().is_some()
    }

    /// Takes the tail from the shadow doorbell, if there is one. Returns false where that is none.
    fn look(&self, memory: &MemoryMap) -> bool {
        match &*self.shadow.load() {
            Some(shadow) => self.take_over(shadow.doorbell_in(memory)),
            None => true,
        }
    }

    fn take_over(&self, doorbell: Option<u32>) -> bool {
        match doorbell {
            Some(tail) if self.seen.swap(tail, Ordering::AcqRel) != tail => self.set_tail(tail),
            _ => true,
        }
    }

    /// Has the queue served soon by the thread that owns it.
    pub(crate) fn schedule(self: &Arc<Self>, session: &Session) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            let queue: Arc<dyn Serve> = Arc::clone(self) as _;
            session.drive.engine.schedule(self.place, queue);
        }
    }

    /// Where the queue's head is, for completions.
    pub(crate) fn head(&self) -> u16 {
        self.head.load(Ordering::Acquire) as u16
    }

    /// Whether commands are known to wait to be fetched.
    pub(crate) fn has_waiting(&self) -> bool {
        self.head.load(Ordering::Relaxed) != self.tail.load(Ordering::Relaxed)
    }

    /// Copies the next command out of guest `memory`. For the owning thread only.
    pub(crate) fn fetch(&self, memory: &MemoryMap) -> Fetch {
        let head = self.head.load(Ordering::Relaxed);
        // Acquire: what the guest wrote before its doorbell is seen after it.
        if head == self.tail.load(Ordering::Acquire) {
            if !self.look(memory) {
                return Fetch::Wrong;
            }
            if head == self.tail.load(Ordering::Acquire) {
                return Fetch::Empty;
            }
        }
        let mut command = Submission::new_zeroed();
        let at = GuestAddress(self.base.0 + u64::from(head) * Submission::SIZE);
        if memory.read_slice(command.as_mut_bytes(), at).is_err() {
            return Fetch::Failed;
        }
        let next = if head + 1 == self.size { 0 } else { head + 1 };
        self.head.store(next, Ordering::Release);
        Fetch::Command(command)
    }

    pub(crate) fn add_deferred(&self, deferred: Arc<Deferred>) {
        lock(&self.deferred).push(deferred);
    }

    pub(crate) fn remove_deferred(&self, deferred: &Arc<Deferred>) {
        lock(&self.deferred).retain(|other| !Arc::ptr_eq(other, deferred));
    }

    /// Has the owning thread execute the commands that are due.
    pub(crate) fn resume(self: &Arc<Self>, session: &Session) {
        self.resumed.store(true, Ordering::Release);
        self.schedule(session);
    }

    /// The commands that are due. For the owning thread only.
    pub(crate) fn take_due(&self) -> Vec<Responder> {
        // One load where there is none, which is nearly always.
        if !self.resumed.load(Ordering::Relaxed) || !self.resumed.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let mut due = lock(&self.deferred);
        let due: Vec<_> = due.extract_if(.., |deferred| deferred.is_due()).collect();
        due.iter().filter_map(|deferred| deferred.take()).collect()
    }

    /// Takes back a command that waits and has not begun.
    pub(crate) fn take_deferred(&self, cid: u16) -> Option<Responder> {
        let mut deferred = lock(&self.deferred);
        let mut taken = None;
        let at = deferred.iter().position(|deferred| {
            if deferred.cid == cid {
                taken = deferred.take();
            }
            taken.is_some()
        });
        let gone = at.map(|at| deferred.swap_remove(at));
        drop(deferred);
        if let Some(gone) = gone {
            gone.withdraw();
        }
        taken
    }

    /// Takes back every command that waits and has not begun.
    pub(crate) fn take_all_deferred(&self) -> Vec<Responder> {
        let deferred = std::mem::take(&mut *lock(&self.deferred));
        let taken = deferred.iter().filter_map(|deferred| {
            let taken = deferred.take()?;
            deferred.withdraw();
            Some(taken)
        });
        taken.collect()
    }

    /// Starts the transfer of a command. For the owning thread only, with passes of both gates: where they
    /// were closed since, the command ends here as one that had not begun.
    pub(crate) fn start<Q: Deref<Target = CompletionQueue>>(
        self: &Arc<Self>,
        session: &Arc<Session>,
        (command, slot): (&Submission, Slot<Q>),
        (transfer, work): (Transfer, Work),
        transfers: &mut Transfers,
    ) {
        let hold = || {
            Some(Hold {
                session: Arc::clone(session),
                _passes: (session.gate.enter()?, self.gate.enter()?),
            })
        };
        let mut running = lock(&self.running);
        if let Some(tag) = running.begin(command, work, hold) {
            slot.leave();
            running.began(tag, transfers.start(self, tag, transfer));
        }
    }

    /// Whether the transfer of a command `cid` is under way.
    pub(crate) fn is_running(&self, cid: u16) -> bool {
        lock(&self.running).has(cid)
    }

    /// Has the command `cid` cancelled; `abort` is told what came of it.
    pub(crate) fn abort_running(self: &Arc<Self>, cid: u16, abort: Responder) {
        let session = Arc::clone(&abort.session);
        match lock(&self.running).abort(cid, abort) {
            Ok(()) => self.cancels.store(true, Ordering::Release),
            Err(abort) => return abort.respond(Ok(Responder::NOT_ABORTED)),
        }
        self.schedule(&session);
    }

    /// Has every transfer under way cancelled. The gate is closed: nothing begins any more.
    pub(crate) fn cancel_running(self: &Arc<Self>, session: &Session) {
        self.cancels.store(true, Ordering::Release);
        self.schedule(session);
    }

    /// Cancels what is to be cancelled. For the owning thread only.
    pub(super) fn cancel(&self, session: &Session, transfers: &mut Transfers) {
        let all = !self.gate.is_open() || !session.gate.is_open();
        // Not under the lock: what waits to be handed to the kernel ends at once, and takes it.
        let handles = lock(&self.running).take_cancels(all);
        for handle in handles {
            transfers.cancel(handle);
        }
    }
}
