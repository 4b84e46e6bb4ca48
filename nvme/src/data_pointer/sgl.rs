//! Scatter gather lists (base 2.0, section 4.1.2): data blocks at any address and of any length, in segments
//! that lead on to one another.

use devices::memory::MemoryMap;
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, IntoBytes};

use super::DataPointer;
use crate::spec::command::{SglDescriptor, sgl};
use crate::spec::{Status, Submission};

/// Most descriptors of a command: 1 MiB in pieces of 256 bytes. It bounds what a list that leads back to itself
/// costs.
const DESCRIPTORS: usize = 4096;
/// Descriptors that are read at a time.
const PIECE: usize = 64;

/// A segment to follow: the descriptor that leads to it.
struct Segment {
    at: u64,
    /// Bytes in it.
    length: u32,
    is_last: bool,
}

impl DataPointer {
    /// A list may describe more than the command moves (Identify says so): the rest is not looked at.
    pub(super) fn follow_sgl(
        &mut self,
        memory: &MemoryMap,
        command: &Submission,
        length: usize,
    ) -> Result<(), Status> {
        let mut left = length;
        let first: SglDescriptor = zerocopy::transmute!([command.prp1, command.prp2]);
        let mut next = self.descriptor(first, &mut left)?;
        let mut budget = DESCRIPTORS;
        while left > 0 {
            let segment = next.ok_or(Status::DATA_SGL_LENGTH_INVALID)?;
            next = self.segment(memory, &segment, &mut left, &mut budget)?;
            // What is no last segment has to lead on.
            if left > 0 && next.is_none() && !segment.is_last {
                return Err(Status::INVALID_SGL_SEGMENT);
            }
        }
        Ok(())
    }

    /// Goes through a segment as far as data is wanted. Returns where it leads.
    fn segment(
        &mut self,
        memory: &MemoryMap,
        segment: &Segment,
        left: &mut usize,
        budget: &mut usize,
    ) -> Result<Option<Segment>, Status> {
        let count = segment.length as usize / size_of::<SglDescriptor>();
        let mut descriptors = [SglDescriptor::new_zeroed(); PIECE];
        let mut done = 0;
        while done < count && *left > 0 {
            let now = PIECE.min(count - done);
            *budget = (budget.checked_sub(now)).ok_or(Status::INVALID_SGL_COUNT)?;
            let piece = &mut descriptors[..now];
            let at = (done * size_of::<SglDescriptor>()) as u64;
            let at = segment.at.checked_add(at).map(GuestAddress);
            memory
                .read_slice(piece.as_mut_bytes(), at.ok_or(Status::DATA_TRANSFER_ERROR)?)
                .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            for descriptor in piece {
                done += 1;
                let Some(next) = self.descriptor(*descriptor, left)? else {
                    if *left == 0 {
                        break;
                    }
                    continue;
                };
                if segment.is_last {
                    return Err(Status::INVALID_SGL_SEGMENT);
                }
                if done < count {
                    return Err(Status::INVALID_SGL_COUNT);
                }
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// Takes a descriptor: a data block, or the segment that it leads to.
    fn descriptor(
        &mut self,
        descriptor: SglDescriptor,
        left: &mut usize,
    ) -> Result<Option<Segment>, Status> {
        let SglDescriptor {
            address, length, ..
        } = descriptor;
        match descriptor.identifier {
            sgl::DATA_BLOCK => {
                let now = (length as usize).min(*left);
                if now > 0 {
                    self.push(address, now);
                    *left -= now;
                }
                Ok(None)
            }
            sgl::SEGMENT | sgl::LAST_SEGMENT => {
                if length == 0 || !(length as usize).is_multiple_of(size_of::<SglDescriptor>()) {
                    return Err(Status::INVALID_SGL_SEGMENT);
                }
                Ok(Some(Segment {
                    at: address,
                    length,
                    is_last: descriptor.identifier == sgl::LAST_SEGMENT,
                }))
            }
            _ => Err(Status::SGL_TYPE_INVALID),
        }
    }
}
