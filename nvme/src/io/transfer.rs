//! Read, Write and Flush (NVM command set 1.0, sections 3.2.4 and 3.2.6; base 2.0, section 7.1).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::memory::{Access, GuestSlice};

use super::{MAX_TRANSFER, Means, on, on_lane};
use crate::backend::{Durability, alignment};
use crate::data_pointer::DataPointer;
use crate::engine::{Action, Lease, Transfer, Transfers, Vectors};
use crate::namespace::{Extent, Kind, Namespace};
use crate::respond::{Deferred, Outcome, Responder, Work};
use crate::session::Session;
use crate::spec::{Status, Submission};

pub(super) const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// The longest read that is tried at once, in bytes: a copy of some microseconds, for which other queues wait.
const AT_ONCE: u64 = 32 << 10;

pub(super) fn read(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    means: Means<'_>,
) -> Result<Outcome, Status> {
    transfer(session, namespace, command, Action::Read, means)
}

pub(super) fn write(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    means: Means<'_>,
) -> Result<Outcome, Status> {
    namespace.check_writable()?;
    let stable = is_stable(session, command);
    let action = Action::Write { stable };
    transfer(session, namespace, command, action, means)
}

pub(super) fn flush(namespace: &Arc<Namespace>, transfers: &Transfers) -> Outcome {
    let backend = namespace.backend();
    if backend.is_immediate() {
        return namespace.flush().into();
    }
    let lease = (transfers.has_ring())
        .then(|| Lease::without_memory(namespace, alignment(0, [])))
        .flatten();
    let Some(lease) = lease else {
        return on_lane(namespace, |_, namespace, _| namespace.flush());
    };
    if backend.read_only() {
        return Outcome::Done(Ok(0));
    }
    let transfer = Transfer {
        lease,
        action: Action::Flush,
        offset: 0,
        vectors: Vectors::new(),
    };
    let work = Work {
        kind: namespace.begin_flush(),
        extent: Extent::default(),
    };
    Outcome::Transfer(transfer, work)
}

/// Moves data: at once, through the ring where there is one, or on a lane.
fn transfer(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    action: Action,
    means: Means<'_>,
) -> Result<Outcome, Status> {
    let memory = means.memory;
    let extent = transfer_extent(namespace, command)?;
    let data = DataPointer::follow(memory, command, extent.length as usize)?;
    let access = match action {
        Action::Read => Access::Write,
        Action::Write { .. } | Action::Flush => Access::Read,
    };
    let backend = namespace.backend();
    if backend.is_immediate() {
        match data.slices(memory, access) {
            Ok(slices) => {
                move_data(namespace, extent, &slices, action)?;
                count(session, extent, action);
            }
            Err(_) => {
                data.check(memory)?;
                run(session, namespace, extent, &data, action)?;
            }
        }
        return Ok(Outcome::Done(Ok(0)));
    }
    if action == Action::Read && extent.length <= AT_ONCE && means.is_alone() {
        namespace.check_readable(extent)?;
        if let Ok(slices) = data.slices(memory, access)
            && backend.read_at_once(extent.offset, &slices)
        {
            count(session, extent, action);
            return Ok(Outcome::Done(Ok(0)));
        }
    }
    let vectors = data.vectors(memory, access);
    if vectors.is_err() {
        // What is not mapped is copied by a thread that may wait for it; what is no memory is refused here.
        data.check(memory)?;
    }
    if let Ok(vectors) = vectors
        && means.transfers.has_ring()
    {
        let kind = match action {
            Action::Read => Kind::Read,
            Action::Write { stable } => Kind::Write { stable },
            Action::Flush => namespace.begin_flush(),
        };
        if kind == Kind::Read {
            namespace.check_readable(extent)?;
        }
        let alignment = alignment_of(extent, &vectors);
        if let Some(lease) = means.transfers.lease(namespace, memory, alignment) {
            let transfer = Transfer {
                lease,
                action,
                offset: extent.offset,
                vectors,
            };
            return Ok(Outcome::Transfer(transfer, Work { kind, extent }));
        }
    }
    let lane = match action {
        Action::Write { stable: true } => &namespace.lane,
        _ => &namespace.transfers,
    };
    Ok(on(lane, namespace, move |session, namespace, _| {
        run(session, namespace, extent, &data, action)
    }))
}

fn alignment_of(extent: Extent, vectors: &Vectors) -> u64 {
    let place = |vector: &libc::iovec| (vector.iov_base as usize, vector.iov_len);
    alignment(extent.offset, vectors.iter().map(place))
}

/// Moves data by blocking calls, through a buffer where it is not mapped.
fn run(
    session: &Session,
    namespace: &Namespace,
    extent: Extent,
    data: &DataPointer,
    action: Action,
) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let work = |slices: &[GuestSlice<'_>]| move_data(namespace, extent, slices, action);
    match action {
        Action::Write { .. } => data.take(memory, work)?,
        Action::Read | Action::Flush => data.fill(memory, work)?,
    }
    count(session, extent, action);
    Ok(())
}

/// Moves data between a namespace and mapped memory.
fn move_data(
    namespace: &Namespace,
    extent: Extent,
    slices: &[GuestSlice<'_>],
    action: Action,
) -> Result<(), Status> {
    match action {
        Action::Write { stable: true } => namespace.write(extent, slices, Durability::Stable),
        Action::Write { stable: false } => namespace.write(extent, slices, Durability::Cached),
        Action::Read | Action::Flush => namespace.read(extent, slices),
    }
}

fn count(session: &Session, extent: Extent, action: Action) {
    let logs = &session.drive.logs;
    match action {
        Action::Write { .. } => logs.count_write(extent.length),
        Action::Read | Action::Flush => logs.count_read(extent.length),
    }
}

/// Whether what the command writes must be on stable storage when it completes.
pub(super) fn is_stable(session: &Session, command: &Submission) -> bool {
    session.write_through.load(Ordering::Acquire) || command.cdw12 & FORCE_UNIT_ACCESS != 0
}

/// Flush of every namespace (base 2.0, section 7.1; Identify's VWC field says that FFFFFFFFh does so).
pub(super) fn flush_all(responder: Responder) {
    let drive = Arc::clone(&responder.session.drive);
    // It may be stuck for good, and a reset ends it all the same.
    Deferred::awaiting(responder, |then| {
        drive.flush_all(move |result| then(result.map(|()| 0)));
    });
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
