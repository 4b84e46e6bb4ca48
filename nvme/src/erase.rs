//! Erasing a namespace, a piece at a time, so that whoever waits for the end can give up waiting.

use crate::backend::Durability;
use crate::namespace::{Extent, Namespace};
use crate::spec::Status;

/// Bytes zeroed by one call: where the host can punch holes this costs it little, and else it writes them.
const ZEROED: u64 = 256 << 20;
/// Bytes of a pattern written by one call.
const WRITTEN: u64 = 1 << 20;

/// What is left where the data was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Erasure {
    /// Zeroes, and the host has its space back.
    Zeroes,
    /// A pattern of four bytes.
    Pattern(u32),
}

/// Why an erasure ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It was told to stop.
    Stopped,
    /// The storage failed.
    Failed(Status),
}

/// Erases all of it and puts that on stable storage. `goes_on` is told of every piece's length, and whether
/// it should.
pub(crate) fn erase(
    namespace: &Namespace,
    how: Erasure,
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<(), Cut> {
    // All of the storage, also what is beyond the last whole block.
    let size = namespace.backend().size();
    let mut pattern = match how {
        Erasure::Zeroes => Vec::new(),
        Erasure::Pattern(pattern) => pattern.to_le_bytes().repeat(WRITTEN as usize / 4),
    };
    let most = match how {
        Erasure::Zeroes => ZEROED,
        Erasure::Pattern(_) => WRITTEN,
    };
    let mut offset = 0;
    while offset < size {
        let length = most.min(size - offset);
        if !goes_on(length) {
            return Err(Cut::Stopped);
        }
        let extent = Extent { offset, length };
        match how {
            Erasure::Zeroes => namespace.write_zeroes(extent, true),
            Erasure::Pattern(_) => {
                let piece = &mut pattern[..length as usize];
                namespace.write(extent, &[piece.into()], Durability::Cached)
            }
        }
        .map_err(Cut::Failed)?;
        offset += length;
    }
    namespace.flush().map_err(Cut::Failed)
}
