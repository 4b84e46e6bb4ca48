//! Abort (base 2.0, section 5.1): takes back what has not begun, and cancels what a ring is at.

use crate::respond::{Outcome, Responder};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// The largest number of Abort commands at a time, zero-based, as Identify says it. Each ends soon.
pub(crate) const LIMIT_Z: u8 = 3;

/// Dword 0 is 0 where the command was aborted, 1 where it ended, cannot be cancelled or is unknown. A
/// command that is aborted completes before the Abort does.
pub(super) fn execute(session: &Session, command: &Submission) -> Outcome {
    let (sq_id, cid) = (command.queue_id(), (command.cdw10 >> 16) as u16);
    let aborted = |aborted: bool| {
        let result = if aborted { 0 } else { Responder::NOT_ABORTED };
        Outcome::Done(Ok(result))
    };
    let Some(queue) = session.submission_queue(sq_id) else {
        return aborted(false);
    };
    if sq_id == 0 && super::events::abort(session, &queue, cid) {
        return aborted(true);
    }
    if let Some(responder) = queue.take_deferred(cid) {
        responder.respond(Err(Status::ABORT_REQUESTED));
        return aborted(true);
    }
    if queue.is_running(cid) {
        return Outcome::Later(Box::new(move |abort| queue.abort_running(cid, abort)));
    }
    aborted(false)
}
