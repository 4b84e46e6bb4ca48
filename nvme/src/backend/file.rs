//! Storage in a raw file or block device, locked against other writers for as long as it is open.
#![allow(
    unsafe_code,
    reason = "vectored I/O into guest memory has no safe interface"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::cached::{Cached, vectors_of};
use super::direct::{Direct, alignment_of_slices};
use super::host::{allocate, block_on_calls, is_in_memory, lock_whole};
use super::{Backend, BackendError, Durability};
use crate::spec::BLOCK;
use devices::memory::GuestSlice;

/// Most vectors of one call (IOV_MAX of Linux).
const VECTORS: usize = 1024;
/// Zeroes written at a time where the host has no better way.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
/// What of a file in memory is allocated or punched at once: some milliseconds' work of the host's kernel.
const PIECE: u64 = 16 << 20;

/// Storage in a raw file or block device.
#[derive(Debug)]
pub struct FileBackend {
    file: ArcSwapOption<File>,
    /// The same file past the page cache, where that was asked for.
    direct: ArcSwapOption<Direct>,
    is_direct: bool,
    size: u64,
    read_only: bool,
    /// It lies in the host's memory.
    in_memory: bool,
    /// Whether the file system can punch holes, which read as zeroes.
    punches: bool,
    cached: Cached,
}

impl FileBackend {
    /// Opens `path` and locks it: for itself, or with other readers where `read_only`.
    ///
    /// # Errors
    /// Says what is wrong with the file, or that another drive or process has it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, BackendError> {
        let host = |doing| {
            let path = path.to_path_buf();
            move |source| BackendError::Host {
                doing,
                path,
                source,
            }
        };
        let owned = || PathBuf::from(path);
        // O_NONBLOCK: a FIFO given by mistake is refused below instead of waited for.
        let mut file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| match source.kind() {
                ErrorKind::NotFound => BackendError::Missing { path: owned() },
                ErrorKind::IsADirectory => BackendError::NotStorage { path: owned() },
                _ => host("open")(source),
            })?;
        let kind = file.metadata().map_err(host("examine"))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BackendError::NotStorage { path: owned() });
        }
        block_on_calls(&file).map_err(host("open"))?;
        // A block device's node may lie there, its blocks do not.
        let in_memory = kind.is_file() && is_in_memory(&file).map_err(host("examine"))?;
        if !lock_whole(&file, !read_only).map_err(host("lock"))? {
            return Err(BackendError::Locked { path: owned() });
        }
        let size = file.seek(SeekFrom::End(0)).map_err(host("measure"))?;
        if size == 0 || !size.is_multiple_of(BLOCK) {
            return Err(BackendError::Size {
                path: owned(),
                size,
            });
        }
        // Beyond the end, with the size kept: changes nothing and tells whether holes are possible.
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let punches = !read_only && kind.is_file() && allocate(&file, hole, size, BLOCK).is_ok();
        Ok(Self {
            file: ArcSwapOption::from_pointee(file),
            direct: ArcSwapOption::empty(),
            is_direct: false,
            size,
            read_only,
            in_memory,
            punches,
            cached: Cached::default(),
        })
    }

    /// The same, past the host's page cache (O_DIRECT) for everything that is aligned as the host needs it.
    /// What is not goes through the page cache, which the host's kernel keeps in step.
    ///
    /// # Errors
    /// As for [`open`](Self::open), or that the file system cannot do it.
    pub fn open_direct(path: &Path, read_only: bool) -> Result<Self, BackendError> {
        let mut backend = Self::open(path, read_only)?;
        let direct =
            Direct::open(path, read_only).map_err(|source| match source.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                    BackendError::NoDirect { path: path.into() }
                }
                _ => BackendError::Host {
                    doing: "open for direct I/O",
                    path: path.into(),
                    source,
                },
            })?;
        backend.direct.store(Some(Arc::new(direct)));
        backend.is_direct = true;
        Ok(backend)
    }

    fn file(&self) -> io::Result<Arc<File>> {
        self.file
            .load_full()
            .ok_or_else(|| io::Error::other("the drive was released"))
    }

    /// The file for a transfer of this alignment.
    fn file_for(&self, alignment: impl FnOnce() -> u64) -> Option<Arc<File>> {
        if self.is_direct
            && let Some(direct) = &*self.direct.load()
            && direct.takes(alignment())
        {
            return Some(Arc::clone(&direct.file));
        }
        self.file.load_full()
    }

    fn file_to_move(&self, offset: u64, slices: &[GuestSlice<'_>]) -> io::Result<Arc<File>> {
        self.file_for(|| alignment_of_slices(offset, slices))
            .ok_or_else(|| io::Error::other("the drive was released"))
    }
}

impl FileBackend {
    /// As [`host::allocate`](allocate). The host's kernel locks a file in memory meanwhile, and who writes to it
    /// waits: an I/O thread, which serves other drives too. So that one is done in pieces.
    fn allocate(&self, file: &File, mode: i32, offset: u64, length: u64) -> io::Result<()> {
        let piece = if self.in_memory { PIECE } else { length };
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let now = piece.min(end - at);
            allocate(file, mode, at, now)?;
            at += now;
        }
        Ok(())
    }
}

impl Backend for FileBackend {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn is_immediate(&self) -> bool {
        self.in_memory
    }

    fn deallocated_reads_zero(&self) -> bool {
        self.punches
    }

    fn ring_file(&self, alignment: u64) -> Option<Arc<File>> {
        self.file_for(|| alignment)
    }

    fn read_at_once(&self, offset: u64, into: &[GuestSlice<'_>]) -> bool {
        // What goes past the page cache is never in memory.
        if self.is_direct || !self.cached.is_worth_a_try() {
            return false;
        }
        let Some(file) = &*self.file.load() else {
            return false;
        };
        self.cached.read(file, offset, into)
    }

    fn read(&self, offset: u64, into: &[GuestSlice<'_>]) -> io::Result<()> {
        let file = self.file_to_move(offset, into)?;
        transfer(into, offset, |vectors, at| {
            let count = vectors.len() as libc::c_int;
            // SAFETY: every vector is guest memory that `into` keeps mapped during the call. The guest
            // may change it meanwhile, and nothing here reads it as anything but bytes.
            unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, at) }
        })
    }

    fn write(
        &self,
        offset: u64,
        from: &[GuestSlice<'_>],
        durability: Durability,
    ) -> io::Result<()> {
        let length: usize = from.iter().map(GuestSlice::len).sum();
        if offset
            .checked_add(length as u64)
            .is_none_or(|end| end > self.size)
        {
            // A file would grow.
            return Err(ErrorKind::InvalidInput.into());
        }
        let file = self.file_to_move(offset, from)?;
        let flags = match durability {
            Durability::Cached => 0,
            Durability::Stable => libc::RWF_DSYNC,
        };
        transfer(from, offset, |vectors, at| {
            let count = vectors.len() as libc::c_int;
            // SAFETY: as for reads; the host's kernel reads the bytes once.
            unsafe { libc::pwritev2(file.as_raw_fd(), vectors.as_ptr(), count, at, flags) }
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.file()?.sync_data()
    }

    fn write_zeroes(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()> {
        let file = self.file()?;
        let mode = if deallocate && self.punches {
            libc::FALLOC_FL_PUNCH_HOLE
        } else {
            libc::FALLOC_FL_ZERO_RANGE
        };
        match self.allocate(&file, mode | libc::FALLOC_FL_KEEP_SIZE, offset, length) {
            Err(failure) if is_unsupported(&failure) => {
                let mut at = offset;
                while at < offset + length {
                    let now = (offset + length - at).min(ZEROES.len() as u64);
                    file.write_all_at(&ZEROES[..now as usize], at)?;
                    at += now;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn deallocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        match self.allocate(&*self.file()?, mode, offset, length) {
            // Deallocation is a hint: where it is impossible the data just stays.
            Err(failure) if is_unsupported(&failure) => Ok(()),
            other => other,
        }
    }

    fn release(&self) {
        // The last user of the descriptor closes it, and the lock goes with it.
        self.file.store(None);
        self.direct.store(None);
    }
}

fn is_unsupported(failure: &io::Error) -> bool {
    matches!(
        failure.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
    )
}

/// Moves all bytes of `slices` from or to `offset` by as many calls of `call(vectors, offset)` as it takes.
fn transfer(
    slices: &[GuestSlice<'_>],
    offset: u64,
    call: impl Fn(&[libc::iovec], i64) -> isize,
) -> io::Result<()> {
    // The pointers are good while `slices` is.
    let mut vectors = vectors_of(slices);
    let mut left = vectors.as_mut_slice();
    let mut at = offset as i64;
    while !left.is_empty() {
        let moved = call(&left[..left.len().min(VECTORS)], at);
        if moved < 0 {
            let failure = io::Error::last_os_error();
            if failure.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(failure);
        }
        if moved == 0 {
            // The file was cut short behind our back.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        at += moved as i64;
        let mut moved = moved as usize;
        while let Some(first) = left.first_mut() {
            if moved < first.iov_len {
                first.iov_base = first.iov_base.cast::<u8>().wrapping_add(moved).cast();
                first.iov_len -= moved;
                break;
            }
            moved -= first.iov_len;
            left = &mut left[1..];
        }
    }
    Ok(())
}
