//! Structures of variable length, as VFIO has them: their size first, what may come after in a chain of capabilities.

use std::ops::Range;

/// Capabilities of one structure: more than the kernel has kinds of, so that a chain that bites its tail ends.
const MAX_CAPABILITIES: usize = 64;

/// The bytes of a structure that begins with its own size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(Vec<u8>);

impl Record {
    /// One of `size` bytes, at least 4, all 0 but for its size.
    pub fn new(size: usize) -> Self {
        let mut bytes = vec![0; size.max(4)];
        let argsz = bytes.len() as u32;
        bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
        Self(bytes)
    }

    /// What it says its size is: more than it has where the kernel has more to say.
    pub fn claimed_size(&self) -> usize {
        self.u32_at(0) as usize
    }

    /// The bytes that it has.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same, to be written to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The 16 bits at `offset`; 0 beyond its end.
    pub fn u16_at(&self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.array_at(offset))
    }

    /// The 32 bits at `offset`; 0 beyond its end.
    pub fn u32_at(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array_at(offset))
    }

    /// The 64 bits at `offset`; 0 beyond its end.
    pub fn u64_at(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.array_at(offset))
    }

    /// Writes 32 bits at `offset`. Nothing is written beyond its end.
    pub fn set_u32(&mut self, offset: usize, value: u32) {
        if let Some(place) = self.0.get_mut(offset..offset + 4) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// Writes 64 bits at `offset`. Nothing is written beyond its end.
    pub fn set_u64(&mut self, offset: usize, value: u64) {
        if let Some(place) = self.0.get_mut(offset..offset + 8) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// Where capability `id` is, header included, in the chain that begins at offset `first`; it ends where the
    /// structure does.
    pub fn capability(&self, first: u32, id: u32) -> Option<Range<usize>> {
        let mut offset = first as usize;
        for _ in 0..MAX_CAPABILITIES {
            // `vfio_info_cap_header`: 16 bits of number, 16 of version, 32 that lead to the next one.
            if offset == 0 || offset + 8 > self.0.len() {
                return None;
            }
            if u32::from(self.u16_at(offset)) == id {
                return Some(offset..self.0.len());
            }
            offset = self.u32_at(offset + 4) as usize;
        }
        None
    }

    fn array_at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut array = [0; N];
        if let Some(bytes) = offset
            .checked_add(N)
            .and_then(|end| self.0.get(offset..end))
        {
            array.copy_from_slice(bytes);
        }
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_found_along_the_chain() {
        let mut record = Record::new(64);
        // Number 1 at 16, then number 3 at 40.
        record.set_u32(16, 1);
        record.set_u32(20, 40);
        record.set_u32(40, 3);
        assert_eq!(record.capability(16, 3), Some(40..64));
        assert_eq!(record.capability(16, 1), Some(16..64));
        assert_eq!(record.capability(16, 2), None);
        assert_eq!(record.capability(0, 1), None);
    }

    #[test]
    fn a_chain_without_end_or_beyond_the_end_has_no_capability() {
        let mut record = Record::new(32);
        record.set_u32(8, 1);
        record.set_u32(12, 8);
        assert_eq!(record.capability(8, 2), None);
        record.set_u32(12, 0xFFFF_FFF0);
        assert_eq!(record.capability(8, 2), None);
        assert_eq!(record.capability(28, 2), None);
    }

    #[test]
    fn what_lies_beyond_the_end_reads_as_0() {
        let mut record = Record::new(8);
        record.set_u64(4, u64::MAX);
        assert_eq!(record.bytes(), [8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((record.u32_at(6), record.u64_at(usize::MAX)), (0, 0));
        assert_eq!(record.claimed_size(), 8);
    }
}
