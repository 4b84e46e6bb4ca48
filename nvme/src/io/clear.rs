//! Write Zeroes, Write Uncorrectable and Dataset Management (NVM command set 1.0, sections 3.2.8, 3.2.7 and
//! 3.2.3).

use zerocopy::{FromZeros, IntoBytes};

use super::transfer;
use crate::data_pointer::DataPointer;
use crate::namespace::Namespace;
use crate::respond::Outcome;
use crate::session::Session;
use crate::spec::{DsmRange, Status, Submission};

const WRITE_ZEROES_DEALLOCATE: u32 = 1 << 25;
const DSM_DEALLOCATE: u32 = 1 << 2;

pub(super) fn write_zeroes(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<(), Status> {
    let extent = namespace.extent(command.starting_block(), command.block_count())?;
    let deallocate = command.cdw12 & WRITE_ZEROES_DEALLOCATE != 0;
    namespace.write_zeroes(extent, deallocate)?;
    if transfer::is_stable(session, command) {
        namespace.flush()?;
    }
    Ok(())
}

/// The range cannot be read from now on, until it is written. The knowledge of it ends with the process.
pub(super) fn write_uncorrectable(
    namespace: &Namespace,
    command: &Submission,
) -> Result<Outcome, Status> {
    let extent = namespace.extent(command.starting_block(), command.block_count())?;
    namespace.make_uncorrectable(extent)?;
    Ok(Outcome::Done(Ok(0)))
}

/// Dataset Management: deallocation is acted on, other hints are taken note of by nobody.
pub(super) fn manage(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<(), Status> {
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
