//! Abort (base 2.0, section 5.1): takes back what has not begun.

use crate::session::Session;
use crate::spec::{Status, Submission};

/// The largest number of Abort commands at a time, zero-based, as Identify says it. Each ends at once.
pub(crate) const LIMIT_Z: u8 = 3;

const NOT_ABORTED: u32 = 1;

/// Returns dword 0: 0 where the command was aborted, 1 where it ended, runs or is unknown.
pub(super) fn execute(session: &Session, command: &Submission) -> u32 {
    let (sq_id, cid) = (command.queue_id(), (command.cdw10 >> 16) as u16);
    let Some(queue) = session.submission_queue(sq_id) else {
        return NOT_ABORTED;
    };
    if sq_id == 0 && super::events::abort(session, &queue, cid) {
        return 0;
    }
    match queue.take_deferred(cid) {
        Some(responder) => {
            responder.respond(Err(Status::ABORT_REQUESTED));
            0
        }
        None => NOT_ABORTED,
    }
}
