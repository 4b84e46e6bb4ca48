//! Admin commands (base 2.0, section 5), served on the control thread.

mod abort;
mod doorbell_buffer;
mod effects;
mod events;
mod features;
mod format;
mod identify;
mod keep_alive;
mod logs;
mod namespaces;
mod queues;
mod selftest;

use std::sync::Arc;

pub(crate) use events::{AsyncEvents, Event, deliver as deliver_events, raise as raise_event};
pub(crate) use features::Features;
pub(crate) use queues::MAX_ENTRIES;

use crate::data_pointer::DataPointer;
use crate::gate::lock;
use crate::respond::Outcome;
use crate::session::Session;
use crate::spec::command::admin;
use crate::spec::{Status, Submission};

/// Executes an admin command.
pub(crate) fn execute(session: &Arc<Session>, command: &Submission) -> Outcome {
    if command.flags != 0 {
        return Outcome::Done(Err(Status::INVALID_FIELD));
    }
    if !format::is_allowed(command)
        && let Err(status) = session.drive.sanitize.check()
    {
        return Outcome::Done(Err(status));
    }
    match command.opcode {
        admin::DELETE_SQ => queues::delete_submission(session, command),
        admin::CREATE_SQ => queues::create_submission(session, command).into(),
        admin::DELETE_CQ => queues::delete_completion(session, command).into(),
        admin::CREATE_CQ => queues::create_completion(session, command).into(),
        admin::GET_LOG_PAGE => logs::get(session, command).into(),
        admin::IDENTIFY => identify::execute(session, command).into(),
        admin::ABORT => abort::execute(session, command),
        admin::SET_FEATURES => Outcome::Done(features::set(session, command)),
        admin::GET_FEATURES => Outcome::Done(features::get(session, command)),
        admin::ASYNC_EVENT_REQUEST => events::request(session, command),
        admin::KEEP_ALIVE => {
            let time = lock(&session.features).keep_alive();
            keep_alive::restart(session, time);
            Outcome::Done(Ok(0))
        }
        admin::SELF_TEST => selftest::execute(session, command).into(),
        admin::FORMAT => format::on_lane(session, format::format),
        admin::SANITIZE => format::on_lane(session, format::sanitize),
        admin::DOORBELL_BUFFER_CONFIG => doorbell_buffer::configure(session, command).into(),
        admin::NAMESPACE_MANAGEMENT => namespaces::execute(session, namespaces::manage),
        admin::NAMESPACE_ATTACHMENT => namespaces::execute(session, namespaces::attach),
        _ => Outcome::Done(Err(Status::INVALID_OPCODE)),
    }
}

/// Hands `data` to the guest at the command's data pointer.
fn give(session: &Session, command: &Submission, data: &[u8]) -> Result<(), Status> {
    if data.is_empty() {
        return Ok(());
    }
    let memory = &session.drive.memory;
    DataPointer::of(memory, command, data.len())?.write(memory, data)
}
