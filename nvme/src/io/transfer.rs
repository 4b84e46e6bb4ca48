//! Read, Write and Flush (NVM command set 1.0, sections 3.2.4 and 3.2.6; base 2.0, section 7.1).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{MAX_TRANSFER, on_lane};
use crate::backend::Durability;
use crate::namespace::{Extent, Namespace};
use crate::prp::DataPointer;
use crate::respond::{Outcome, Responder};
use crate::session::Session;
use crate::spec::{Status, Submission};

pub(super) const FORCE_UNIT_ACCESS: u32 = 1 << 30;

pub(super) fn read(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<Outcome, Status> {
    let memory = &session.drive.memory;
    let extent = transfer_extent(namespace, command)?;
    let data = DataPointer::of(memory, command, extent.length as usize)?;
    data.fill(memory, |slices| namespace.read(extent, slices))?;
    session.drive.logs.count_read(extent.length);
    Ok(Outcome::Done(Ok(0)))
}

pub(super) fn write(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
) -> Result<Outcome, Status> {
    namespace.check_writable()?;
    if is_stable(session, command) {
        return Ok(on_lane(namespace, |session, namespace, command| {
            write_as(session, namespace, command, Durability::Stable)
        }));
    }
    write_as(session, namespace, command, Durability::Cached)?;
    Ok(Outcome::Done(Ok(0)))
}

/// Whether what the command writes must be on stable storage when it completes.
pub(super) fn is_stable(session: &Session, command: &Submission) -> bool {
    session.write_through.load(Ordering::Acquire) || command.cdw12 & FORCE_UNIT_ACCESS != 0
}

/// Flush of every namespace (base 2.0, section 7.1; Identify's VWC field says that FFFFFFFFh does so).
pub(super) fn flush_all(responder: Responder) {
    let drive = Arc::clone(&responder.session.drive);
    drive.flush_all(move |result| responder.respond(result.map(|()| 0)));
}

fn write_as(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
    durability: Durability,
) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let extent = transfer_extent(namespace, command)?;
    let data = DataPointer::of(memory, command, extent.length as usize)?;
    data.take(memory, |slices| namespace.write(extent, slices, durability))?;
    session.drive.logs.count_write(extent.length);
    Ok(())
}

/// The blocks of a command that moves their data, which MDTS limits.
pub(super) fn transfer_extent(
    namespace: &Namespace,
    command: &Submission,
) -> Result<Extent, Status> {
    let count = command.block_count();
    if count << namespace.block_shift() > MAX_TRANSFER {
        return Err(Status::INVALID_FIELD);
    }
    namespace.extent(command.starting_block(), count)
}
