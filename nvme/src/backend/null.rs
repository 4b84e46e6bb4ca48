//! Storage that keeps nothing: writes vanish, reads leave the guest's memory as it is.

use std::io;

use super::{Backend, Durability};
use devices::memory::GuestSlice;

/// Storage that keeps nothing, to measure everything else.
#[derive(Debug)]
pub struct NullBackend {
    size: u64,
}

impl NullBackend {
    /// A drive of `size` bytes, rounded down to a whole number of blocks.
    pub fn new(size: u64) -> Self {
        Self {
            size: size & !(crate::spec::BLOCK - 1),
        }
    }
}

impl Backend for NullBackend {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn read(&self, _: u64, _: &[GuestSlice<'_>]) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[GuestSlice<'_>], _: Durability) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn deallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}
