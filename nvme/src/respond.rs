//! Answering a command: what serving one comes to, and the right to complete it later, from any thread.

use std::sync::{Arc, Mutex};

use crate::engine::Lane;
use crate::gate::{Pass, lock};
use crate::queue::{Slot, SubmissionQueue};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// What serving a command came to.
pub(crate) enum Outcome {
    /// It ends now: with a result in dword 0, or with an error status.
    Done(Result<u32, Status>),
    /// It ends later: given a [`Responder`], this says how.
    Later(Box<dyn FnOnce(Responder) + Send>),
    /// It is kept without a completion slot: an Asynchronous Event Request.
    Kept,
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

/// A command on a drive's lane. Until it begins it can be taken back.
pub(crate) struct Deferred {
    pub(crate) cid: u16,
    responder: Mutex<Option<Responder>>,
}

impl Deferred {
    /// Runs `work` on `lane` and completes the command with what it returns.
    pub(crate) fn submit(
        lane: &Arc<Lane>,
        responder: Responder,
        work: impl FnOnce(&Session, &Submission) -> Result<(), Status> + Send + 'static,
    ) {
        let queue = Arc::clone(&responder.queue);
        let deferred = Arc::new(Self {
            cid: responder.command.cid,
            responder: Mutex::new(Some(responder)),
        });
        queue.add_deferred(Arc::clone(&deferred));
        lane.submit(Box::new(move || {
            queue.remove_deferred(&deferred);
            if let Some(responder) = deferred.take() {
                let result = work(&responder.session, &responder.command);
                responder.respond(result.map(|()| 0));
            }
        }));
    }

    /// Takes the command back, unless it has begun or was taken before.
    pub(crate) fn take(&self) -> Option<Responder> {
        lock(&self.responder).take()
    }
}
