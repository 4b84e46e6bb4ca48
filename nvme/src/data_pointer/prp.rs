//! Physical region pages (base 2.0, section 4.1.1).

use devices::memory::MemoryMap;
use vm_memory::GuestAddress;

use super::DataPointer;
use crate::spec::{PAGE, Status, Submission};

/// Entries of a full page of a PRP list.
const LIST_ENTRIES: usize = (PAGE / 8) as usize;

impl DataPointer {
    pub(super) fn follow_prp(
        &mut self,
        memory: &MemoryMap,
        command: &Submission,
        length: usize,
    ) -> Result<(), Status> {
        let (first, second) = (command.prp1, command.prp2);
        if !first.is_multiple_of(4) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let page = PAGE as usize;
        let in_first = length.min(page - (first % PAGE) as usize);
        self.push(first, in_first);
        let left = length - in_first;
        if left > page {
            return self.follow_list(memory, second, left);
        }
        if left > 0 {
            if !second.is_multiple_of(PAGE) {
                return Err(Status::PRP_OFFSET_INVALID);
            }
            self.push(second, left);
        }
        Ok(())
    }

    /// The first list may begin within its page, the following ones begin theirs: that also bounds the
    /// walk, as every list but the first moves it on.
    fn follow_list(
        &mut self,
        memory: &MemoryMap,
        list: u64,
        mut left: usize,
    ) -> Result<(), Status> {
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let page = PAGE as usize;
        let mut at = list;
        loop {
            let wanted = left.div_ceil(page);
            let fit = LIST_ENTRIES - (at % PAGE / 8) as usize;
            let count = wanted.min(fit);
            let mut raw = [0; PAGE as usize];
            let raw = &mut raw[..count * 8];
            memory
                .read_slice(raw, GuestAddress(at))
                .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            let (entries, _) = raw.as_chunks::<8>();
            // The last entry of a full page leads on where one entry is not enough.
            let chained = wanted > fit;
            let data = &entries[..count - usize::from(chained)];
            for entry in data {
                let entry = u64::from_le_bytes(*entry);
                if !entry.is_multiple_of(PAGE) {
                    return Err(Status::PRP_OFFSET_INVALID);
                }
                let bytes = left.min(page);
                self.push(entry, bytes);
                left -= bytes;
            }
            match entries.last() {
                Some(next) if chained => at = u64::from_le_bytes(*next),
                _ => return Ok(()),
            }
            if !at.is_multiple_of(PAGE) {
                return Err(Status::PRP_OFFSET_INVALID);
            }
        }
    }
}
