//! Where a command's data lies in guest memory, by PRP entries or by a scatter gather list (base 2.0,
//! section 4.1). Every entry is read once and checked before anything is moved.

mod prp;
mod sgl;

use devices::memory::{Access, GuestMemory, GuestSlice, MemoryMap};
use smallvec::SmallVec;
use vm_memory::{GuestAddress, VolatileSlice};

use crate::engine::Vectors;
use crate::spec::{Status, Submission};

/// The guest memory of a command's data, in order, adjoining stretches merged.
#[derive(Debug, Default)]
pub(crate) struct DataPointer {
    stretches: SmallVec<[(u64, usize); 4]>,
}

/// Guest memory of a command: few stretches for most.
pub(crate) type Slices<'a> = SmallVec<[GuestSlice<'a>; 4]>;

impl DataPointer {
    /// Follows the data pointer of `command`, of the kind that its flags say, for `length` bytes (not
    /// zero).
    pub(crate) fn of(
        memory: &GuestMemory,
        command: &Submission,
        length: usize,
    ) -> Result<Self, Status> {
        let view = memory.view();
        let pointer = Self::follow(&view, command, length)?;
        pointer.check(&view)?;
        Ok(pointer)
    }

    /// The same without a look at whether there is memory where the data lies.
    pub(crate) fn follow(
        memory: &MemoryMap,
        command: &Submission,
        length: usize,
    ) -> Result<Self, Status> {
        let mut pointer = Self::default();
        // CDW0.PSDT. The two kinds of SGL differ in the metadata pointer, which nothing here uses.
        match command.flags >> 6 {
            0 => pointer.follow_prp(memory, command, length)?,
            1 | 2 => pointer.follow_sgl(memory, command, length)?,
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(pointer)
    }

    /// Refuses data that lies where there is no memory.
    pub(crate) fn check(&self, memory: &MemoryMap) -> Result<(), Status> {
        let inside = |&(at, bytes): &(u64, usize)| memory.check_range(GuestAddress(at), bytes);
        match self.stretches.iter().all(inside) {
            true => Ok(()),
            false => Err(Status::DATA_TRANSFER_ERROR),
        }
    }

    /// The stretches as slices of host memory, for what `access` does to them: more than stretches where
    /// one spans two regions.
    ///
    /// # Errors
    /// When part of it is not mapped here, or does not allow the access.
    pub(crate) fn slices<'a>(
        &self,
        memory: &'a MemoryMap,
        access: Access,
    ) -> Result<Slices<'a>, Status> {
        let mut slices = Slices::new();
        for &(at, bytes) in &self.stretches {
            memory
                .slices(GuestAddress(at), bytes, access, &mut slices)
                .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        }
        Ok(slices)
    }

    /// The same as addresses of the host. They are good while `memory` is held.
    ///
    /// # Errors
    /// As for [`slices`](Self::slices).
    pub(crate) fn vectors(&self, memory: &MemoryMap, access: Access) -> Result<Vectors, Status> {
        let slices = self.slices(memory, access)?;
        let vector = |slice: &GuestSlice<'_>| {
            let pointer = slice.ptr_guard_mut();
            libc::iovec {
                iov_base: pointer.as_ptr().cast(),
                iov_len: pointer.len(),
            }
        };
        Ok(slices.iter().map(vector).collect())
    }

    /// Has `fill` fill the guest memory, or a buffer that is then copied there where it is not mapped.
    pub(crate) fn fill(
        &self,
        memory: &GuestMemory,
        fill: impl FnOnce(&[GuestSlice<'_>]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let map = memory.view();
        if let Ok(slices) = self.slices(&map, Access::Write) {
            return fill(&slices);
        }
        drop(map);
        let mut buffer = vec![0; self.length()];
        fill(&[VolatileSlice::from(&mut *buffer)])?;
        self.write(memory, &buffer)
    }

    /// Has `take` take the guest memory, or a buffer that it was copied to where it is not mapped.
    pub(crate) fn take(
        &self,
        memory: &GuestMemory,
        take: impl FnOnce(&[GuestSlice<'_>]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let map = memory.view();
        if let Ok(slices) = self.slices(&map, Access::Read) {
            return take(&slices);
        }
        drop(map);
        let mut buffer = vec![0; self.length()];
        self.read(memory, &mut buffer)?;
        take(&[VolatileSlice::from(&mut *buffer)])
    }

    fn length(&self) -> usize {
        self.stretches.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Copies `data` to guest memory, as far as the pointer reaches.
    pub(crate) fn write(&self, memory: &GuestMemory, mut data: &[u8]) -> Result<(), Status> {
        for &(at, bytes) in &self.stretches {
            let (now, rest) = data.split_at(bytes.min(data.len()));
            memory
                .write_slice(now, GuestAddress(at))
                .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            data = rest;
        }
        Ok(())
    }

    /// Copies guest memory to `data`, as far as the pointer reaches.
    pub(crate) fn read(&self, memory: &GuestMemory, mut data: &mut [u8]) -> Result<(), Status> {
        for &(at, bytes) in &self.stretches {
            let (now, rest) = data.split_at_mut(bytes.min(data.len()));
            memory
                .read_slice(now, GuestAddress(at))
                .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            data = rest;
        }
        Ok(())
    }

    fn push(&mut self, at: u64, bytes: usize) {
        if let Some((start, length)) = self.stretches.last_mut()
            && start.checked_add(*length as u64) == Some(at)
        {
            *length += bytes;
            return;
        }
        self.stretches.push((at, bytes));
    }
}

#[cfg(test)]
mod tests;
