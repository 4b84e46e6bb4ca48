//! A submission queue as the thread that owns it sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::SubmissionQueue;
use super::shadow::{self, Words};
use crate::engine::{End, Ended, Serve, Transfers, Turn};
use crate::gate::lock;
use crate::logs::Moved;
use crate::respond::{Responder, Work};
use crate::spec::Status;

impl Serve for SubmissionQueue {
    fn serve(self: Arc<Self>, transfers: &mut Transfers) -> Turn {
        // Cleared before the tail is read: a doorbell from now on schedules the queue again.
        self.scheduled.swap(false, Ordering::AcqRel);
        let Some(session) = self.session.upgrade() else {
            return Turn::Done;
        };
        if self.cancels.swap(false, Ordering::AcqRel) {
            self.cancel(&session, transfers);
        }
        match session.serve(&self, transfers) {
            // Somebody else has scheduled it meanwhile.
            Turn::More if self.scheduled.swap(true, Ordering::AcqRel) => Turn::Done,
            turn => turn,
        }
    }

    fn has_more(&self) -> bool {
        let shadow = self.shadow.load();
        let Some(shadow) = &*shadow else { return false };
        // No reference is counted: a thread that looks out for work asks this all the time.
        let is_over = !self.session_gate.is_open() || self.session.strong_count() == 0;
        if is_over || !self.gate.is_open() {
            // Served once more, and then forgotten.
            return true;
        }
        shadow
            .doorbell()
            .is_some_and(|tail| tail != self.seen.load(Ordering::Relaxed))
    }

    fn rest(&self) -> bool {
        let Some(session) = self.session.upgrade() else {
            return false;
        };
        // Nothing is stored for a guest whose session is over.
        let (Some(_pass), Some(_queue_pass)) =
            (session.gate.enter_briefly(), self.gate.enter_briefly())
        else {
            return false;
        };
        let shadow = self.shadow.load();
        let Some(shadow) = &*shadow else { return false };
        let seen = self.seen.load(Ordering::Relaxed);
        shadow::rest(&**shadow, seen).is_some_and(|tail| tail != seen)
    }

    fn ended(&self, ends: &mut Vec<End>) {
        let mut running = lock(&self.running);
        let Some(session) = running.session().map(Arc::clone) else {
            return;
        };
        let mut view = session.drive.memory.view();
        // First: who sees a completion finds it counted.
        let mut moved = Moved::default();
        for end in ends.iter().filter(|end| matches!(end.ended, Ended::Done)) {
            if let Some(work) = running.work(end.tag) {
                moved.add(work.kind, work.extent.length);
            }
        }
        session.drive.logs.count(&moved);
        let mut aborts = Vec::new();
        for End { tag, lease, ended } in ends.drain(..) {
            let Some(ending) = running.end(tag) else {
                continue;
            };
            let cancelled = matches!(ended, Ended::Cancelled);
            let Work { kind, extent } = ending.work;
            let result = lease.namespace.ended(kind, extent, ended);
            let result = match result {
                Err(_) if cancelled && ending.aborts.is_empty() => Err(Status::ABORTED_SQ_DELETION),
                result => result.map(|()| 0),
            };
            if !session.drive.memory.is_current(&view) {
                view = session.drive.memory.view();
            }
            let slot = self.completions.take_up();
            session.complete_in(&view, self, slot, &ending.command, result);
            let not_aborted = u32::from(!cancelled) * Responder::NOT_ABORTED;
            aborts.extend(ending.aborts.into_iter().map(|abort| (abort, not_aborted)));
        }
        session.signal(&self.completions);
        // Gone without the lock: the last one out of a gate may do much.
        let hold = running.take_idle_hold();
        drop((running, view));
        for (abort, not_aborted) in aborts {
            abort.respond(Ok(not_aborted));
        }
        drop(hold);
    }

    fn not_cancelled(&self, tag: u32) {
        let aborts = lock(&self.running).take_aborts(tag);
        for abort in aborts {
            abort.respond(Ok(Responder::NOT_ABORTED));
        }
    }
}
