//! Guest memory as a server has it: by descriptor where there is one, by messages where not.

use std::os::fd::AsFd;

use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};
use vfio_user::Errno;
use vfio_user::client::Memory;
use vfio_user::protocol::{DmaMap, map_flag};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

/// See the module's header. Messages reach all of it, and nothing else.
#[derive(Clone)]
pub struct ServedMemory(GuestMemoryMmap<()>);

impl ServedMemory {
    /// All of `memory`.
    pub fn new(memory: &GuestMemoryMmap<()>) -> Self {
        Self(memory.clone())
    }

    /// What is said of each range, with its file where it has one.
    pub fn ranges(&self) -> impl Iterator<Item = (DmaMap, Option<&FileOffset>)> {
        self.0.iter().map(|region| {
            let file = region.file_offset();
            let map = DmaMap {
                argsz: size_of::<DmaMap>() as u32,
                flags: map_flag::READ | map_flag::WRITE,
                offset: file.map_or(0, FileOffset::start),
                address: region.start_addr().0,
                size: region.len(),
            };
            (map, file)
        })
    }

    /// Whether a server has any of it in its hands.
    pub fn is_shared(&self) -> bool {
        self.ranges().any(|(_, file)| file.is_some())
    }

    /// Keeps servers from cutting its files short, and says whether they cannot: an access to what is not there any
    /// more would end this process.
    pub fn seal(&self) -> bool {
        let mut files = self.ranges().filter_map(|(_, file)| file);
        files.all(|file| {
            // Fails where the file takes no more seals, or is in a file system without: then what it has counts.
            let _ = fcntl_add_seals(file.file(), SealFlags::SHRINK);
            fcntl_get_seals(file.file()).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
        })
    }

    fn check(&self, at: u64, size: usize) -> Result<GuestAddress, Errno> {
        let at = GuestAddress(at);
        match GuestMemoryBackend::check_range(&self.0, at, size) {
            true => Ok(at),
            false => Err(Errno::FAULT),
        }
    }
}

impl Memory for ServedMemory {
    fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Errno> {
        let at = self.check(at, data.len())?;
        self.0.read_slice(data, at).map_err(|_| Errno::FAULT)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<(), Errno> {
        let at = self.check(at, data.len())?;
        self.0.write_slice(data, at).map_err(|_| Errno::FAULT)
    }
}

/// The descriptor of a range's file.
pub fn descriptor(file: &FileOffset) -> std::os::fd::BorrowedFd<'_> {
    file.file().as_fd()
}
