//! A transfer through a ring: what it moves, and how it ended.

use std::io;
use std::sync::Arc;

use smallvec::SmallVec;

use super::lease::Lease;

/// Where data lies in the host's address space: few stretches for most commands.
pub(crate) type Vectors = SmallVec<[libc::iovec; 4]>;

/// What is to be done with a file.
pub(crate) struct Transfer {
    /// Keeps the file open and the memory of the vectors mapped until the end.
    pub(crate) lease: Arc<Lease>,
    pub(crate) action: Action,
    /// First byte in the file.
    pub(crate) offset: u64,
    pub(crate) vectors: Vectors,
}

/// See [`Transfer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    Write {
        /// Ends when the data is on stable storage.
        stable: bool,
    },
    /// Puts what was written before on stable storage.
    Flush,
}

/// How a transfer ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// All of it is done.
    Done,
    /// It was cancelled; part of it may be done.
    Cancelled,
    /// The host refused.
    Failed(io::Error),
}

/// The end of a transfer, as its owner is told.
pub(crate) struct End {
    /// What the owner calls it.
    pub(crate) tag: u32,
    pub(crate) lease: Arc<Lease>,
    pub(crate) ended: Ended,
}

/// Names a transfer under way to the thread that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(super) u64);
