//! Read, Write and Flush (NVM command set 1.0, sections 3.2.4 and 3.2.6; base 2.0, section 7.1).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::memory::Access;

use super::{MAX_TRANSFER, on, on_lane};
use crate::backend::{Durability, alignment};
use crate::data_pointer::DataPointer;
use crate::engine::{Action, Transfer, Vectors};
use crate::namespace::{Extent, Kind, Namespace};
use crate::respond::{Outcome, Responder, Work};
use crate::session::Session;
use crate::spec::{Status, Submission};

pub(super) const FORCE_UNIT_ACCESS: u32 = 1 << 30;

pub(super) fn read(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    ring: bool,
) -> Result<Outcome, Status> {
    transfer(session, namespace, command, Action::Read, ring)
}

pub(super) fn write(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    ring: bool,
) -> Result<Outcome, Status> {
    namespace.check_writable()?;
    let stable = is_stable(session, command);
    transfer(session, namespace, command, Action::Write { stable }, ring)
}

pub(super) fn flush(namespace: &Arc<Namespace>, ring: bool) -> Outcome {
    let backend = namespace.backend();
    if backend.is_immediate() {
        return namespace.flush().into();
    }
    let Some(file) = backend.ring_file(alignment(0, [])).filter(|_| ring) else {
        return on_lane(namespace, |_, namespace, _| namespace.flush());
    };
    if backend.read_only() {
        return Outcome::Done(Ok(0));
    }
    let transfer = Transfer {
        file,
        action: Action::Flush,
        offset: 0,
        vectors: Vectors::new(),
        _memory: None,
    };
    let work = Work {
        namespace: Arc::clone(namespace),
        kind: namespace.begin_flush(),
        extent: Extent::default(),
    };
    Outcome::Transfer(transfer, work)
}

/// Moves data: at once, through the ring, or on a lane.
fn transfer(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    action: Action,
    ring: bool,
) -> Result<Outcome, Status> {
    let memory = &session.drive.memory;
    let extent = transfer_extent(namespace, command)?;
    let data = DataPointer::of(memory, command, extent.length as usize)?;
    let backend = namespace.backend();
    if backend.is_immediate() {
        run(session, namespace, extent, &data, action)?;
        return Ok(Outcome::Done(Ok(0)));
    }
    if ring {
        if action == Action::Read {
            namespace.check_readable(extent)?;
        }
        let memory = memory.snapshot();
        let (kind, access) = match action {
            Action::Read => (Kind::Read, Access::Write),
            Action::Write { stable } => (Kind::Write { stable }, Access::Read),
            Action::Flush => (namespace.begin_flush(), Access::Read),
        };
        // What is not mapped is copied by a thread that may wait for it.
        if let Ok(vectors) = data.vectors(&memory, access)
            && let Some(file) = backend.ring_file(alignment_of(extent, &vectors))
        {
            let transfer = Transfer {
                file,
                action,
                offset: extent.offset,
                vectors,
                _memory: Some(memory),
            };
            let work = Work {
                namespace: Arc::clone(namespace),
                kind,
                extent,
            };
            return Ok(Outcome::Transfer(transfer, work));
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

/// Moves data by blocking calls.
fn run(
    session: &Session,
    namespace: &Namespace,
    extent: Extent,
    data: &DataPointer,
    action: Action,
) -> Result<(), Status> {
    let memory = &session.drive.memory;
    if let Action::Write { stable } = action {
        let durability = if stable {
            Durability::Stable
        } else {
            Durability::Cached
        };
        data.take(memory, |slices| namespace.write(extent, slices, durability))?;
        session.drive.logs.count_write(extent.length);
    } else {
        data.fill(memory, |slices| namespace.read(extent, slices))?;
        session.drive.logs.count_read(extent.length);
    }
    Ok(())
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
