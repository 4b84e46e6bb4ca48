//! I/O commands of the NVM command set (NVM command set 1.0, section 3.2). Reads and cached writes run on
//! the I/O thread; whatever may block long goes to the namespace's lane.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zerocopy::{FromZeros, IntoBytes};

use crate::backend::Durability;
use crate::namespace::Namespace;
use crate::prp::DataPointer;
use crate::respond::{Deferred, Outcome, Responder};
use crate::session::Session;
use crate::spec::command::io;
use crate::spec::{ALL_NAMESPACES, BLOCK, DsmRange, Status, Submission};

/// Maximum data transfer size as Identify says it: 2^8 pages, 1 MiB.
pub(crate) const MDTS: u8 = 8;
const MAX_TRANSFER: u64 = crate::spec::PAGE << MDTS;

const FORCE_UNIT_ACCESS: u32 = 1 << 30;
const WRITE_ZEROES_DEALLOCATE: u32 = 1 << 25;
const DSM_DEALLOCATE: u32 = 1 << 2;

/// Executes an I/O command. Guest values are in `command`, copied once.
pub(crate) fn execute(session: &Arc<Session>, command: &Submission) -> Outcome {
    // Neither fused commands nor SGLs are supported, and Identify says so.
    if command.flags != 0 {
        return Outcome::Done(Err(Status::INVALID_FIELD));
    }
    if command.opcode == io::FLUSH && command.nsid == ALL_NAMESPACES {
        return Outcome::Later(Box::new(flush_all));
    }
    let result = match session.drive.namespace(command.nsid) {
        Ok(namespace) => dispatch(session, namespace, command),
        Err(status) => Err(status),
    };
    result.unwrap_or_else(|status| Outcome::Done(Err(status)))
}

fn dispatch(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
) -> Result<Outcome, Status> {
    match command.opcode {
        io::READ => {
            read(session, namespace, command)?;
            Ok(Outcome::Done(Ok(0)))
        }
        io::WRITE => {
            namespace.check_writable()?;
            let through = session.write_through.load(Ordering::Acquire);
            if through || command.cdw12 & FORCE_UNIT_ACCESS != 0 {
                return Ok(on_lane(namespace, |session, namespace, command| {
                    write(session, namespace, command, Durability::Stable)
                }));
            }
            write(session, namespace, command, Durability::Cached)?;
            Ok(Outcome::Done(Ok(0)))
        }
        io::FLUSH => Ok(on_lane(namespace, |_, namespace, _| namespace.flush())),
        io::WRITE_ZEROES => {
            namespace.check_writable()?;
            Ok(on_lane(namespace, |session, namespace, command| {
                let extent = namespace.extent(command.starting_block(), command.block_count())?;
                let deallocate = command.cdw12 & WRITE_ZEROES_DEALLOCATE != 0;
                namespace.write_zeroes(extent, deallocate)?;
                let through = session.write_through.load(Ordering::Acquire);
                if through || command.cdw12 & FORCE_UNIT_ACCESS != 0 {
                    namespace.flush()?;
                }
                Ok(())
            }))
        }
        io::DATASET_MANAGEMENT => {
            namespace.check_writable()?;
            Ok(on_lane(namespace, manage))
        }
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// Runs `work` on the namespace's lane.
fn on_lane(
    namespace: &Arc<Namespace>,
    work: impl FnOnce(&Session, &Namespace, &Submission) -> Result<(), Status> + Send + 'static,
) -> Outcome {
    let namespace = Arc::clone(namespace);
    Outcome::Later(Box::new(move |responder| {
        let lane = Arc::clone(&namespace.lane);
        Deferred::submit(&lane, responder, move |session, command| {
            work(session, &namespace, command)
        });
    }))
}

/// Flush of every namespace (base 2.0, section 7.1; Identify's VWC field says that FFFFFFFFh does so).
fn flush_all(responder: Responder) {
    let drive = Arc::clone(&responder.session.drive);
    drive.flush_all(move |result| responder.respond(result.map(|()| 0)));
}

fn read(session: &Session, namespace: &Namespace, command: &Submission) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let extent = namespace.extent(command.starting_block(), transfer_blocks(command)?)?;
    let data = DataPointer::of(memory, command, extent.length as usize)?;
    namespace.read(extent, &data.slices(memory)?)?;
    session.drive.logs.count_read(extent.length);
    Ok(())
}

fn write(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
    durability: Durability,
) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let extent = namespace.extent(command.starting_block(), transfer_blocks(command)?)?;
    let data = DataPointer::of(memory, command, extent.length as usize)?;
    namespace.write(extent, &data.slices(memory)?, durability)?;
    session.drive.logs.count_write(extent.length);
    Ok(())
}

/// Dataset Management: deallocation is acted on, other hints are taken note of by nobody.
fn manage(session: &Session, namespace: &Namespace, command: &Submission) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let count = (command.cdw10 & 0xFF) as usize + 1;
    let data = DataPointer::of(memory, command, count * size_of::<DsmRange>())?;
    let mut ranges = vec![DsmRange::new_zeroed(); count];
    data.read(memory, ranges.as_mut_bytes())?;
    if command.cdw11 & DSM_DEALLOCATE == 0 {
        return Ok(());
    }
    // All are checked before the first is acted on.
    let extents: Vec<_> = ranges
        .iter()
        .map(|range| namespace.extent(range.starting_block, range.blocks.into()))
        .collect::<Result<_, _>>()?;
    for extent in extents.into_iter().filter(|extent| extent.length > 0) {
        namespace.deallocate(extent)?;
    }
    Ok(())
}

fn transfer_blocks(command: &Submission) -> Result<u64, Status> {
    let count = command.block_count();
    if count * BLOCK > MAX_TRANSFER {
        return Err(Status::INVALID_FIELD);
    }
    Ok(count)
}
