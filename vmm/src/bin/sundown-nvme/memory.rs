//! A client's memory: mapped where it gave a file, asked for where it did not.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use devices::memory::{ChangeError, GuestMemory, Permissions, Region, RemoteMemory};
use rustix::fs::{FileType, SealFlags, fcntl_add_seals, fstat};
use rustix::io::Errno;
use tracing::debug;
use vfio_user::dma::PeerMemory;
use vfio_user::protocol::{DmaMap, map_flag};
use vfio_user::server::{MOST_MAPS, MapRequest, UnmapRequest, Unmapped};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, MmapRegion};

/// Memory behind the client's socket.
struct Remote(PeerMemory);

impl RemoteMemory for Remote {
    fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(at, data)
    }

    fn cancel(&self, start: u64, size: u64) {
        self.0.cancel(start, size);
    }
}

/// Takes memory into `memory`; what has no file is asked for through `peer`.
pub fn map(memory: &GuestMemory, peer: &PeerMemory, request: MapRequest) -> Result<(), Errno> {
    let MapRequest { map, file } = request;
    if memory.view().regions().len() >= MOST_MAPS as usize {
        return Err(Errno::NOSPC);
    }
    let permissions = Permissions {
        read: map.flags & map_flag::READ != 0,
        write: map.flags & map_flag::WRITE != 0,
    };
    let region = match file {
        Some(file) => Region::mapped(map.address, mapping(&map, file, permissions)?, permissions),
        None => {
            let remote = Arc::new(Remote(peer.clone()));
            Region::remote(map.address, map.size, remote, permissions)
        }
    };
    memory
        .add(region.ok_or(Errno::INVAL)?)
        .map_err(|error| errno_of(&error))
}

/// Gives memory back.
pub fn unmap(memory: &GuestMemory, request: UnmapRequest, then: Unmapped) -> Result<(), Errno> {
    match request {
        UnmapRequest::All => memory.clear(then),
        UnmapRequest::Range(start, size) => {
            let removed = memory.remove(start, size, then);
            removed.map_err(|error| errno_of(&error))?;
        }
    }
    Ok(())
}

fn mapping(map: &DmaMap, file: OwnedFd, permissions: Permissions) -> Result<MmapRegion, Errno> {
    let status = fstat(&file)?;
    let end = map.offset.checked_add(map.size).ok_or(Errno::INVAL)?;
    let size = u64::try_from(status.st_size).map_err(|_| Errno::INVAL)?;
    // What lies past a file's end cannot be accessed, though it can be mapped.
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile || end > size {
        return Err(Errno::INVAL);
    }
    // Where that is possible, it stays as long as it is: an access past the end ends this process.
    let _ = fcntl_add_seals(&file, SealFlags::SHRINK);
    let mut protection = libc::PROT_NONE;
    if permissions.read {
        protection |= libc::PROT_READ;
    }
    if permissions.write {
        protection |= libc::PROT_WRITE;
    }
    let file = FileOffset::new(File::from(file), map.offset);
    let size = usize::try_from(map.size).map_err(|_| Errno::NOMEM)?;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    MmapRegion::build(Some(file), size, protection, flags).map_err(|error| {
        debug!(%error, "mapping a client's memory");
        match error {
            MmapRegionError::Mmap(error) => Errno::from_io_error(&error).unwrap_or(Errno::INVAL),
            _ => Errno::INVAL,
        }
    })
}

fn errno_of(error: &ChangeError) -> Errno {
    debug!(%error, "changing a client's memory");
    match error {
        ChangeError::Overlap { .. } => Errno::EXIST,
        ChangeError::Part { .. } => Errno::INVAL,
        ChangeError::Nothing { .. } => Errno::NOENT,
    }
}
