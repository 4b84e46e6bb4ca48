//! A namespace: blocks on a backend, with the lane for its slow calls and the knowledge of whether a flush
//! has anything to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tracing::warn;

use crate::backend::{Backend, Durability};
use crate::engine::{Ended, Lane};
use crate::identity::NamespaceNames;
use crate::spec::Status;
use crate::uncorrectable::Uncorrectable;
use devices::memory::GuestSlice;

/// See the module's header.
pub(crate) struct Namespace {
    pub(crate) id: u32,
    /// For slow calls: few, and enough that one slow deallocation does not hold another call back.
    pub(crate) lane: Arc<Lane>,
    /// For reads and cached writes that neither end at once nor go through a ring.
    pub(crate) transfers: Arc<Lane>,
    pub(crate) names: NamespaceNames,
    backend: Arc<dyn Backend>,
    /// The block size that it was made with.
    pub(crate) configured_block_size: u32,
    /// Block size: a power of two. Format NVM changes it.
    block_shift: AtomicU8,
    /// Whether the controller has it.
    attached: AtomicBool,
    /// It is being formatted: it serves nobody.
    formatting: AtomicBool,
    /// What a host made unreadable.
    uncorrectable: Uncorrectable,
    /// Counts the bytes changed that were not stable at once.
    changes: AtomicU64,
    /// The changes that are known to be on stable storage.
    flushed: AtomicU64,
}

/// A format under way.
pub(crate) struct Formatting<'a>(&'a Namespace);

impl Drop for Formatting<'_> {
    fn drop(&mut self) {
        self.0.formatting.store(false, Ordering::Release);
    }
}

/// A checked range of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) length: u64,
}

/// What a transfer through a ring does to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write {
        /// On stable storage when it ends.
        stable: bool,
    },
    Flush {
        /// The changes that it covers.
        changes: u64,
    },
}

impl Namespace {
    /// A namespace with blocks of `block_size` bytes, a power of two, attached.
    pub(crate) fn new(
        id: u32,
        backend: Arc<dyn Backend>,
        block_size: u32,
        names: NamespaceNames,
    ) -> Self {
        Self {
            id,
            lane: Lane::new(2),
            transfers: Lane::new(8),
            names,
            backend,
            configured_block_size: block_size,
            block_shift: AtomicU8::new(block_size.trailing_zeros() as u8),
            attached: AtomicBool::new(true),
            formatting: AtomicBool::new(false),
            uncorrectable: Uncorrectable::default(),
            changes: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        }
    }

    pub(crate) fn block_shift(&self) -> u8 {
        self.block_shift.load(Ordering::Acquire)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.backend.size() >> self.block_shift()
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Checks `count` blocks from `start` against the namespace's size.
    pub(crate) fn extent(&self, start: u64, count: u64) -> Result<Extent, Status> {
        // Read once: a format may change it between two looks.
        let shift = self.block_shift();
        match start.checked_add(count) {
            Some(end) if end <= self.backend.size() >> shift => Ok(Extent {
                offset: start << shift,
                length: count << shift,
            }),
            _ => Err(Status::LBA_OUT_OF_RANGE),
        }
    }

    /// Gives it to the controller, or takes it away. Returns whether it was the other way before.
    pub(crate) fn set_attached(&self, attached: bool) -> bool {
        self.attached.swap(attached, Ordering::AcqRel) != attached
    }

    /// Begins a format, which ends when what this returns is dropped. `None` where one is under way.
    pub(crate) fn begin_format(&self) -> Option<Formatting<'_>> {
        let begun = !self.formatting.swap(true, Ordering::AcqRel);
        begun.then_some(Formatting(self))
    }

    /// Refuses everything while it is being formatted.
    pub(crate) fn check_served(&self) -> Result<(), Status> {
        match self.formatting.load(Ordering::Acquire) {
            true => Err(Status::FORMAT_IN_PROGRESS),
            false => Ok(()),
        }
    }

    pub(crate) fn set_block_size(&self, block_size: u32) {
        let shift = block_size.trailing_zeros() as u8;
        self.block_shift.store(shift, Ordering::Release);
    }

    /// Bytes ever written, by whatever command.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Refuses what would change a read-only namespace.
    pub(crate) fn check_writable(&self) -> Result<(), Status> {
        if self.backend.read_only() {
            return Err(Status::NAMESPACE_WRITE_PROTECTED);
        }
        Ok(())
    }

    /// Refuses to read what a host made unreadable.
    pub(crate) fn check_readable(&self, extent: Extent) -> Result<(), Status> {
        match self.uncorrectable.first_in(extent) {
            Some(_) => Err(Status::UNRECOVERED_READ_ERROR),
            None => Ok(()),
        }
    }

    /// The first block of `count` from `start` that a host made unreadable.
    pub(crate) fn first_uncorrectable(&self, start: u64, count: u64) -> Option<u64> {
        let extent = self.extent(start, count).ok()?;
        let first = self.uncorrectable.first_in(extent)?;
        Some(first >> self.block_shift())
    }

    /// Makes a range unreadable until it is written.
    pub(crate) fn make_uncorrectable(&self, extent: Extent) -> Result<(), Status> {
        match self.uncorrectable.mark(extent) {
            true => Ok(()),
            false => Err(Status::WRITE_FAULT),
        }
    }

    pub(crate) fn read(&self, extent: Extent, into: &[GuestSlice<'_>]) -> Result<(), Status> {
        self.check_readable(extent)?;
        let result = self.backend.read(extent.offset, into);
        result.map_err(|failure| self.failed("read", &failure, Status::UNRECOVERED_READ_ERROR))
    }

    pub(crate) fn write(
        &self,
        extent: Extent,
        from: &[GuestSlice<'_>],
        durability: Durability,
    ) -> Result<(), Status> {
        let result = self.backend.write(extent.offset, from, durability);
        if durability == Durability::Cached || result.is_err() {
            self.changed(extent.length);
        }
        if result.is_ok() {
            self.uncorrectable.clear(extent);
        }
        result.map_err(|failure| self.failed("write", &failure, Status::WRITE_FAULT))
    }

    pub(crate) fn write_zeroes(&self, extent: Extent, deallocate: bool) -> Result<(), Status> {
        let Extent { offset, length } = extent;
        let result = self.backend.write_zeroes(offset, length, deallocate);
        self.changed(length);
        if result.is_ok() {
            self.uncorrectable.clear(extent);
        }
        result.map_err(|failure| self.failed("write zeroes", &failure, Status::WRITE_FAULT))
    }

    pub(crate) fn deallocate(&self, extent: Extent) -> Result<(), Status> {
        let result = self.backend.deallocate(extent.offset, extent.length);
        // Nothing that has to be written, but something for a flush to do.
        self.changed(1);
        result.map_err(|failure| self.failed("deallocate", &failure, Status::WRITE_FAULT))
    }

    /// Puts on stable storage what was written before. Always asks the backend: another flush that is
    /// under way has not ended yet.
    pub(crate) fn flush(&self) -> Result<(), Status> {
        let changes = self.changes.load(Ordering::Acquire);
        let result = self.backend.flush();
        result.map_err(|failure| self.failed("flush", &failure, Status::WRITE_FAULT))?;
        self.flushed.fetch_max(changes, Ordering::AcqRel);
        Ok(())
    }

    /// What is said of a transfer of `kind` that a ring made.
    pub(crate) fn ended(&self, kind: Kind, extent: Extent, ended: Ended) -> Result<(), Status> {
        let (doing, status) = match kind {
            Kind::Read => ("read", Status::UNRECOVERED_READ_ERROR),
            Kind::Write { .. } => ("write", Status::WRITE_FAULT),
            Kind::Flush { .. } => ("flush", Status::WRITE_FAULT),
        };
        let done = matches!(ended, Ended::Done);
        if let Kind::Write { stable } = kind
            && !(stable && done)
        {
            self.changed(extent.length);
        }
        match (ended, kind) {
            (Ended::Done, Kind::Flush { changes }) => {
                self.flushed.fetch_max(changes, Ordering::AcqRel);
                Ok(())
            }
            (Ended::Done, Kind::Write { .. }) => {
                self.uncorrectable.clear(extent);
                Ok(())
            }
            (Ended::Done, Kind::Read) => Ok(()),
            (Ended::Cancelled, _) => Err(Status::ABORT_REQUESTED),
            (Ended::Failed(failure), _) => Err(self.failed(doing, &failure, status)),
        }
    }

    /// A flush that covers what was written so far.
    pub(crate) fn begin_flush(&self) -> Kind {
        Kind::Flush {
            changes: self.changes.load(Ordering::Acquire),
        }
    }

    /// Whether something was written since the last flush that succeeded.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed_bytes() > 0
    }

    /// How many bytes were written since then.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        // In this order: what is flushed was changed before.
        let flushed = self.flushed.load(Ordering::Acquire);
        let changes = self.changes.load(Ordering::Acquire);
        changes.saturating_sub(flushed)
    }

    /// After the change, so that a flush which sees it covers it; after a failure too, as part of the
    /// range may have changed.
    fn changed(&self, bytes: u64) {
        self.changes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn failed(&self, doing: &str, failure: &std::io::Error, status: Status) -> Status {
        warn!(namespace = self.id, "{doing} failed: {failure}");
        status
    }
}
