//! One region of guest memory: mapped here, or reached by asking whoever has it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};

/// What an access does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads memory.
    Read,
    /// It writes memory.
    Write,
}

/// What a device may do in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Read it.
    pub read: bool,
    /// Write it.
    pub write: bool,
}

impl Permissions {
    /// Reading and writing.
    pub const ALL: Self = Self {
        read: true,
        write: true,
    };

    /// Whether `access` is allowed.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }
}

/// Memory that is not mapped here: each access is a request to its owner, and may wait for the answer.
pub trait RemoteMemory: Send + Sync {
    /// Fills `data` from the guest address `at`.
    fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()>;

    /// Copies `data` to the guest address `at`.
    fn write(&self, at: u64, data: &[u8]) -> io::Result<()>;

    /// Has accesses to these `size` bytes from `start` that wait now fail: the region is being removed.
    fn cancel(&self, start: u64, size: u64);
}

/// A region of guest memory.
pub struct Region {
    start: u64,
    size: u64,
    permissions: Permissions,
    // Before `ended`: fields go in their order, and the mapping is to be gone when somebody is told.
    backing: Backing,
    /// Set when the region was removed: remote accesses begin no more.
    removed: AtomicBool,
    ended: Mutex<Option<Arc<Ended>>>,
}

enum Backing {
    Mapped(Arc<GuestRegionMmap<()>>),
    Remote(Arc<dyn RemoteMemory>),
}

impl Region {
    /// A region at `start` over `mapping`; `None` where it would pass the end of the address space. The
    /// mapping's protection must allow what `permissions` do.
    pub fn mapped(start: u64, mapping: MmapRegion, permissions: Permissions) -> Option<Self> {
        let region = GuestRegionMmap::new(mapping, GuestAddress(start))?;
        Some(Self::of(Arc::new(region), permissions))
    }

    /// A region of `size` bytes at `start` that is reached through `memory`; `None` where it is empty or
    /// would pass the end of the address space.
    pub fn remote(
        start: u64,
        size: u64,
        memory: Arc<dyn RemoteMemory>,
        permissions: Permissions,
    ) -> Option<Self> {
        start.checked_add(size.checked_sub(1)?)?;
        Some(Self {
            start,
            size,
            permissions,
            backing: Backing::Remote(memory),
            removed: AtomicBool::new(false),
            ended: Mutex::default(),
        })
    }

    /// The regions of a machine's memory, shared with it.
    pub(super) fn of_ram(ram: &GuestMemoryMmap<()>) -> Vec<Self> {
        let mut regions = Vec::with_capacity(ram.num_regions());
        for region in ram.iter() {
            // Taking a region out of a copy is the way to its reference count.
            if let Ok((_, region)) = ram.remove_region(region.start_addr(), region.len()) {
                regions.push(Self::of(region, Permissions::ALL));
            }
        }
        regions
    }

    fn of(region: Arc<GuestRegionMmap<()>>, permissions: Permissions) -> Self {
        Self {
            start: region.start_addr().0,
            size: region.len(),
            permissions,
            backing: Backing::Mapped(region),
            removed: AtomicBool::new(false),
            ended: Mutex::default(),
        }
    }

    /// The first address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The last address.
    pub fn last(&self) -> u64 {
        self.start + (self.size - 1)
    }

    /// What a device may do here.
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// The mapping, where there is one.
    pub fn mapping(&self) -> Option<&GuestRegionMmap<()>> {
        match &self.backing {
            Backing::Mapped(region) => Some(region),
            Backing::Remote(_) => None,
        }
    }

    /// Whoever has the region's memory, where it is not mapped here.
    pub(super) fn remote_memory(&self) -> Option<io::Result<&dyn RemoteMemory>> {
        match &self.backing {
            Backing::Mapped(_) => None,
            Backing::Remote(_) if self.removed.load(Ordering::Acquire) => Some(Err(
                io::Error::other("the region was removed from guest memory"),
            )),
            Backing::Remote(memory) => Some(Ok(&**memory)),
        }
    }

    /// The region was removed: `ended` goes when it does.
    pub(super) fn end(&self, ended: &Arc<Ended>) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(ended));
        self.removed.store(true, Ordering::Release);
        if let Backing::Remote(memory) = &self.backing {
            memory.cancel(self.start, self.size);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Region")
            .field("start", &format_args!("{:#x}", self.start))
            .field("size", &format_args!("{:#x}", self.size))
            .field("permissions", &self.permissions)
            .field("mapped", &self.mapping().is_some())
            .finish_non_exhaustive()
    }
}

/// Runs something when the last of some removed regions goes.
pub(super) struct Ended(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Ended {
    pub(super) fn new(then: impl FnOnce() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Some(Box::new(then))))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then();
        }
    }
}
