//! Queues in guest memory: where they may lie, and the two kinds.

mod completion;
mod running;
mod serve;
mod shadow;
mod submission;

pub(crate) use completion::{CompletionQueue, Slot};
pub(crate) use shadow::ShadowBuffers;
pub(crate) use submission::{Fetch, SubmissionQueue};

use devices::memory::GuestMemory;
use vm_memory::GuestAddress;

use crate::spec::PAGE;

/// Why a queue cannot lie where the guest put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// The base is no multiple of the page size.
    Unaligned,
    /// Part of it is not guest memory, or not mapped for reading and writing.
    Outside,
}

/// Checks that `entries` of `entry_size` bytes at `base` are guest memory that is mapped here: a queue is
/// read and written under locks that vCPUs take, so memory that has to be asked for is no place for one.
/// Memory may go while a queue lies in it; then the controller fails.
fn place(
    memory: &GuestMemory,
    base: u64,
    entries: u32,
    entry_size: u64,
) -> Result<GuestAddress, Misplaced> {
    if !base.is_multiple_of(PAGE) {
        return Err(Misplaced::Unaligned);
    }
    let bytes = u64::from(entries) * entry_size;
    if base.checked_add(bytes).is_none() || !memory.is_mapped(GuestAddress(base), bytes as usize) {
        return Err(Misplaced::Outside);
    }
    Ok(GuestAddress(base))
}

#[cfg(test)]
mod tests;
