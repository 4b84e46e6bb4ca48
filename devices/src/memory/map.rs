//! The regions of one moment, and accesses to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{AtomicAccess, Bytes, GuestAddress, GuestMemoryRegion, MemoryRegionAddress};

use super::region::{Access, Region};
use super::{ChangeError, GuestSlice};

/// Why guest memory could not be accessed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No region holds the address.
    #[error("there is no guest memory at {0:#x}")]
    Nothing(u64),
    /// The region does not allow it.
    #[error("guest memory at {0:#x} does not allow the access")]
    Denied(u64),
    /// The access needs a mapping, and the region has none.
    #[error("guest memory at {0:#x} is not mapped")]
    NotMapped(u64),
    /// The access is not aligned to its size.
    #[error("{0:#x} is not aligned for the access")]
    Unaligned(u64),
    /// Whoever has the memory did not answer, or refused.
    #[error("guest memory at {at:#x}: {source}")]
    Remote {
        /// Where.
        at: u64,
        /// What became of the request.
        source: io::Error,
    },
}

/// The regions of guest memory at one moment, in the order of their addresses. Never changes.
#[derive(Debug, Default)]
pub struct MemoryMap {
    regions: Vec<Arc<Region>>,
}

/// The part of an access that falls into one region.
struct Piece<'a> {
    region: &'a Region,
    at: u64,
    bytes: usize,
}

impl Piece<'_> {
    fn offset(&self) -> MemoryRegionAddress {
        MemoryRegionAddress(self.at - self.region.start())
    }

    fn check(&self, access: Access) -> Result<(), AccessError> {
        if self.region.permissions().allow(access) {
            Ok(())
        } else {
            Err(AccessError::Denied(self.at))
        }
    }

    fn remote(&self, result: io::Result<()>) -> Result<(), AccessError> {
        let at = self.at;
        result.map_err(|source| AccessError::Remote { at, source })
    }
}

impl MemoryMap {
    /// The map of `regions`, which do not overlap.
    pub(super) fn of(mut regions: Vec<Arc<Region>>) -> Self {
        regions.sort_by_key(|region| region.start());
        Self { regions }
    }

    /// The regions.
    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }

    /// This map with one region more.
    pub(super) fn with(&self, region: Region) -> Result<(Self, ()), ChangeError> {
        let (start, last) = (region.start(), region.last());
        if let Some(other) = self.among(start, last).next() {
            return Err(ChangeError::Overlap {
                start,
                last,
                other_start: other.start(),
                other_last: other.last(),
            });
        }
        let mut regions = self.regions.clone();
        regions.push(Arc::new(region));
        Ok((Self::of(regions), ()))
    }

    /// This map without the regions in a range, and them.
    #[allow(clippy::type_complexity, reason = "the two halves of one map")]
    pub(super) fn without(
        &self,
        start: u64,
        size: u64,
    ) -> Result<(Self, Vec<Arc<Region>>), ChangeError> {
        let last = start.saturating_add(size.saturating_sub(1));
        let gone: Vec<_> = self.among(start, last).cloned().collect();
        if gone.is_empty() {
            return Err(ChangeError::Nothing { start, last });
        }
        let cut = |region: &&Arc<Region>| region.start() < start || region.last() > last;
        if let Some(other) = gone.iter().find(cut) {
            return Err(ChangeError::Part {
                start,
                last,
                other_start: other.start(),
                other_last: other.last(),
            });
        }
        let outside = |region: &&Arc<Region>| region.start() > last || region.last() < start;
        let left = self.regions.iter().filter(outside).cloned().collect();
        Ok((Self { regions: left }, gone))
    }

    /// All of `bytes` from `at` in one mapped region that allows `access`, as nearly every access has it; `None`
    /// else, which says nothing of what is there.
    #[inline]
    pub fn slice(&self, at: GuestAddress, bytes: usize, access: Access) -> Option<GuestSlice<'_>> {
        let place = self.regions.partition_point(|region| region.last() < at.0);
        let region = self.regions.get(place)?;
        let offset = at.0.checked_sub(region.start())?;
        if !region.permissions().allow(access) {
            return None;
        }
        let mapping = region.mapping()?;
        mapping.get_slice(MemoryRegionAddress(offset), bytes).ok()
    }

    /// Whether all of `bytes` from `at` is memory of any kind.
    pub fn check_range(&self, at: GuestAddress, bytes: usize) -> bool {
        self.pieces(at, bytes).all(|piece| piece.is_ok())
    }

    /// Whether all of `bytes` from `at` is mapped here and allows `access`.
    pub fn is_mapped(&self, at: GuestAddress, bytes: usize, access: Access) -> bool {
        self.pieces(at, bytes).all(|piece| {
            piece.is_ok_and(|piece| piece.region.mapping().is_some() && piece.check(access).is_ok())
        })
    }

    /// Adds `bytes` from `at` to `slices`: more than one where they span regions.
    ///
    /// # Errors
    /// When part of it is no memory, is not mapped, or does not allow `access`.
    pub fn slices<'a>(
        &'a self,
        at: GuestAddress,
        bytes: usize,
        access: Access,
        slices: &mut impl Extend<GuestSlice<'a>>,
    ) -> Result<(), AccessError> {
        if let Some(slice) = self.slice(at, bytes, access) {
            slices.extend([slice]);
            return Ok(());
        }
        for piece in self.pieces(at, bytes) {
            let piece = piece?;
            piece.check(access)?;
            let region = piece.region.mapping();
            let slice =
                region.and_then(|region| region.get_slice(piece.offset(), piece.bytes).ok());
            slices.extend([slice.ok_or(AccessError::NotMapped(piece.at))?]);
        }
        Ok(())
    }

    /// As [`GuestMemory::read_slice`](super::GuestMemory::read_slice).
    ///
    /// # Errors
    /// The same.
    pub fn read_slice(&self, mut data: &mut [u8], at: GuestAddress) -> Result<(), AccessError> {
        if let Some(slice) = self.slice(at, data.len(), Access::Read) {
            slice.copy_to(data);
            return Ok(());
        }
        for piece in self.pieces(at, data.len()) {
            let piece = piece?;
            piece.check(Access::Read)?;
            let (now, rest) = data.split_at_mut(piece.bytes);
            match (piece.region.mapping(), piece.region.remote_memory()) {
                (Some(region), _) => region
                    .read_slice(now, piece.offset())
                    .map_err(|_| AccessError::Nothing(piece.at))?,
                (None, Some(memory)) => {
                    piece.remote(memory.and_then(|memory| memory.read(piece.at, now)))?;
                }
                (None, None) => return Err(AccessError::NotMapped(piece.at)),
            }
            data = rest;
        }
        Ok(())
    }

    /// As [`GuestMemory::write_slice`](super::GuestMemory::write_slice).
    ///
    /// # Errors
    /// The same.
    pub fn write_slice(&self, mut data: &[u8], at: GuestAddress) -> Result<(), AccessError> {
        if let Some(slice) = self.slice(at, data.len(), Access::Write) {
            slice.copy_from(data);
            return Ok(());
        }
        for piece in self.pieces(at, data.len()) {
            let piece = piece?;
            piece.check(Access::Write)?;
            let (now, rest) = data.split_at(piece.bytes);
            match (piece.region.mapping(), piece.region.remote_memory()) {
                (Some(region), _) => region
                    .write_slice(now, piece.offset())
                    .map_err(|_| AccessError::Nothing(piece.at))?,
                (None, Some(memory)) => {
                    piece.remote(memory.and_then(|memory| memory.write(piece.at, now)))?;
                }
                (None, None) => return Err(AccessError::NotMapped(piece.at)),
            }
            data = rest;
        }
        Ok(())
    }

    /// As [`GuestMemory::store`](super::GuestMemory::store).
    ///
    /// # Errors
    /// The same.
    pub fn store<T: AtomicAccess>(
        &self,
        value: T,
        at: GuestAddress,
        order: Ordering,
    ) -> Result<(), AccessError> {
        let region = self.atomic::<T>(at, Access::Write)?;
        let offset = MemoryRegionAddress(at.0 - region.start_addr().0);
        region
            .store(value, offset, order)
            .map_err(|_| AccessError::Unaligned(at.0))
    }

    /// Loads the value at `at`, which is aligned to its size, as one access.
    ///
    /// # Errors
    /// When there is no memory mapped for reading, or `at` is not aligned.
    pub fn load<T: AtomicAccess>(
        &self,
        at: GuestAddress,
        order: Ordering,
    ) -> Result<T, AccessError> {
        let region = self.atomic::<T>(at, Access::Read)?;
        let offset = MemoryRegionAddress(at.0 - region.start_addr().0);
        region
            .load(offset, order)
            .map_err(|_| AccessError::Unaligned(at.0))
    }

    /// The mapped region that holds all of a value.
    fn atomic<T>(
        &self,
        at: GuestAddress,
        access: Access,
    ) -> Result<&vm_memory::GuestRegionMmap<()>, AccessError> {
        let mut pieces = self.pieces(at, size_of::<T>());
        let piece = pieces.next().unwrap_or(Err(AccessError::Nothing(at.0)))?;
        piece.check(access)?;
        piece
            .region
            .mapping()
            .ok_or(AccessError::NotMapped(piece.at))
    }

    /// The regions that share an address with `start..=last`.
    fn among(&self, start: u64, last: u64) -> impl Iterator<Item = &Arc<Region>> {
        let regions = self.regions.iter();
        regions.filter(move |region| region.start() <= last && start <= region.last())
    }

    /// Cuts an access up by regions; ends with an error at the first byte that is in none.
    fn pieces(
        &self,
        at: GuestAddress,
        bytes: usize,
    ) -> impl Iterator<Item = Result<Piece<'_>, AccessError>> {
        let mut next = self.regions.partition_point(|region| region.last() < at.0);
        let (mut at, mut left) = (at.0, bytes);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let found = self.regions.get(next).filter(|region| region.start() <= at);
            let Some(region) = found else {
                left = 0;
                return Some(Err(AccessError::Nothing(at)));
            };
            // Up to the region's end there are at most as many bytes as a region has.
            let to_end = region.last() - at;
            let bytes =
                left.min(usize::try_from(to_end).map_or(usize::MAX, |n| n.saturating_add(1)));
            let piece = Piece { region, at, bytes };
            next += 1;
            left -= bytes;
            // Past the last address there is nothing; a wrapped one finds no region.
            match at.checked_add(bytes as u64) {
                Some(after) => at = after,
                None if left > 0 => next = usize::MAX,
                None => {}
            }
            Some(Ok(piece))
        })
    }
}
