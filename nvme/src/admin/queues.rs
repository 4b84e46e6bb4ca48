//! Creation and deletion of I/O queues (base 2.0, sections 5.4 to 5.7).

use std::sync::Arc;

use devices::guest_acts::Act;
use tracing::warn;

use crate::engine::Place;
use crate::queue::{CompletionQueue, Misplaced, SubmissionQueue};
use crate::respond::{Outcome, Responder};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// Entries of an I/O queue: CAP.MQES.
pub(crate) const MAX_ENTRIES: u32 = 2048;

const CONTIGUOUS: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;

impl From<Misplaced> for Status {
    fn from(misplaced: Misplaced) -> Self {
        match misplaced {
            Misplaced::Unaligned => Self::PRP_OFFSET_INVALID,
            Misplaced::Outside => Self::INVALID_FIELD,
        }
    }
}

pub(super) fn create_completion(session: &Session, command: &Submission) -> Result<(), Status> {
    let id = free_id(command, session.completions.len(), |id| {
        session.completion_queue(id).is_some()
    })?;
    let size = size(command)?;
    let vector = (command.cdw11 >> 16) as u16;
    let interrupts = command.cdw11 & INTERRUPTS != 0;
    if interrupts && vector >= session.drive.vectors() {
        return Err(Status::INVALID_INTERRUPT_VECTOR);
    }
    let queue = CompletionQueue::new(
        &session.drive.memory,
        id,
        command.prp1,
        size,
        interrupts.then_some(vector),
    )?;
    if let Some(buffers) = &*session.shadow.load() {
        queue.use_shadow(**buffers);
    }
    session.drive.clear_doorbell(usize::from(id) * 2 + 1);
    session.attach(&session.completions, id, queue);
    Ok(())
}

pub(super) fn create_submission(
    session: &Arc<Session>,
    command: &Submission,
) -> Result<(), Status> {
    let id = free_id(command, session.submissions.len(), |id| {
        session.submission_queue(id).is_some()
    })?;
    let size = size(command)?;
    let completions = match (command.cdw11 >> 16) as u16 {
        0 => return Err(Status::INVALID_QUEUE_ID),
        cq_id if usize::from(cq_id) >= session.completions.len() => {
            return Err(Status::INVALID_QUEUE_ID);
        }
        cq_id => session
            .completion_queue(cq_id)
            .ok_or(Status::COMPLETION_QUEUE_INVALID)?,
    };
    // Queues that share a completion queue share a thread.
    let thread = session
        .drive
        .first_thread
        .wrapping_add(completions.id.into());
    let queue = SubmissionQueue::new(
        session,
        &session.drive.memory,
        (id, Place::Io(thread)),
        command.prp1,
        size,
        Arc::clone(&completions),
    )?;
    let events = &session.drive.doorbell_events;
    if let Some(buffers) = &*session.shadow.load() {
        queue.use_shadow(**buffers);
        events.connect(session, &queue);
    } else if let Err(failure) = events.disconnect(id) {
        // A session before this one connected it: what it signals would be lost.
        warn!(drive = %session.drive.id, queue = id, "a doorbell cannot be had back: {failure}");
        return Err(Status::INTERNAL_ERROR);
    }
    completions.add_feeder(&queue);
    session.drive.clear_doorbell(usize::from(id) * 2);
    session.attach(&session.submissions, id, queue);
    Ok(())
}

pub(super) fn delete_completion(session: &Session, command: &Submission) -> Result<(), Status> {
    let id = command.queue_id();
    let queue = session.completion_queue(id).filter(|_| id != 0);
    if queue.ok_or(Status::INVALID_QUEUE_ID)?.has_feeders() {
        return Err(Status::INVALID_QUEUE_DELETION);
    }
    if let Some(place) = session.completions.get(usize::from(id)) {
        place.store(None);
    }
    session
        .drive
        .endpoint
        .acts()
        .note(Act::DeleteCompletionQueue);
    session.update_pin();
    Ok(())
}

/// The command ends when the last command of the queue has; until then the identifier stays taken.
pub(super) fn delete_submission(session: &Session, command: &Submission) -> Outcome {
    let id = command.queue_id();
    let queue = session.submission_queue(id).filter(|_| id != 0);
    match queue.filter(|queue| queue.gate.is_open()) {
        None => Outcome::Done(Err(Status::INVALID_QUEUE_ID)),
        Some(queue) => Outcome::Later(Box::new(move |responder| delete(queue, responder))),
    }
}

fn delete(queue: Arc<SubmissionQueue>, responder: Responder) {
    queue.gate.close();
    for deferred in queue.take_all_deferred() {
        deferred.respond(Err(Status::ABORTED_SQ_DELETION));
    }
    queue.cancel_running(&responder.session);
    let gate = Arc::clone(&queue.gate);
    gate.when_empty(move || {
        queue.completions.remove_feeder(queue.id);
        if let Some(place) = responder.session.submissions.get(usize::from(queue.id)) {
            place.store(None);
        }
        // A reset came first otherwise, and nobody is told of a deletion.
        if responder.session.gate.is_open() {
            let acts = responder.session.drive.endpoint.acts();
            acts.note(Act::DeleteSubmissionQueue);
        }
        responder.respond(Ok(0));
    });
}

fn free_id(
    command: &Submission,
    limit: usize,
    taken: impl FnOnce(u16) -> bool,
) -> Result<u16, Status> {
    let id = command.queue_id();
    if id == 0 || usize::from(id) >= limit || taken(id) {
        return Err(Status::INVALID_QUEUE_ID);
    }
    Ok(id)
}

fn size(command: &Submission) -> Result<u32, Status> {
    let size = (command.cdw10 >> 16) + 1;
    if !(2..=MAX_ENTRIES).contains(&size) {
        return Err(Status::INVALID_QUEUE_SIZE);
    }
    // CAP.CQR: queues are contiguous.
    if command.cdw11 & CONTIGUOUS == 0 {
        return Err(Status::INVALID_FIELD);
    }
    Ok(size)
}
