//! Storage in host memory: gone with the machine.

use std::io;
use std::sync::{PoisonError, RwLock};

use super::{Backend, Durability};
use devices::memory::GuestSlice;

/// Storage in host memory. The host gives pages as they are written.
#[derive(Debug)]
pub struct MemoryBackend {
    bytes: RwLock<Vec<u8>>,
    size: u64,
}

impl MemoryBackend {
    /// A drive of `size` zeroes, rounded down to a whole number of blocks.
    pub fn new(size: u64) -> Self {
        let size = size & !(crate::spec::BLOCK - 1);
        Self {
            bytes: RwLock::new(vec![0; size as usize]),
            size,
        }
    }

    fn change(&self, offset: u64, length: u64, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let range = offset as usize..(offset + length) as usize;
        change(bytes.get_mut(range).ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }
}

fn total(slices: &[GuestSlice<'_>]) -> usize {
    slices.iter().map(GuestSlice::len).sum()
}

impl Backend for MemoryBackend {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn deallocated_reads_zero(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let start = offset as usize;
        let mut from = bytes
            .get(start..start + total(into))
            .ok_or(io::ErrorKind::InvalidInput)?;
        for slice in into {
            let (now, rest) = from.split_at(slice.len());
            slice.copy_from(now);
            from = rest;
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[GuestSlice<'_>], _: Durability) -> io::Result<()> {
        self.change(offset, total(from) as u64, |mut to| {
            for slice in from {
                let (now, rest) = to.split_at_mut(slice.len());
                slice.copy_to(now);
                to = rest;
            }
        })
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.change(offset, length, |to| to.fill(0))
    }

    fn deallocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length, true)
    }

    fn release(&self) {
        *self.bytes.write().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }
}
