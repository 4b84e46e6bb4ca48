//! Guest memory: one memfd, mapped once, given to KVM as one slot a region, and the layout of the
//! guest's physical address space around it.
#![allow(unsafe_code)] // KVM_SET_USER_MEMORY_REGION takes a host address on trust.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

/// The guest's memory as the machine has it: regions that stay for its life. Cheap to clone.
pub type GuestRam = GuestMemoryMmap<()>;

/// End of the memory below 4 GiB; the rest of the guest's memory starts at [`HIGH_MEMORY`].
pub const LOW_MEMORY_END: u64 = 0xC000_0000;
/// Where memory goes on above the 32-bit hole.
pub const HIGH_MEMORY: u64 = 1 << 32;
/// The 32-bit window of the PCI host bridge.
pub const MMIO32: (u64, u64) = (LOW_MEMORY_END, 0x2000_0000);
/// The enhanced configuration access window: 256 buses of 1 MiB.
pub const ECAM: (u64, u64) = (0xE000_0000, 0x1000_0000);
/// Three pages for KVM on Intel hosts, which need them for real mode, and one for its identity map.
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
/// The first of the three pages.
pub const KVM_TSS: u64 = 0xFFFB_D000;
/// Size of the 64-bit window of the PCI host bridge.
const MMIO64_SIZE: u64 = 64 << 30;

/// Why guest memory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The memfd was refused.
    #[error("creating a memfd of {mib} MiB for guest memory{hint}: {source}")]
    Create {
        /// Its size.
        mib: u64,
        /// What the user can do.
        hint: &'static str,
        /// The host's error.
        source: io::Error,
    },
    /// All of it is to be faulted in, and the host has less.
    #[error(
        "guest memory of {mib} MiB is to be faulted in (memory.prefault), and the host has {available} MiB \
         available, swap included: give the guest less memory, or no prefault"
    )]
    Prefault {
        /// Its size.
        mib: u64,
        /// What the host has.
        available: u64,
    },
    /// The mapping was refused.
    #[error("mapping {mib} MiB of guest memory{hint}: {source}")]
    Map {
        /// Its size.
        mib: u64,
        /// What the user can do.
        hint: &'static str,
        /// The mapping's error.
        source: vm_memory::mmap::MmapRegionError,
    },
    /// The regions do not fit together.
    #[error("laying out guest memory: {0}")]
    Layout(#[from] vm_memory::GuestRegionCollectionError),
    /// KVM refused a region.
    #[error("giving guest memory at {address:#x} to KVM: {source}")]
    Slot {
        /// The region's first guest address.
        address: u64,
        /// KVM's error.
        source: kvm_ioctls::Error,
    },
}

const HUGE_PAGES: &str = " in huge pages of 2 MiB (are there enough in /proc/sys/vm/nr_hugepages?)";

/// Creates guest memory of `config.size` bytes, shared so that device processes can map it too.
pub fn create(config: &api::config::MemoryConfig) -> Result<GuestRam, MemoryError> {
    let mib = config.size >> 20;
    let hint = if config.hugepages { HUGE_PAGES } else { "" };
    if config.prefault && !config.hugepages {
        check_available(mib)?;
    }
    let file = memfd(config).map_err(|source| MemoryError::Create { mib, hint, source })?;
    let file = Arc::new(file);
    let low = config.size.min(LOW_MEMORY_END);
    let mut ranges = vec![(0, 0, low)];
    if config.size > low {
        ranges.push((HIGH_MEMORY, low, config.size - low));
    }
    let mut flags = libc::MAP_SHARED;
    if !config.hugepages {
        // Huge pages are reserved here and now: where there are too few, this fails, and not, with SIGBUS,
        // the first access to one that is missing.
        flags |= libc::MAP_NORESERVE;
    }
    if config.prefault {
        flags |= libc::MAP_POPULATE;
    }
    let mut regions = Vec::with_capacity(ranges.len());
    for (address, offset, size) in ranges {
        let mapping = MmapRegion::build(
            Some(FileOffset::from_arc(file.clone(), offset)),
            size as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
        )
        .map_err(|source| MemoryError::Map { mib, hint, source })?;
        // `new` fails only where the region would pass the end of the address space.
        regions.extend(GuestRegionMmap::new(mapping, GuestAddress(address)));
    }
    Ok(GuestRam::from_regions(regions)?)
}

/// The host kills a process that takes more memory than there is, and says so only in its own log. On a host
/// that does not tell what it has, nothing is refused.
fn check_available(mib: u64) -> Result<(), MemoryError> {
    let account = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available_mib(&account) {
        Some(available) if available < mib => Err(MemoryError::Prefault { mib, available }),
        _ => Ok(()),
    }
}

/// What `/proc/meminfo` says is there without harm to others, and in swap.
fn available_mib(account: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = account.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("MemAvailable:")? + kib("SwapFree:").unwrap_or(0)) >> 10)
}

/// The file of guest memory, whose size nobody changes any more: a server that has it could otherwise cut it short, and
/// an access to what is not there would end this process.
fn memfd(config: &api::config::MemoryConfig) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals};
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if config.hugepages {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    let file = File::from(rustix::fs::memfd_create("sundown-guest-memory", flags)?);
    file.set_len(config.size)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Gives every region of `memory` to KVM, as slots numbered from 0.
pub fn give_to_kvm(memory: &GuestRam, vm: &VmFd) -> Result<(), MemoryError> {
    for (slot, region) in memory.iter().enumerate() {
        let address = region.start_addr().0;
        let slot = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: address,
            memory_size: region.len(),
            userspace_addr: region.get_mmap().as_ptr() as u64,
        };
        // SAFETY: the region's mapping is kept by the machine for longer than its KVM file descriptors
        // (`Machine` holds both), and it is ordinary shared memory that the guest may change at will.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|source| MemoryError::Slot { address, source })?;
    }
    Ok(())
}

/// The 64-bit window of the PCI host bridge, above all memory: its base and size. `address_bits` is
/// the width of the guest's physical addresses.
pub fn mmio64(memory_size: u64, address_bits: u8) -> (u64, u64) {
    let end_of_memory = if memory_size > LOW_MEMORY_END {
        HIGH_MEMORY + (memory_size - LOW_MEMORY_END)
    } else {
        HIGH_MEMORY
    };
    let base = end_of_memory.next_multiple_of(1 << 30);
    let limit = 1u64 << address_bits.clamp(36, 52);
    (base, MMIO64_SIZE.min(limit.saturating_sub(base)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: u64) -> api::config::MemoryConfig {
        api::config::MemoryConfig {
            size,
            prefault: false,
            hugepages: false,
        }
    }

    #[test]
    fn memory_beyond_the_hole_is_split_around_it() {
        let memory = create(&config(6 << 30)).unwrap();
        let ranges: Vec<_> = memory.iter().map(|r| (r.start_addr().0, r.len())).collect();
        assert_eq!(
            ranges,
            [
                (0, LOW_MEMORY_END),
                (HIGH_MEMORY, (6 << 30) - LOW_MEMORY_END)
            ]
        );
    }

    #[test]
    fn more_huge_pages_than_the_host_has_are_refused() {
        // 4 TiB of them.
        let config = api::config::MemoryConfig {
            hugepages: true,
            ..config(4 << 40)
        };
        assert!(create(&config).is_err());
    }

    #[test]
    fn more_prefault_than_the_host_has_is_refused() {
        let config = api::config::MemoryConfig {
            prefault: true,
            ..config(64 << 40)
        };
        let error = create(&config).unwrap_err();
        assert!(matches!(error, MemoryError::Prefault { .. }), "{error}");
    }

    #[test]
    fn swap_counts_as_available() {
        let account = "MemTotal: 9000 kB\nMemAvailable:    4096 kB\nSwapFree:  1024 kB\n";
        assert_eq!(available_mib(account), Some(5));
        assert_eq!(available_mib("MemTotal: 9000 kB\n"), None);
    }

    #[test]
    fn regions_share_one_file_without_overlap() {
        let memory = create(&config(4 << 30)).unwrap();
        let offsets: Vec<_> = memory
            .iter()
            .map(|r| r.get_mmap().file_offset().unwrap().start())
            .collect();
        assert_eq!(offsets, [0, LOW_MEMORY_END]);
    }

    #[test]
    fn nobody_who_has_the_file_changes_its_size() {
        let memory = create(&config(64 << 20)).unwrap();
        let mapping = memory.iter().next().unwrap().get_mmap();
        let theirs = mapping.file_offset().unwrap().file().try_clone().unwrap();
        for size in [0, 1 << 20, 65 << 20] {
            let refused = theirs.set_len(size).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{size}");
        }
        // Nor does anybody keep this one from writing to it.
        let seal = rustix::fs::fcntl_add_seals(&theirs, rustix::fs::SealFlags::WRITE);
        assert_eq!(seal, Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn the_64_bit_window_lies_above_memory_and_inside_the_address_space() {
        assert_eq!(mmio64(512 << 20, 40), (HIGH_MEMORY, 64 << 30));
        let (base, size) = mmio64(60 << 30, 36);
        assert!(base >= HIGH_MEMORY + (57 << 30) && base + size <= 1 << 36);
    }
}
