//! Guest memory as devices see it: a set of regions that may change while they work.
//!
//! A device looks at memory through a [`MemoryMap`], which never changes: a change makes a new one. Taking
//! the present one is lock-free. What a device has taken stays valid for as long as it holds it, so a region
//! that was removed is unmapped when the last map with it goes; whoever removed it is told then.
//!
//! Holding a map therefore holds removals up. Take one for a burst or for one transfer, and let it go.

mod map;
mod region;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use vm_memory::mmap::FromRangesError;
use vm_memory::{AtomicAccess, GuestAddress, GuestMemoryMmap, VolatileSlice, bitmap::BS};

pub use map::{AccessError, MemoryMap};
pub use region::{Access, Permissions, Region, RemoteMemory};

/// A stretch of mapped guest memory as the host sees it.
pub type GuestSlice<'a> = VolatileSlice<'a, BS<'a, ()>>;

/// The guest's memory. Cheap to clone: all clones see the same regions.
///
/// The guest writes to it while a device reads: read a value once, check it, then use it.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    map: ArcSwap<MemoryMap>,
    /// Counts changes of the map, each after it was made.
    changes: AtomicU64,
    /// Keeps two changes from losing one another.
    changing: Mutex<()>,
}

/// The regions of a moment, taken without a lock. For the thread that took it, and for a short while:
/// [`GuestMemory::snapshot`] is for transfers that go on elsewhere.
pub struct View {
    map: Guard<Arc<MemoryMap>>,
    /// Changes that it shows, or fewer.
    changes: u64,
}

impl View {
    /// The same regions for as long as the caller needs them and on any thread.
    pub fn keep(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.map)
    }
}

impl Deref for View {
    type Target = MemoryMap;

    fn deref(&self) -> &MemoryMap {
        &self.map
    }
}

/// Why the regions could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The region shares addresses with one that is there.
    #[error("{start:#x} to {last:#x} overlaps the region from {other_start:#x} to {other_last:#x}")]
    Overlap {
        /// First address of the new region.
        start: u64,
        /// Its last.
        last: u64,
        /// First address of the region that is there.
        other_start: u64,
        /// Its last.
        other_last: u64,
    },
    /// The range cuts a region in two; only whole ones can be removed.
    #[error(
        "{start:#x} to {last:#x} holds a part of the region from {other_start:#x} to {other_last:#x}"
    )]
    Part {
        /// First address of the range.
        start: u64,
        /// Its last.
        last: u64,
        /// First address of the region that is there.
        other_start: u64,
        /// Its last.
        other_last: u64,
    },
    /// No region is in the range.
    #[error("there is no region from {start:#x} to {last:#x}")]
    Nothing {
        /// First address of the range.
        start: u64,
        /// Its last.
        last: u64,
    },
}

impl GuestMemory {
    /// Anonymous memory in these ranges: of their address and size in bytes.
    ///
    /// # Errors
    /// When ranges overlap or the host gives no memory.
    pub fn from_ranges(ranges: &[(GuestAddress, usize)]) -> Result<Self, FromRangesError> {
        Ok(Self::of_ram(&GuestMemoryMmap::from_ranges(ranges)?))
    }

    /// The memory of a machine that has its regions mapped itself. They are shared, not copied.
    pub fn of_ram(ram: &GuestMemoryMmap<()>) -> Self {
        let memory = Self::default();
        let map = MemoryMap::of(Region::of_ram(ram).into_iter().map(Arc::new).collect());
        memory.shared.map.store(Arc::new(map));
        memory
    }

    /// The regions as they are now.
    pub fn view(&self) -> View {
        // In this order: a change between the two makes the view one that is not current.
        let changes = self.shared.changes.load(Ordering::Acquire);
        View {
            map: self.shared.map.load(),
            changes,
        }
    }

    /// Whether `view`, of this memory, shows the regions as they are now. Costs one load: for who keeps a view
    /// over several accesses, and must see a region that was added before the access was asked for.
    #[inline]
    pub fn is_current(&self, view: &View) -> bool {
        view.changes == self.shared.changes.load(Ordering::Acquire)
    }

    /// The regions as they are now, for as long as the caller needs them and on any thread.
    pub fn snapshot(&self) -> Arc<MemoryMap> {
        self.shared.map.load_full()
    }

    /// Adds a region.
    ///
    /// # Errors
    /// When it overlaps another: then nothing changes.
    pub fn add(&self, region: Region) -> Result<(), ChangeError> {
        self.change(|map| map.with(region)).map(drop)
    }

    /// Removes the regions that lie in the `size` (not zero) bytes from `start`, and has `then` run when
    /// nobody uses any of them any more: on the thread that lets go last, perhaps before this returns.
    /// New accesses find nothing there from now on; ones to remote regions that are under way fail.
    ///
    /// # Errors
    /// When there is none, or one lies there in part: then nothing changes, and `then` does not run.
    pub fn remove(
        &self,
        start: u64,
        size: u64,
        then: impl FnOnce() + Send + Sync + 'static,
    ) -> Result<(), ChangeError> {
        let removed = self.change(|map| map.without(start, size))?;
        let then = region::Ended::new(then);
        for region in &removed {
            region.end(&then);
        }
        Ok(())
    }

    /// Removes every region, and has `then` run when nobody uses any of them any more.
    pub fn clear(&self, then: impl FnOnce() + Send + Sync + 'static) {
        let removed: Result<_, ChangeError> =
            self.change(|map| Ok((MemoryMap::default(), map.regions().to_vec())));
        let then = region::Ended::new(then);
        for region in removed.iter().flatten() {
            region.end(&then);
        }
    }

    /// Whether all of `bytes` from `at` is memory of any kind.
    pub fn check_range(&self, at: GuestAddress, bytes: usize) -> bool {
        self.view().check_range(at, bytes)
    }

    /// Whether all of `bytes` from `at` is mapped here and allows reading and writing.
    pub fn is_mapped(&self, at: GuestAddress, bytes: usize) -> bool {
        let view = self.view();
        [Access::Read, Access::Write]
            .into_iter()
            .all(|access| view.is_mapped(at, bytes, access))
    }

    /// Copies guest memory from `at` to `data`.
    ///
    /// # Errors
    /// When part of it is no memory or cannot be read. `data` may have changed then.
    pub fn read_slice(&self, data: &mut [u8], at: GuestAddress) -> Result<(), AccessError> {
        self.view().read_slice(data, at)
    }

    /// Copies `data` to guest memory at `at`.
    ///
    /// # Errors
    /// When part of it is no memory or cannot be written. Memory may have changed then.
    pub fn write_slice(&self, data: &[u8], at: GuestAddress) -> Result<(), AccessError> {
        self.view().write_slice(data, at)
    }

    /// Stores `value` at `at`, which is aligned to its size, as one access.
    ///
    /// # Errors
    /// When there is no memory mapped for writing, or `at` is not aligned.
    pub fn store<T: AtomicAccess>(
        &self,
        value: T,
        at: GuestAddress,
        order: Ordering,
    ) -> Result<(), AccessError> {
        self.view().store(value, at, order)
    }

    /// Publishes the map that `change` makes of the present one. Its second part is let go after the
    /// lock, as it may hold the last reference to a region.
    fn change<T>(
        &self,
        change: impl FnOnce(&MemoryMap) -> Result<(MemoryMap, T), ChangeError>,
    ) -> Result<T, ChangeError> {
        let changing = self
            .shared
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (map, rest) = change(&self.shared.map.load())?;
        let before = self.shared.map.swap(Arc::new(map));
        self.shared.changes.fetch_add(1, Ordering::Release);
        drop(changing);
        drop(before);
        Ok(rest)
    }
}

#[cfg(test)]
mod tests;
