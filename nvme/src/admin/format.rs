//! Format NVM and Sanitize (base 2.0, sections 5.14 and 5.24).
//!
//! Both erase by making the host's storage read as zeroes, or by writing to it: what a guest can read is gone.
//! What the host's own medium keeps of it is the host's.

use std::sync::Arc;

use super::events;
use crate::erase::{Cut, Erasure, erase};
use crate::namespace::Namespace;
use crate::respond::{Deferred, Outcome};
use crate::sanitize::{self, Order, Stage};
use crate::session::Session;
use crate::spec::command::admin;
use crate::spec::{ALL_NAMESPACES, BLOCK_SIZES, Status, Submission};

/// Both commands touch files of the host, hence the lane.
pub(super) fn on_lane(
    session: &Session,
    command: fn(&Arc<Session>, &Submission) -> Result<u32, Status>,
) -> Outcome {
    let lane = Arc::clone(&session.drive.lane);
    Outcome::Later(Box::new(move |responder| {
        Deferred::submit(&lane, responder, command);
    }))
}

/// Format NVM.
pub(super) fn format(session: &Arc<Session>, command: &Submission) -> Result<u32, Status> {
    let drive = &session.drive;
    let dword = command.cdw10;
    let format = dword & 0xF | (dword >> 12 & 0b11) << 4;
    let block_size = *BLOCK_SIZES
        .get(format as usize)
        .ok_or(Status::INVALID_FORMAT)?;
    // No protection information and no metadata; no cryptographic erase.
    if dword >> 5 & 0b111 != 0 {
        return Err(Status::INVALID_FORMAT);
    }
    if dword >> 9 & 0b111 > 1 {
        return Err(Status::INVALID_FIELD);
    }
    let namespaces = match command.nsid {
        ALL_NAMESPACES => drive.namespaces.all_active(),
        one => vec![drive.namespace(one)?],
    };
    for namespace in &namespaces {
        namespace.check_writable()?;
        if namespace.backend().size() < block_size.into() {
            return Err(Status::INVALID_FORMAT);
        }
    }
    for namespace in namespaces {
        format_one(session, &namespace, block_size)?;
        events::namespace_changed(session, namespace.id);
    }
    Ok(0)
}

/// A reset that comes before the end leaves the block size as it was, and part of the data erased.
fn format_one(session: &Session, namespace: &Namespace, block_size: u32) -> Result<(), Status> {
    let _busy = namespace.begin_format().ok_or(Status::FORMAT_IN_PROGRESS)?;
    session.drive.self_test.give_way_to_format(namespace.id);
    let erased = erase(namespace, Erasure::Zeroes, |_| session.gate.is_open());
    erased.map_err(|cut| match cut {
        Cut::Stopped => Status::ABORT_REQUESTED,
        Cut::Failed(status) => status,
    })?;
    session.drive.set_block_size(namespace, block_size)
}

/// Sanitize: completes when the operation has begun.
pub(super) fn sanitize(session: &Arc<Session>, command: &Submission) -> Result<u32, Status> {
    const EXIT_FAILURE: u32 = 1;
    const BLOCK_ERASE: u32 = 2;
    const OVERWRITE: u32 = 3;
    let drive = &session.drive;
    let order = Order {
        dword: command.cdw10,
        pattern: command.cdw11,
    };
    let stage = drive.sanitize.stage();
    if stage == Stage::Running {
        return Err(Status::SANITIZE_IN_PROGRESS);
    }
    match order.action() {
        EXIT_FAILURE => match stage {
            Stage::Failed => return Err(Status::SANITIZE_FAILED),
            Stage::FailedUnrestricted => drive.sanitize.leave_failure(),
            _ => {}
        },
        BLOCK_ERASE | OVERWRITE => {
            for namespace in drive.namespaces.all() {
                namespace.check_writable()?;
            }
            drive.self_test.give_way_to_sanitize();
            sanitize::begin(drive, order, session)?;
        }
        _ => return Err(Status::INVALID_FIELD),
    }
    Ok(0)
}

/// Whether an admin command is served while the drive is sanitized, or when that failed (figure 593).
pub(super) fn is_allowed(command: &Submission) -> bool {
    use crate::spec::log::id;
    match command.opcode {
        admin::GET_LOG_PAGE => matches!(
            command.cdw10 as u8,
            id::ERRORS | id::SMART | id::CHANGED_NAMESPACES | id::SANITIZE
        ),
        opcode => matches!(
            opcode,
            admin::DELETE_SQ
                | admin::CREATE_SQ
                | admin::DELETE_CQ
                | admin::CREATE_CQ
                | admin::IDENTIFY
                | admin::ABORT
                | admin::SET_FEATURES
                | admin::GET_FEATURES
                | admin::ASYNC_EVENT_REQUEST
                | admin::KEEP_ALIVE
                | admin::SANITIZE
        ),
    }
}
