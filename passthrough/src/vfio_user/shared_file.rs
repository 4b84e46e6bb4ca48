//! The file behind the parts of a region that can be mapped.
//!
//! An access to a page that a file does not have any more ends the process that makes it, and a server could cut its
//! file short at any time. So only files are mapped that cannot shrink: memfds with that seal, which is set here
//! where the server has left it open. Whatever is in another file is reached by messages. Files in huge pages are
//! among those: the server can take their pages back, and there may be none to put in their place.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs};
use vm_memory::{FileOffset, MmapRegion};

use crate::client::Area;

const PAGE: u64 = 4096;
const HUGETLBFS: u64 = 0x9584_58F6;

/// See the module's header.
#[derive(Debug)]
pub struct SharedFile {
    file: File,
    /// Where the region begins in it.
    offset: u64,
    writable: bool,
}

impl SharedFile {
    /// The file of a region with these `areas`, all inside the region.
    ///
    /// # Errors
    /// Says why it is not to be mapped.
    pub fn new(
        file: OwnedFd,
        offset: u64,
        writable: bool,
        areas: &[Area],
    ) -> Result<Self, &'static str> {
        let unknown = "the host says nothing of its file";
        let status = fstat(&file).map_err(|_| unknown)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err("what it gives is no file");
        }
        if fstatfs(&file).map_err(|_| unknown)?.f_type as u64 == HUGETLBFS {
            return Err("its file is in huge pages, which can be taken back");
        }
        // Fails where it is no memfd, or one that takes no more seals: then what it has counts.
        let _ = fcntl_add_seals(&file, SealFlags::SHRINK);
        if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            return Err("its file could be cut short, which a sealed memfd cannot");
        }
        // Asked once more: before it was sealed, it may have been cut.
        let size = fstat(&file).map_err(|_| unknown)?.st_size;
        let size = u64::try_from(size).map_err(|_| unknown)?;
        let fits = |area: &Area| {
            let start = offset.checked_add(area.offset);
            let end = start.and_then(|start| start.checked_add(area.size));
            end.is_some_and(|end| end <= size)
        };
        if !offset.is_multiple_of(PAGE) || !areas.iter().all(fits) {
            return Err("its file ends before the parts that can be mapped");
        }
        Ok(Self {
            file: file.into(),
            offset,
            writable,
        })
    }

    /// Maps an area, or a part of one.
    ///
    /// # Errors
    /// What the host says.
    pub fn map(&self, area: Area) -> io::Result<MmapRegion> {
        let start = FileOffset::new(self.file.try_clone()?, self.offset + area.offset);
        let mut protection = libc::PROT_READ;
        if self.writable {
            protection |= libc::PROT_WRITE;
        }
        let size = usize::try_from(area.size).map_err(io::Error::other)?;
        MmapRegion::build(Some(start), size, protection, libc::MAP_SHARED).map_err(io::Error::other)
    }
}

/// Whether areas are aligned to pages, in order, without overlap, and inside a region of `size` bytes.
pub fn are_sound(areas: &[Area], size: u64) -> bool {
    let mut from = 0;
    areas.iter().all(|area| {
        let end = area.offset.checked_add(area.size);
        let sound = area.size > 0
            && area.offset.is_multiple_of(PAGE)
            && area.size.is_multiple_of(PAGE)
            && area.offset >= from
            && end.is_some_and(|end| end <= size);
        from = end.unwrap_or(u64::MAX);
        sound
    })
}
