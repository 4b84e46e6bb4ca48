//! Copy (NVM command set 1.0, section 3.2.2): from many ranges of a namespace to one.

use zerocopy::{FromZeros, IntoBytes};

use super::{check, transfer};
use crate::backend::Durability;
use crate::data_pointer::DataPointer;
use crate::namespace::Namespace;
use crate::session::Session;
use crate::spec::{CopyRange, Status, Submission};

/// Bytes of the longest source range: MSSRL in blocks.
pub(crate) const MAX_RANGE: u64 = 1 << 20;
/// Bytes of the longest copy: MCL in blocks.
pub(crate) const MAX_COPY: u64 = 4 << 20;
/// Source ranges of a command: MSRC, zero-based there.
pub(crate) const MAX_RANGES: u16 = 128;

/// Everything is read before anything is written: ranges may overlap, and a copy that fails to read has
/// changed nothing. Dword 0 of its completion is then zero, the first range not copied.
pub(super) fn execute(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<(), Status> {
    // Descriptor format 0; no protection information to check.
    if command.cdw12 >> 8 & 0xF != 0 {
        return Err(Status::INVALID_FIELD);
    }
    let count = (command.cdw12 as u8 as usize) + 1;
    if count > MAX_RANGES.into() {
        return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
    }
    let memory = &session.drive.memory;
    let mut ranges = vec![CopyRange::new_zeroed(); count];
    let pointer = DataPointer::of(memory, command, size_of_val(&*ranges))?;
    pointer.read(memory, ranges.as_mut_bytes())?;

    let mut blocks = 0;
    let mut sources = Vec::with_capacity(count);
    for range in ranges {
        let length = u64::from(range.blocks_z) + 1;
        if length << namespace.block_shift() > MAX_RANGE {
            return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
        }
        blocks += length;
        sources.push((range.starting_block, length));
    }
    if blocks << namespace.block_shift() > MAX_COPY {
        return Err(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
    }
    let destination = namespace.extent(command.starting_block(), blocks)?;
    let mut data = Vec::with_capacity(destination.length as usize);
    for (start, length) in sources {
        let source = namespace.extent(start, length)?;
        if (session.drive.faults).has_bad_block(namespace.id, start, length) {
            return Err(Status::UNRECOVERED_READ_ERROR);
        }
        data.extend(check::read(namespace, source)?);
    }
    // The size of a block may have changed since the destination was computed.
    if data.len() as u64 != destination.length {
        return Err(Status::FORMAT_IN_PROGRESS);
    }
    let durability = if transfer::is_stable(session, command) {
        Durability::Stable
    } else {
        Durability::Cached
    };
    namespace.write(destination, &[data.as_mut_slice().into()], durability)?;
    session.drive.logs.count_write(destination.length);
    Ok(())
}
