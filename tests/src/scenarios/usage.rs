//! What a process holds of its host: descriptors, threads, mappings, resident memory beside the guest's.

use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// The name of guest memory among a process's mappings.
const GUEST_MEMORY: &str = "sundown-guest-memory";

/// A count at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    /// Of files, rings, vCPUs, guest memory: of all that has a name.
    pub(super) mappings: usize,
    /// Of the allocator and of threads' stacks.
    pub(super) anonymous: usize,
    /// Resident memory without the guest's, in KiB.
    pub(super) resident_kib: u64,
    /// Memory that is locked or pinned for devices, in KiB.
    pub(super) locked_kib: u64,
}

impl Usage {
    /// Counts what process `pid` holds.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}");
        let entries = |name: &str| {
            let path = format!("{folder}/{name}");
            fs::read_dir(&path)
                .map(Iterator::count)
                .with_context(|| format!("could not read {path}"))
        };
        let path = format!("{folder}/smaps");
        let smaps = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        let found = read_smaps(&smaps);
        let path = format!("{folder}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
        Ok(Self {
            locked_kib: locked_kib(&status),
            descriptors: entries("fd")?,
            threads: entries("task")?,
            ..found
        })
    }
}

impl Usage {
    /// What process `pid` holds all the time: the least of each count over a second. A teardown's workers
    /// come and go.
    pub(super) fn lasting(pid: u32) -> Result<Self> {
        let mut least = Self::of(pid)?;
        for _ in 0..20 {
            sleep(Duration::from_millis(50));
            let now = Self::of(pid)?;
            least = Self {
                descriptors: least.descriptors.min(now.descriptors),
                threads: least.threads.min(now.threads),
                mappings: least.mappings.min(now.mappings),
                anonymous: least.anonymous.min(now.anonymous),
                resident_kib: least.resident_kib.min(now.resident_kib),
                locked_kib: least.locked_kib.min(now.locked_kib),
            };
        }
        Ok(least)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} mappings and {} without a name, {} KiB resident, {} KiB locked",
            self.descriptors,
            self.threads,
            self.mappings,
            self.anonymous,
            self.resident_kib,
            self.locked_kib
        )
    }
}

/// What `/proc/PID/status` says of memory that is locked for devices: a VFIO container counts as one, an iommufd
/// as the other.
fn locked_kib(status: &str) -> u64 {
    let amounts = status.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        matches!(key, "VmLck" | "VmPin").then_some(())?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    });
    amounts.sum()
}

/// Mappings, and the resident KiB of all but guest memory. A mapping's line is its addresses, permissions,
/// offset, device, inode, and the name if it has one.
fn read_smaps(smaps: &str) -> Usage {
    let mut usage = Usage::default();
    let mut guest = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            let named = words.nth(4).is_some_and(|name| name != "[heap]");
            *if named {
                &mut usage.mappings
            } else {
                &mut usage.anonymous
            } += 1;
            guest = line.contains(GUEST_MEMORY);
        } else if first == "Rss:" && !guest {
            let amount = words.next().unwrap_or_default();
            usage.resident_kib += amount.parse::<u64>().unwrap_or(0);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::{locked_kib, read_smaps};

    #[test]
    fn guest_memory_is_a_mapping_but_not_ours() {
        let smaps = "\
            7f00-7f10 rw-s 00000000 00:01 7 /memfd:sundown-guest-memory (deleted)\n\
            Rss:                4096 kB\n\
            VmFlags: rd wr\n\
            7f20-7f30 rw-p 00000000 00:00 0\n\
            Size:                 64 kB\n\
            Rss:                  12 kB\n\
            7f40-7f50 rw-p 00000000 00:00 0 [heap]\n\
            Rss:                   4 kB\n";
        let usage = read_smaps(smaps);
        assert_eq!((usage.mappings, usage.anonymous), (1, 2));
        assert_eq!(usage.resident_kib, 16);
    }

    #[test]
    fn memory_is_locked_by_containers_and_pinned_by_iommufd() {
        assert_eq!(
            locked_kib("VmPeak: 9 kB\nVmLck:\t  40 kB\nVmPin:\t 2 kB\n"),
            42
        );
    }
}
