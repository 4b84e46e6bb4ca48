//! The address space that a machine's devices share: guest memory, mapped for DMA once, in a container or through
//! iommufd.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;
use vfio_bindings::bindings::vfio::{
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, vfio_iommu_type1_info,
};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use super::error::OpenError;
use super::ioctls::{IOVA_RANGES, Ioctls, IovaRange, Record, Request};

/// Memory is mapped in pieces of this size, so that what takes minutes can say how far it is.
const PIECE: u64 = 1 << 30;
/// How often it says so.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What guest memory took to be mapped for DMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaTally {
    /// How much is mapped now, in bytes.
    pub bytes: u64,
    /// In how many ranges.
    pub ranges: u64,
    /// How long it took.
    pub took: Duration,
    /// Calls that mapped something, since the machine was made.
    pub maps: u64,
}

/// One address space. Devices come into it; it ends with the last of them.
pub(super) struct AddressSpace {
    ioctls: Arc<dyn Ioctls>,
    file: File,
    /// Its number in iommufd; none for a container.
    ioas: Option<u32>,
}

impl AddressSpace {
    pub(super) fn container(ioctls: Arc<dyn Ioctls>, file: File) -> Self {
        Self {
            ioctls,
            file,
            ioas: None,
        }
    }

    pub(super) fn iommufd(ioctls: Arc<dyn Ioctls>, file: File) -> io::Result<Self> {
        let mut ioas = 0;
        ioctls.call(file.as_fd(), Request::IoasAlloc { ioas: &mut ioas })?;
        Ok(Self {
            ioctls,
            file,
            ioas: Some(ioas),
        })
    }

    /// The container, or iommufd.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn ioas(&self) -> Option<u32> {
        self.ioas
    }

    /// Maps all of `memory`, at the guest's addresses.
    pub(super) fn map(
        &self,
        device: &str,
        memory: &GuestMemoryMmap<()>,
        tally: &mut DmaTally,
    ) -> Result<(), OpenError> {
        self.check_reach(device, memory)?;
        let total: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
        let start = Instant::now();
        let mut told = start;
        *tally = DmaTally {
            maps: tally.maps,
            ..DmaTally::default()
        };
        for region in memory.iter() {
            let mut offset = 0;
            while offset < region.len() {
                let size = PIECE.min(region.len() - offset);
                let iova = region.start_addr().0 + offset;
                let piece = region
                    .get_slice(MemoryRegionAddress(offset), size as usize)
                    .map_err(|error| {
                        let doing = format!("looking guest memory up at {iova:#x}");
                        OpenError::refused(device, doing, io::Error::other(error.to_string()))
                    })?;
                let request = match self.ioas {
                    Some(ioas) => Request::IoasMap {
                        ioas,
                        memory: piece,
                        iova,
                    },
                    None => Request::MapDma {
                        memory: piece,
                        iova,
                    },
                };
                tally.maps += 1;
                self.ioctls
                    .call(self.file.as_fd(), request)
                    .map_err(|error| {
                        let limit = self.ioctls.locked_memory_limit();
                        OpenError::mapping(device, iova, total, limit, error)
                    })?;
                tally.ranges += 1;
                tally.bytes += size;
                offset += size;
                if tally.bytes < total && told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let (mapped_mib, of_mib) = (tally.bytes >> 20, total >> 20);
                    info!(mapped_mib, of_mib, "mapping guest memory for DMA");
                }
            }
        }
        tally.took = start.elapsed();
        let (mib, ranges) = (tally.bytes >> 20, tally.ranges);
        let milliseconds = tally.took.as_millis() as u64;
        info!(mib, ranges, milliseconds, "guest memory is mapped for DMA");
        Ok(())
    }

    /// # Errors
    /// Some of `memory` is where devices of this address space cannot reach it.
    pub(super) fn check_reach(
        &self,
        device: &str,
        memory: &GuestMemoryMmap<()>,
    ) -> Result<(), OpenError> {
        let ranges = self.ranges().map_err(|error| {
            OpenError::refused(device, "asking what the IOMMU can reach", error)
        })?;
        // A kernel that does not say, before Linux 5.4, finds out when it maps.
        if ranges.is_empty() {
            return Ok(());
        }
        for region in memory.iter() {
            let last = region.last_addr().0;
            if let Err(first) = reached(&ranges, region.start_addr().0, last) {
                let named = |range: &IovaRange| format!("{:#x} to {:#x}", range.first, range.last);
                return Err(OpenError::OutOfReach {
                    device: device.to_owned(),
                    first,
                    last,
                    reach: super::sysfs::joined(ranges.iter().map(named), ", "),
                });
            }
        }
        Ok(())
    }

    fn ranges(&self) -> io::Result<Vec<IovaRange>> {
        let mut ranges = Vec::new();
        let file = self.file.as_fd();
        if let Some(ioas) = self.ioas {
            let ranges = &mut ranges;
            self.ioctls
                .call(file, Request::IoasRanges { ioas, ranges })?;
        } else {
            let record = whole_record(size_of::<vfio_iommu_type1_info>(), |record| {
                self.ioctls.call(file, Request::IommuInfo(record))
            })?;
            ranges = container_ranges(&record);
        }
        ranges.sort_by_key(|range| range.first);
        Ok(ranges)
    }
}

/// Asks once for the size, and again for all of it where that is more than `size`.
pub(super) fn whole_record(
    size: usize,
    mut ask: impl FnMut(&mut Record) -> io::Result<u32>,
) -> io::Result<Record> {
    let mut record = Record::new(size);
    let index = record.clone();
    ask(&mut record)?;
    let needed = record.claimed_size();
    if needed > size && needed <= MAX_RECORD {
        let mut larger = Record::new(needed);
        larger.bytes_mut()[4..size].copy_from_slice(&index.bytes()[4..]);
        record = larger;
        ask(&mut record)?;
    }
    Ok(record)
}

/// No kernel has as much to say.
const MAX_RECORD: usize = 1 << 20;

/// `vfio_iommu_type1_info`: flags at 4, where capabilities begin at 16.
fn container_ranges(record: &Record) -> Vec<IovaRange> {
    if record.u32_at(4) & VFIO_IOMMU_INFO_CAPS == 0 {
        return Vec::new();
    }
    let Some(capability) =
        record.capability(record.u32_at(16), VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
    else {
        return Vec::new();
    };
    let count = record.u32_at(capability.start + 8) as usize;
    let first = capability.start + IOVA_RANGES;
    let range = |offset: usize| IovaRange {
        first: record.u64_at(offset),
        last: record.u64_at(offset + 8),
    };
    let offsets = (first..capability.end).step_by(16);
    offsets.take(count).map(range).collect()
}

/// Whether `ranges`, in order, have all from `first` to `last`.
///
/// # Errors
/// The first address that they do not have.
fn reached(ranges: &[IovaRange], first: u64, last: u64) -> Result<(), u64> {
    let mut next = first;
    for range in ranges {
        if range.first <= next && next <= range.last {
            if last <= range.last {
                return Ok(());
            }
            next = range.last + 1;
        }
    }
    Err(next)
}

#[cfg(test)]
mod tests;
