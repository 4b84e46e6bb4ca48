//! Compare and Verify (NVM command set 1.0, sections 3.2.1 and 3.2.5): data is read, and nobody gets it.

use super::transfer::transfer_extent;
use crate::data_pointer::DataPointer;
use crate::namespace::{Extent, Namespace};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// Bytes that Verify reads at a time.
const PIECE: u64 = 256 << 10;

/// Fails where the blocks differ from the host's data.
pub(super) fn compare(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<(), Status> {
    let memory = &session.drive.memory;
    let extent = transfer_extent(namespace, command)?;
    let pointer = DataPointer::of(memory, command, extent.length as usize)?;
    let stored = read(namespace, extent)?;
    let mut given = vec![0; extent.length as usize];
    pointer.read(memory, &mut given)?;
    session.drive.logs.count_read(extent.length);
    if stored == given {
        Ok(())
    } else {
        Err(Status::COMPARE_FAILURE)
    }
}

/// Reads what is stored, and says whether that went well.
pub(super) fn verify(
    session: &Session,
    namespace: &Namespace,
    command: &Submission,
) -> Result<(), Status> {
    let Extent { offset, length } =
        namespace.extent(command.starting_block(), command.block_count())?;
    let mut done = 0;
    while done < length {
        // A reset does not wait for the rest.
        if !session.gate.is_open() {
            return Err(Status::ABORT_REQUESTED);
        }
        let now = PIECE.min(length - done);
        let piece = Extent {
            offset: offset + done,
            length: now,
        };
        read(namespace, piece)?;
        done += now;
    }
    session.drive.logs.count_read(length);
    Ok(())
}

/// Blocks in a buffer of the host.
pub(super) fn read(namespace: &Namespace, extent: Extent) -> Result<Vec<u8>, Status> {
    let mut buffer = vec![0; extent.length as usize];
    namespace.read(extent, &[buffer.as_mut_slice().into()])?;
    Ok(buffer)
}
