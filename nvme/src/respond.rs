//! Answering a command: what serving one comes to, and the right to complete it later, from any thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::engine::{Engine, Lane, Ticket, TimerKey, Transfer};
use crate::gate::{Pass, lock};
use crate::namespace::{Extent, Kind};
use crate::queue::{Slot, SubmissionQueue};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// What serving a command came to.
pub(crate) enum Outcome {
    /// It ends now: with a result in dword 0, or with an error status.
    Done(Result<u32, Status>),
    /// It ends later: given a [`Responder`], this says how.
    Later(Box<dyn FnOnce(Responder) + Send>),
    /// It ends when a transfer through the thread's ring does.
    Transfer(Transfer, Work),
    /// It is kept without a completion slot: an Asynchronous Event Request.
    Kept,
}

/// What a transfer is for.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) extent: Extent,
}

impl From<Result<(), Status>> for Outcome {
    fn from(result: Result<(), Status>) -> Self {
        Self::Done(result.map(|()| 0))
    }
}

/// The right and the duty to complete one command. It counts as work under way until it is dropped.
pub(crate) struct Responder {
    pub(crate) session: Arc<Session>,
    pub(crate) queue: Arc<SubmissionQueue>,
    pub(crate) command: Submission,
    pub(crate) slot: Slot,
    pub(crate) passes: (Pass, Pass),
}

impl Responder {
    /// Dword 0 of an Abort command that aborted nothing.
    pub(crate) const NOT_ABORTED: u32 = 1;

    /// Completes the command and interrupts.
    pub(crate) fn respond(self, result: Result<u32, Status>) {
        let Self {
            session,
            queue,
            command,
            slot,
            passes,
        } = self;
        session.complete(&queue, slot, &command, result);
        session.signal(&queue.completions);
        drop(passes);
    }
}

/// A command that waits: on a drive's lane, or because a fault holds it up. Until it begins it can be taken
/// back.
pub(crate) struct Deferred {
    pub(crate) cid: u16,
    responder: Mutex<Option<Responder>>,
    /// Held up no longer: its queue's thread executes it.
    due: AtomicBool,
    /// Its job, where it waits on a lane.
    job: OnceLock<(Arc<Lane>, Ticket)>,
    /// Disarmed with the command.
    _timer: Option<Timer>,
}

/// The timer that ends a wait, disarmed when the command is gone.
struct Timer {
    engine: Arc<Engine>,
    key: TimerKey,
}

impl Deferred {
    fn new(responder: Responder, timer: Option<Timer>) -> Arc<Self> {
        Arc::new(Self {
            cid: responder.command.cid,
            responder: Mutex::new(Some(responder)),
            due: AtomicBool::new(false),
            job: OnceLock::new(),
            _timer: timer,
        })
    }

    /// Runs `work` on `lane` and completes the command with what it returns.
    pub(crate) fn submit(
        lane: &Arc<Lane>,
        responder: Responder,
        work: impl FnOnce(&Arc<Session>, &Submission) -> Result<u32, Status> + Send + 'static,
    ) {
        let queue = Arc::clone(&responder.queue);
        let deferred = Self::new(responder, None);
        queue.add_deferred(Arc::clone(&deferred));
        let waiting = Arc::clone(&deferred);
        let ticket = lane.submit(Box::new(move || {
            queue.remove_deferred(&waiting);
            if let Some(responder) = waiting.take() {
                let result = work(&responder.session, &responder.command);
                responder.respond(result);
            }
        }));
        let _ = deferred.job.set((Arc::clone(lane), ticket));
        // Whoever took it back before this was known could not withdraw it.
        if lock(&deferred.responder).is_none() {
            deferred.withdraw();
        }
    }

    /// Has the lane forget a command that was taken back. With no lock held: what the job owns goes with it.
    pub(crate) fn withdraw(&self) {
        if let Some((lane, ticket)) = self.job.get() {
            lane.withdraw(*ticket);
        }
    }

    /// Keeps the command at its queue until `resume` is called, and no longer than to `until`. `known` is
    /// told of it before either can happen.
    pub(crate) fn park(
        responder: Responder,
        until: Option<(TimerKey, Instant)>,
        known: impl FnOnce(&Arc<Self>),
    ) {
        let (session, queue) = (Arc::clone(&responder.session), Arc::clone(&responder.queue));
        let engine = &session.drive.engine;
        let timer = until.map(|(key, _)| Timer {
            engine: Arc::clone(engine),
            key,
        });
        let deferred = Self::new(responder, timer);
        queue.add_deferred(Arc::clone(&deferred));
        known(&deferred);
        if let Some((key, at)) = until {
            let parked = Arc::downgrade(&deferred);
            let job = Box::new(move || {
                if let Some(parked) = parked.upgrade() {
                    parked.resume();
                }
            });
            engine.arm(key, at, job);
        }
        deferred.look_again(&session, &queue);
    }

    /// Keeps the command at its queue until `work` has its result. Until then it can be taken back, whatever the work
    /// is at: it must need nothing of the guest.
    pub(crate) fn awaiting(
        responder: Responder,
        work: impl FnOnce(Box<dyn FnOnce(Result<u32, Status>) + Send>),
    ) {
        let (session, queue) = (Arc::clone(&responder.session), Arc::clone(&responder.queue));
        let deferred = Self::new(responder, None);
        queue.add_deferred(Arc::clone(&deferred));
        let waiting = Arc::downgrade(&deferred);
        work(Box::new(move |result| {
            let Some(waiting) = waiting.upgrade() else {
                return;
            };
            if let Some(responder) = waiting.take() {
                responder.queue.remove_deferred(&waiting);
                responder.respond(result);
            }
        }));
        deferred.look_again(&session, &queue);
    }

    /// Whoever closes a gate takes back what waits afterwards, and may have come before this one did.
    fn look_again(self: &Arc<Self>, session: &Session, queue: &SubmissionQueue) {
        if !session.gate.is_open() {
            queue.remove_deferred(self);
            drop(self.take());
        } else if !queue.gate.is_open() {
            queue.remove_deferred(self);
            if let Some(responder) = self.take() {
                responder.respond(Err(Status::ABORTED_SQ_DELETION));
            }
        }
    }

    /// Has a parked command executed by the thread of its queue, unless it was taken back.
    pub(crate) fn resume(&self) {
        let waiting = lock(&self.responder);
        let place = waiting
            .as_ref()
            .map(|responder| (Arc::clone(&responder.session), Arc::clone(&responder.queue)));
        drop(waiting);
        if let Some((session, queue)) = place {
            self.due.store(true, Ordering::Release);
            queue.resume(&session);
        }
    }

    /// Whether a parked command is to be executed.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Takes the command back, unless it has begun or was taken before.
    pub(crate) fn take(&self) -> Option<Responder> {
        lock(&self.responder).take()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.engine.disarm(self.key);
    }
}
