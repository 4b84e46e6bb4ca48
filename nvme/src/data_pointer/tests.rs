//! PRP entries and lists as a driver lays them out, and as none should.

mod sgl;

use super::*;
use crate::spec::PAGE;
use proptest::prelude::*;

const MEMORY: u64 = 16 << 20;

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
}

fn follow(
    memory: &GuestMemory,
    prp1: u64,
    prp2: u64,
    length: usize,
) -> Result<Vec<(u64, usize)>, Status> {
    let command = Submission {
        prp1,
        prp2,
        ..Submission::zeroed()
    };
    DataPointer::of(memory, &command, length).map(|pointer| pointer.stretches.to_vec())
}

fn list(memory: &GuestMemory, at: u64, entries: &[u64]) {
    for (index, entry) in (0..).zip(entries) {
        memory
            .write_slice(&entry.to_le_bytes(), GuestAddress(at + index * 8))
            .unwrap();
    }
}

#[test]
fn one_and_two_entries() {
    let memory = memory();
    assert_eq!(follow(&memory, 0x1000, 0, 512), Ok(vec![(0x1000, 512)]));
    assert_eq!(follow(&memory, 0x1E00, 0, 512), Ok(vec![(0x1E00, 512)]));
    assert_eq!(
        follow(&memory, 0x1E00, 0x5000, 4096),
        Ok(vec![(0x1E00, 512), (0x5000, 3584)])
    );
    assert_eq!(
        follow(&memory, 0x1000, 0x2000, 8192),
        Ok(vec![(0x1000, 8192)])
    );
}

#[test]
fn lists_that_begin_within_a_page_and_chain() {
    let memory = memory();
    list(&memory, 0x8FF0, &[0x20000, 0x9000]);
    list(&memory, 0x9000, &[0x30000, 0x40000]);
    assert_eq!(
        follow(&memory, 0x1000, 0x8FF0, 4 * 4096),
        Ok(vec![
            (0x1000, 4096),
            (0x20000, 4096),
            (0x30000, 4096),
            (0x40000, 4096)
        ])
    );
    // Exactly one entry left in the page and one wanted: no chain.
    list(&memory, 0x8FF0, &[0x20000, 0x30000]);
    assert_eq!(
        follow(&memory, 0x1000, 0x8FF0, 3 * 4096),
        Ok(vec![(0x1000, 4096), (0x20000, 4096), (0x30000, 4096)])
    );
}

#[test]
fn offsets_and_addresses_are_checked() {
    let memory = memory();
    let invalid = Err(Status::PRP_OFFSET_INVALID);
    assert_eq!(follow(&memory, 0x1001, 0, 512), invalid);
    assert_eq!(follow(&memory, 0x1000, 0x2004, 8192), invalid);
    assert_eq!(follow(&memory, 0x1000, 0x2004, 3 * 4096), invalid);
    list(&memory, 0x8000, &[0x20000, 0x30004]);
    assert_eq!(follow(&memory, 0x1000, 0x8000, 3 * 4096), invalid);
    let outside = Err(Status::DATA_TRANSFER_ERROR);
    assert_eq!(follow(&memory, MEMORY, 0, 512), outside);
    assert_eq!(follow(&memory, u64::MAX - 3, 0, 4), outside);
    assert_eq!(follow(&memory, 0x1000, MEMORY, 3 * 4096), outside);
    list(&memory, 0x8000, &[0x20000, MEMORY]);
    assert_eq!(follow(&memory, 0x1000, 0x8000, 3 * 4096), outside);
}

#[test]
fn a_list_that_leads_back_to_itself_ends() {
    let memory = memory();
    list(&memory, 0x8FF8, &[0x8FF8]);
    assert_eq!(
        follow(&memory, 0x1000, 0x8FF8, 1 << 20),
        Err(Status::PRP_OFFSET_INVALID)
    );
    list(&memory, 0x8000, &[0x8000; 512]);
    assert!(follow(&memory, 0x1000, 0x8000, 4 << 20).is_ok());
}

proptest! {
    #[test]
    fn any_entries_are_followed_to_exactly_their_length_or_refused(
        prp1 in any::<u64>(), prp2 in any::<u64>(), narrow in any::<bool>(),
        length in 1_usize..(1 << 20), words in proptest::collection::vec(any::<u64>(), 512),
    ) {
        let memory = memory();
        let clip = |value: u64| if narrow { (value % MEMORY) & !0xF } else { value };
        let words: Vec<_> = words.into_iter().map(|word| clip(word) & !0xFFF).collect();
        let second = clip(prp2) & !0x7;
        if second.checked_add(PAGE).is_some_and(|end| end < MEMORY) {
            list(&memory, second, &words);
        }
        if let Ok(stretches) = follow(&memory, clip(prp1), second, length) {
            prop_assert_eq!(stretches.iter().map(|stretch| stretch.1).sum::<usize>(), length);
            for (at, bytes) in stretches {
                prop_assert!(at + bytes as u64 <= MEMORY);
            }
        }
    }
}
