//! What is mapped of a device. Once the device is gone, the same places read as all-ones: whoever has them mapped, the
//! guest among them, need not be asked to let go before the host gets its device back.
#![allow(unsafe_code)] // Mapping at a place that is given.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use tracing::warn;
use vm_memory::MmapRegion;

/// The mappings of one device.
#[derive(Default)]
pub(super) struct Mappings(Mutex<Vec<Weak<MmapRegion>>>);

impl Mappings {
    /// Maps `size` bytes of `file` from `at` on, to be read and written as `access` says.
    pub(super) fn map(
        &self,
        file: &File,
        at: u64,
        size: usize,
        (readable, writable): (bool, bool),
    ) -> io::Result<Arc<MmapRegion>> {
        let mut protection = ProtFlags::empty();
        protection.set(ProtFlags::READ, readable);
        protection.set(ProtFlags::WRITE, writable);
        // The place, which the region gives back when it is dropped. The device's memory is laid over it.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let place = MmapRegion::build(None, size, protection.bits() as i32, flags)
            .map_err(io::Error::other)?;
        lay_over(
            &place,
            0..size,
            file.as_fd(),
            at,
            protection,
            MapFlags::SHARED,
        )?;
        let place = Arc::new(place);
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|mapping| mapping.strong_count() > 0);
        list.push(Arc::downgrade(&place));
        Ok(place)
    }

    /// Has all of them read as all-ones, and says whether none is left that the device is behind. What is written to
    /// them stays in them.
    pub(super) fn blank(&self) -> bool {
        let mappings = {
            let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *list)
        };
        let mut left = Vec::new();
        for mapping in mappings {
            // It stays while it is covered, and nobody else can come to its place.
            let Some(place) = mapping.upgrade() else {
                continue;
            };
            if let Err(error) = all_ones(&place) {
                warn!("a mapping of a device that is gone stays until it is dropped: {error}");
                left.push(mapping);
            }
        }
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(left);
        list.is_empty()
    }
}

/// The least that is filled with ones at once. A mapping consists of 1024 such pieces at most, since a process may
/// only have so many.
const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

fn all_ones(place: &MmapRegion) -> io::Result<()> {
    let size = place.size();
    let piece = PIECE
        .max(size.div_ceil(PIECES).next_multiple_of(PIECE))
        .min(size);
    let mut ones = File::from(memfd_create("sundown-gone", MemfdFlags::CLOEXEC)?);
    let row = [0xFF; 4096];
    for start in (0..piece).step_by(row.len()) {
        ones.write_all(&row[..row.len().min(piece - start)])?;
    }
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    for start in (0..size).step_by(piece) {
        let part = start..size.min(start + piece);
        lay_over(place, part, ones.as_fd(), 0, protection, MapFlags::PRIVATE)?;
    }
    Ok(())
}

/// Maps a file over a part of `place`, instead of what is there.
fn lay_over(
    place: &MmapRegion,
    part: std::ops::Range<usize>,
    file: BorrowedFd<'_>,
    at: u64,
    protection: ProtFlags,
    flags: MapFlags,
) -> io::Result<()> {
    debug_assert!(part.end <= place.size());
    let address = place.as_ptr().wrapping_add(part.start).cast();
    // SAFETY: the part is inside the region's own mapping, which the borrow keeps. What is there is memory that others
    // than this program write to, before and after: it is only ever reached by volatile accesses.
    unsafe {
        mmap(
            address,
            part.len(),
            protection,
            flags | MapFlags::FIXED,
            file,
            at,
        )
    }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::VolatileMemory;

    fn file(size: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; size]).unwrap();
        file
    }

    fn bytes(mapping: &MmapRegion) -> Vec<u8> {
        let mut bytes = vec![0; mapping.size()];
        let slice = mapping.as_volatile_slice();
        slice.copy_to(&mut bytes[..]);
        bytes
    }

    #[test]
    fn a_mapping_is_of_the_file_and_then_reads_as_all_ones() {
        let size = 3 * PIECE + 4096;
        let mappings = Mappings::default();
        let mapping = mappings
            .map(&file(size + 4096), 4096, size, (true, true))
            .unwrap();
        assert_eq!(bytes(&mapping), vec![7; size]);
        assert!(mappings.blank());
        assert_eq!(bytes(&mapping), vec![0xFF; size]);
    }

    #[test]
    fn what_lies_beside_a_mapping_stays() {
        let (mappings, others) = (Mappings::default(), Mappings::default());
        let file = file(0x3000);
        let mapping = mappings.map(&file, 0, 0x1000, (true, false)).unwrap();
        let beside: Vec<_> = (0..8)
            .map(|_| others.map(&file, 0x1000, 0x1000, (true, true)).unwrap())
            .collect();
        assert!(mappings.blank());
        assert_eq!(bytes(&mapping), vec![0xFF; 0x1000]);
        for mapping in beside {
            assert_eq!(bytes(&mapping), vec![7; 0x1000]);
        }
    }

    #[test]
    fn a_mapping_that_was_dropped_is_let_alone() {
        let mappings = Mappings::default();
        let file = file(0x2000);
        let dropped = mappings.map(&file, 0, 0x2000, (true, true)).unwrap();
        drop(dropped);
        // Most likely in the same place.
        let other = Mappings::default()
            .map(&file, 0, 0x2000, (true, true))
            .unwrap();
        assert!(mappings.blank());
        assert_eq!(bytes(&other), vec![7; 0x2000]);
    }
}
