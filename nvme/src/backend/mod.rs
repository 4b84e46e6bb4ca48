//! Storage behind a namespace: the trait, and its implementations over a file, memory and nothing.

mod cached;
mod direct;
mod file;
mod host;
mod memory;
mod null;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use file::FileBackend;
pub(crate) use host::lock_whole;
pub use memory::MemoryBackend;
pub use null::NullBackend;

pub(crate) use direct::alignment;

use devices::memory::GuestSlice;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When reads see it.
    Cached,
    /// When it is on stable storage.
    Stable,
}

/// Storage behind a namespace. Offsets and lengths are in bytes, multiples of a block, and inside `size`.
///
/// Calls block, and calls on one backend overlap. The engine makes them from the drive's lanes, so that a
/// backend that is stuck delays no other drive. It goes past `read`, `write` and `flush` in two cases: where
/// they end at once it calls them from an I/O thread, a burst after another; where there is a file it gives
/// that to an I/O thread's ring.
///
/// A read fills guest memory directly, and nothing can take that back: a controller whose backend is
/// stuck in a read is therefore never reported as shut down.
pub trait Backend: Send + Sync {
    /// Size in bytes: a multiple of a block, the same for ever.
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        false
    }

    /// Whether deallocated blocks read as zeroes.
    fn deallocated_reads_zero(&self) -> bool {
        false
    }

    /// Whether `read`, `write` and `flush` are a copy in the host's memory, or nothing at all, and so block no
    /// longer than an access to guest memory can.
    fn is_immediate(&self) -> bool {
        false
    }

    /// The file in which reads, writes and flushes at the same offsets mean the same, for one whose offset,
    /// addresses and lengths are multiples of `alignment`. `None` where there is none, or none any more.
    fn ring_file(&self, _alignment: u64) -> Option<Arc<File>> {
        None
    }

    /// Fills `into` from `offset`, where that needs nothing but a copy in the host's memory. Returns whether all of
    /// it is done; what `into` holds otherwise is not known. Never waits for storage.
    fn read_at_once(&self, _offset: u64, _into: &[GuestSlice<'_>]) -> bool {
        false
    }

    /// Fills `into` from `offset`.
    fn read(&self, offset: u64, into: &[GuestSlice<'_>]) -> io::Result<()>;

    /// Writes `from` to `offset`.
    fn write(&self, offset: u64, from: &[GuestSlice<'_>], durability: Durability)
    -> io::Result<()>;

    /// Puts every write that completed before on stable storage.
    fn flush(&self) -> io::Result<()>;

    /// Makes a range read as zeroes, `deallocate` says that it may give its space back.
    fn write_zeroes(&self, offset: u64, length: u64, deallocate: bool) -> io::Result<()>;

    /// Gives a range's space back, where that is possible.
    fn deallocate(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Closes files and drops locks. Later calls fail.
    fn release(&self) {}
}

/// Why storage could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No such file.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("{path} is neither a regular file nor a block device")]
    NotStorage {
        /// The file.
        path: PathBuf,
    },
    /// No whole number of blocks, or none at all.
    #[error(
        "{path} has {size} bytes; a drive needs a multiple of 512 bytes, and at least one block"
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Another open file holds the lock.
    #[error(
        "{path} is in use: another drive or process has it open for writing or wants it for itself"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file system has no way past the page cache.
    #[error(
        "the file system of {path} cannot bypass the page cache; set `direct` to false, or move the file"
    )]
    NoDirect {
        /// The file.
        path: PathBuf,
    },
    /// The host refused.
    #[error("cannot {doing} {path}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
