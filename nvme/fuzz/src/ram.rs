//! The guest's memory, with something on both sides of every region that tells who went too far: either pages
//! that nobody may touch, or pages full of marks, which the kernel could touch as well.
//!
//! Reserved once for the process and never given back: a call of the drive that comes too late must find the
//! marks, not somebody else's memory.
#![allow(
    unsafe_code,
    reason = "the memory is played by a guest: mapped, protected and shared by hand"
)]

use std::io;

use devices::memory::{GuestMemory, Permissions, Region};
use vm_memory::{MmapRegion, VolatileSlice};

/// Bytes on each side of a region.
const MARGIN: usize = 64 << 10;
/// What marks are: no data that a guest or a drive comes to by itself.
const MARK: u64 = 0xD15C_0BAD_5EED_FA11;

/// A region's place in the guest's and in the host's memory.
struct Part {
    start: u64,
    size: usize,
    /// From the beginning of the reservation.
    offset: usize,
    permissions: Permissions,
}

/// See the module's header.
pub struct Ram {
    base: *mut u8,
    length: usize,
    parts: Vec<Part>,
}

// SAFETY: the mapping is never given back, and it is accessed as guest memory is: by volatile copies.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// What is on both sides of the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Margins {
    /// Marks, to find what writes there and to find them where they do not belong.
    Marked,
    /// Nothing: an access ends the process.
    Forbidden,
}

impl Ram {
    /// Reserves memory for regions of these addresses, sizes (multiples of 64 KiB) and permissions.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(regions: &[(u64, usize, Permissions)]) -> io::Result<Self> {
        let mut offset = MARGIN;
        let mut parts = Vec::new();
        for (start, size, permissions) in regions {
            parts.push(Part {
                start: *start,
                size: *size,
                offset,
                permissions: *permissions,
            });
            offset += size + MARGIN;
        }
        // SAFETY: a new mapping, anywhere.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                offset,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ram = Self {
            base: base.cast(),
            length: offset,
            parts,
        };
        for (at, bytes) in ram.margins() {
            let marks = MARK.to_le_bytes().repeat(bytes / 8);
            ram.host(at, bytes).copy_from(&marks);
        }
        Ok(ram)
    }

    /// Bytes that the host has mapped at `offset` of the reservation.
    fn host(&self, offset: usize, bytes: usize) -> VolatileSlice<'_> {
        assert!(offset + bytes <= self.length, "outside the reservation");
        // SAFETY: inside the mapping, which stays for ever.
        unsafe { VolatileSlice::new(self.base.add(offset), bytes) }
    }

    fn margins(&self) -> Vec<(usize, usize)> {
        let ends = self.parts.iter().map(|part| part.offset + part.size);
        (std::iter::once(0).chain(ends))
            .map(|at| (at, MARGIN))
            .collect()
    }

    fn protect(&self, offset: usize, bytes: usize, protection: i32) {
        assert!(offset + bytes <= self.length, "outside the reservation");
        // SAFETY: inside the mapping; whoever is not supposed to access it is to be found out.
        let done = unsafe { libc::mprotect(self.base.add(offset).cast(), bytes, protection) };
        assert_eq!(done, 0, "mprotect: {}", io::Error::last_os_error());
    }

    /// Zeroes everywhere, and these margins.
    pub fn begin(&self, margins: Margins) {
        for part in &self.parts {
            self.protect(part.offset, part.size, libc::PROT_READ | libc::PROT_WRITE);
            self.host(part.offset, part.size)
                .copy_from(&vec![0_u8; part.size]);
        }
        let protection = match margins {
            Margins::Marked => libc::PROT_READ | libc::PROT_WRITE,
            Margins::Forbidden => libc::PROT_NONE,
        };
        for (at, bytes) in self.margins() {
            self.protect(at, bytes, protection);
        }
    }

    /// Stops the process where somebody wrote outside of the regions.
    ///
    /// # Panics
    /// Where somebody did.
    pub fn check_margins(&self) {
        for (at, bytes) in self.margins() {
            self.protect(at, bytes, libc::PROT_READ | libc::PROT_WRITE);
            let mut found = vec![0_u8; bytes];
            self.host(at, bytes).copy_to(&mut found);
            let marks = MARK.to_le_bytes().repeat(bytes / 8);
            assert!(
                found == marks,
                "written outside guest memory, behind {at:#x}"
            );
        }
    }

    /// The guest's memory as a device is given it, of all regions.
    ///
    /// # Panics
    /// Where the regions do not fit together.
    pub fn memory(&self) -> GuestMemory {
        let memory = GuestMemory::default();
        for number in 0..self.parts.len() {
            if let Err(error) = memory.add(self.region(number)) {
                panic!("{error}");
            }
        }
        memory
    }

    /// The region of this number, for a device.
    ///
    /// # Panics
    /// Where it does not fit into the address space.
    pub fn region(&self, number: usize) -> Region {
        let part = &self.parts[number];
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: inside the mapping, which stays for ever.
        let mapping = unsafe {
            let at = self.base.add(part.offset);
            MmapRegion::build_raw(at, part.size, libc::PROT_READ | libc::PROT_WRITE, flags)
        };
        let region = mapping
            .ok()
            .and_then(|mapping| Region::mapped(part.start, mapping, part.permissions));
        match region {
            Some(region) => region,
            None => panic!("no region at {:#x}", part.start),
        }
    }

    /// Allows or forbids the host itself to touch a region: nobody does that has been removed.
    pub fn forbid(&self, number: usize, forbidden: bool) {
        let part = &self.parts[number];
        let protection = match forbidden {
            true => libc::PROT_NONE,
            false => libc::PROT_READ | libc::PROT_WRITE,
        };
        self.protect(part.offset, part.size, protection);
    }

    /// The bytes at a guest address, as many of `bytes` as are in its region; none where there is no region.
    pub fn at(&self, address: u64, bytes: usize) -> Option<(usize, VolatileSlice<'_>)> {
        let holds = |part: &&Part| {
            (part.start..part.start.saturating_add(part.size as u64)).contains(&address)
        };
        let number = self.parts.iter().position(|part| holds(&part))?;
        let part = &self.parts[number];
        let skip = (address - part.start) as usize;
        let bytes = bytes.min(part.size - skip);
        Some((number, self.host(part.offset + skip, bytes)))
    }

    /// All of the first `regions` regions.
    pub fn image(&self, regions: usize) -> Vec<u8> {
        let mut image = Vec::new();
        for part in &self.parts[..regions] {
            let from = image.len();
            image.resize(from + part.size, 0);
            self.host(part.offset, part.size)
                .copy_to(&mut image[from..]);
        }
        image
    }
}

/// Whether marks of the margins are among `data`, which guests move by multiples of four bytes.
pub fn has_marks(data: &[u8]) -> bool {
    let mut words = data.windows(8).step_by(4);
    words.any(|word| word == MARK.to_le_bytes())
}
