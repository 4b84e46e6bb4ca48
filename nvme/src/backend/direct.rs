//! A file without the host's page cache: how it is opened, and which transfers can go through it.
#![allow(unsafe_code, reason = "statx has no safe interface")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use devices::memory::GuestSlice;

/// What every host can do.
const SAFE_ALIGNMENT: u64 = 4096;
/// More than any host asks for.
const ALIGNED: u64 = 1 << 30;

/// A file opened past the page cache.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) file: Arc<File>,
    /// What offsets, addresses and lengths must be multiples of.
    alignment: u64,
}

impl Direct {
    pub(super) fn open(path: &Path, read_only: bool) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_CLOEXEC | libc::O_DIRECT)
            .open(path)?;
        let alignment = alignment_of(&file).unwrap_or(SAFE_ALIGNMENT);
        Ok(Self {
            file: Arc::new(file),
            alignment,
        })
    }

    /// Whether a transfer of this alignment can go through.
    pub(super) fn takes(&self, alignment: u64) -> bool {
        alignment >= self.alignment
    }
}

/// The largest power of two that the offset and all addresses and lengths are multiples of.
pub(crate) fn alignment(offset: u64, memory: impl IntoIterator<Item = (usize, usize)>) -> u64 {
    let mut bits = offset | ALIGNED;
    for (address, length) in memory {
        bits |= (address | length) as u64;
    }
    1 << bits.trailing_zeros()
}

pub(super) fn alignment_of_slices(offset: u64, slices: &[GuestSlice<'_>]) -> u64 {
    let place = |slice: &GuestSlice<'_>| (slice.ptr_guard().as_ptr() as usize, slice.len());
    alignment(offset, slices.iter().map(place))
}

/// What the host says that direct transfers of `file` must be aligned to: for memory and for offsets, the
/// larger of both. `None` where it does not say.
fn alignment_of(file: &File) -> Option<u64> {
    // SAFETY: `statx` is plain data, and all zeroes is a value of it.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is an empty string of C, and `found` outlives the call.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut found,
        )
    };
    let both = found.stx_dio_mem_align.max(found.stx_dio_offset_align);
    let said = result == 0 && found.stx_mask & libc::STATX_DIOALIGN != 0;
    (said && both.is_power_of_two()).then_some(both.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_one_decides() {
        assert_eq!(alignment(0, []), ALIGNED);
        assert_eq!(alignment(8192, [(0x7000, 4096)]), 4096);
        assert_eq!(alignment(8192, [(0x7000, 4096), (0x9000, 512)]), 512);
        assert_eq!(alignment(8192, [(0x7004, 4096)]), 4);
        assert_eq!(alignment(512, [(0x8000, 4096)]), 512);
    }
}
