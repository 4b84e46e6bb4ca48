//! What a process holds of its host: descriptors, threads, mappings, resident memory beside the guest's.

use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

/// The name of guest memory among a process's mappings.
const GUEST_MEMORY: &str = "sundown-guest-memory";

/// A count at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    pub(super) mappings: usize,
    /// Resident memory without the guest's, in KiB.
    pub(super) resident_kib: u64,
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
        let (mappings, resident_kib) = read_smaps(&smaps);
        Ok(Self {
            descriptors: entries("fd")?,
            threads: entries("task")?,
            mappings,
            resident_kib,
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
                resident_kib: least.resident_kib.min(now.resident_kib),
            };
        }
        Ok(least)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} mappings, {} KiB resident",
            self.descriptors, self.threads, self.mappings, self.resident_kib
        )
    }
}

/// The number of mappings, and the resident KiB of all but guest memory.
fn read_smaps(smaps: &str) -> (usize, u64) {
    let (mut mappings, mut resident, mut guest) = (0, 0, false);
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            mappings += 1;
            guest = line.contains(GUEST_MEMORY);
        } else if first == "Rss:" && !guest {
            let amount = line.split_whitespace().nth(1).unwrap_or_default();
            resident += amount.parse::<u64>().unwrap_or(0);
        }
    }
    (mappings, resident)
}

#[cfg(test)]
mod tests {
    use super::read_smaps;

    #[test]
    fn guest_memory_is_a_mapping_but_not_ours() {
        let smaps = "\
            7f00-7f10 rw-s 00000000 00:01 7 /memfd:sundown-guest-memory (deleted)\n\
            Rss:                4096 kB\n\
            VmFlags: rd wr\n\
            7f20-7f30 rw-p 00000000 00:00 0\n\
            Size:                 64 kB\n\
            Rss:                  12 kB\n";
        assert_eq!(read_smaps(smaps), (2, 12));
    }
}
