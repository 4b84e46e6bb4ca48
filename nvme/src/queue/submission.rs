//! A submission queue: the tail that the doorbell stored, the head that its one thread moves.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use devices::memory::GuestMemory;
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, IntoBytes};

use super::{CompletionQueue, Misplaced, place};
use crate::engine::{Place, Serve};
use crate::gate::{Gate, lock};
use crate::respond::{Deferred, Responder};
use crate::session::Session;
use crate::spec::Submission;

/// A submission queue.
pub(crate) struct SubmissionQueue {
    pub(crate) id: u16,
    /// Where completions go.
    pub(crate) completions: Arc<CompletionQueue>,
    /// Commands under way; closed when the queue is deleted.
    pub(crate) gate: Arc<Gate>,
    session: Weak<Session>,
    place: Place,
    base: GuestAddress,
    size: u32,
    memory: GuestMemory,
    tail: AtomicU32,
    /// Moved by the thread that serves the queue alone.
    head: AtomicU32,
    /// Whether the queue stands in its thread's mailbox, so that it stands there once.
    scheduled: AtomicBool,
    /// Commands on the drive's lane and commands held up by a fault, for Abort.
    deferred: Mutex<Vec<Arc<Deferred>>>,
    /// Among them are some that are to be executed now.
    resumed: AtomicBool,
}

/// What a look for the next command found.
pub(crate) enum Fetch {
    /// A command, copied once.
    Command(Submission),
    /// Nothing.
    Empty,
    /// The entry could not be read.
    Failed,
}

impl SubmissionQueue {
    /// A queue of `size` entries (at least 2) at `base`, served at `place`.
    pub(crate) fn new(
        session: Weak<Session>,
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
            session,
            place: place_of_service,
            base: place(memory, base, size, Submission::SIZE)?,
            size,
            memory: memory.clone(),
            tail: AtomicU32::new(0),
            head: AtomicU32::new(0),
            scheduled: AtomicBool::new(false),
            deferred: Mutex::default(),
            resumed: AtomicBool::new(false),
        }))
    }

    /// The tail doorbell. Returns whether the value is inside the queue.
    pub(crate) fn set_tail(&self, tail: u32) -> bool {
        if tail >= self.size {
            return false;
        }
        self.tail.store(tail, Ordering::Release);
        true
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

    /// Copies the next command out of guest memory. For the owning thread only.
    pub(crate) fn fetch(&self) -> Fetch {
        let head = self.head.load(Ordering::Relaxed);
        // Acquire: what the guest wrote before its doorbell is seen after it.
        if head == self.tail.load(Ordering::Acquire) {
            return Fetch::Empty;
        }
        let mut command = Submission::new_zeroed();
        let at = GuestAddress(self.base.0 + u64::from(head) * Submission::SIZE);
        if self.memory.read_slice(command.as_mut_bytes(), at).is_err() {
            return Fetch::Failed;
        }
        self.head.store((head + 1) % self.size, Ordering::Release);
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
        drop(gone);
        taken
    }

    /// Takes back every command that waits and has not begun.
    pub(crate) fn take_all_deferred(&self) -> Vec<Responder> {
        let deferred = std::mem::take(&mut *lock(&self.deferred));
        let deferred = deferred.iter();
        deferred.filter_map(|deferred| deferred.take()).collect()
    }
}

impl Serve for SubmissionQueue {
    fn serve(self: Arc<Self>) -> bool {
        // Cleared before the tail is read: a doorbell from now on schedules the queue again.
        self.scheduled.store(false, Ordering::Release);
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        let more = session.serve(&self);
        more && !self.scheduled.swap(true, Ordering::AcqRel)
    }
}
