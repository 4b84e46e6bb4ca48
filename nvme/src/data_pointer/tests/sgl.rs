//! Scatter gather lists as a driver makes them, and every way to get one wrong.

use zerocopy::IntoBytes;

use super::*;
use crate::spec::command::SglDescriptor;
use crate::spec::command::sgl::{DATA_BLOCK, LAST_SEGMENT, SEGMENT};

const LIST: u64 = 0x8000;

fn sgl(
    memory: &GuestMemory,
    (identifier, at, bytes): (u8, u64, u32),
    length: usize,
) -> Result<Vec<(u64, usize)>, Status> {
    let [prp1, prp2] = zerocopy::transmute!(SglDescriptor::new(identifier, at, bytes));
    let command = Submission {
        flags: 0x40,
        prp1,
        prp2,
        ..Submission::zeroed()
    };
    DataPointer::of(memory, &command, length).map(|pointer| pointer.stretches.to_vec())
}

/// Puts descriptors at `at`. Returns their length in bytes.
fn segment(memory: &GuestMemory, at: u64, descriptors: &[(u8, u64, u32)]) -> u32 {
    let raw: Vec<_> = descriptors
        .iter()
        .map(|&(identifier, at, bytes)| SglDescriptor::new(identifier, at, bytes))
        .collect();
    memory
        .write_slice(raw.as_bytes(), GuestAddress(at))
        .unwrap();
    (descriptors.len() * 16) as u32
}

#[test]
fn one_block_in_the_command_may_be_longer_than_the_data_and_not_shorter() {
    let memory = memory();
    let block = |length| sgl(&memory, (DATA_BLOCK, 0x1003, length), 512);
    assert_eq!(block(512), Ok(vec![(0x1003, 512)]));
    assert_eq!(block(u32::MAX), Ok(vec![(0x1003, 512)]));
    assert_eq!(block(511), Err(Status::DATA_SGL_LENGTH_INVALID));
    assert_eq!(block(0), Err(Status::DATA_SGL_LENGTH_INVALID));
}

#[test]
fn segments_lead_on_to_the_last_one() {
    let memory = memory();
    let last = segment(
        &memory,
        0x9010,
        &[
            (DATA_BLOCK, 0x5000, 0),
            (DATA_BLOCK, 0x6000, 100),
            (DATA_BLOCK, 0, 9),
        ],
    );
    let second = segment(
        &memory,
        LIST,
        &[
            (DATA_BLOCK, 0x2001, 7),
            (DATA_BLOCK, 0x2008, 93),
            (LAST_SEGMENT, 0x9010, last),
        ],
    );
    assert_eq!(
        sgl(&memory, (SEGMENT, LIST, second), 200),
        Ok(vec![(0x2001, 100), (0x6000, 100)])
    );
    assert_eq!(
        sgl(&memory, (SEGMENT, LIST, second), 100),
        Ok(vec![(0x2001, 100)])
    );
    assert_eq!(
        sgl(&memory, (SEGMENT, LIST, second), 210),
        Err(Status::DATA_SGL_LENGTH_INVALID)
    );
}

#[test]
fn a_long_list_is_read_in_pieces() {
    let memory = memory();
    let blocks: Vec<_> = (0..1000)
        .map(|index| (DATA_BLOCK, 0x10_0000 + index * 1024, 512))
        .collect();
    let length = segment(&memory, 0x7FF0, &blocks);
    let found = sgl(&memory, (LAST_SEGMENT, 0x7FF0, length), 512_000).unwrap();
    assert_eq!(found.len(), 1000);
    assert_eq!(found[999], (0x10_0000 + 999 * 1024, 512));
}

#[test]
fn every_wrong_descriptor_has_its_status() {
    let memory = memory();
    for identifier in [0x01, 0x0F, 0x10, 0x21, 0x3F, 0x40, 0x5A, 0xF0] {
        let found = sgl(&memory, (identifier, 0x1000, 512), 512);
        assert_eq!(found, Err(Status::SGL_TYPE_INVALID), "{identifier:#x}");
    }
    for length in [0, 8, 17] {
        for kind in [SEGMENT, LAST_SEGMENT] {
            let found = sgl(&memory, (kind, LIST, length), 512);
            assert_eq!(found, Err(Status::INVALID_SGL_SEGMENT), "{length}");
        }
    }
    let wrong = |first: u8, descriptors: &[(u8, u64, u32)], status| {
        let length = segment(&memory, LIST, descriptors);
        let found = sgl(&memory, (first, LIST, length), 512);
        assert_eq!(found, Err(status), "{descriptors:?}");
    };
    let block = (DATA_BLOCK, 0x1000, 8);
    // A segment that is no last one and leads nowhere; one in the middle; one in the last segment.
    wrong(SEGMENT, &[block], Status::INVALID_SGL_SEGMENT);
    wrong(
        SEGMENT,
        &[(LAST_SEGMENT, 0x9000, 16), block],
        Status::INVALID_SGL_COUNT,
    );
    wrong(
        LAST_SEGMENT,
        &[block, (LAST_SEGMENT, 0x9000, 16)],
        Status::INVALID_SGL_SEGMENT,
    );
    // Neither data nor segments outside memory.
    let outside = Err(Status::DATA_TRANSFER_ERROR);
    assert_eq!(sgl(&memory, (DATA_BLOCK, MEMORY, 512), 512), outside);
    assert_eq!(sgl(&memory, (DATA_BLOCK, u64::MAX - 3, 512), 512), outside);
    assert_eq!(sgl(&memory, (SEGMENT, MEMORY - 8, 16), 512), outside);
    assert_eq!(sgl(&memory, (SEGMENT, u64::MAX, 0xFFFF_FFF0), 512), outside);
}

#[test]
fn a_list_that_leads_back_to_itself_without_data_ends() {
    let memory = memory();
    let length = segment(&memory, LIST, &[(DATA_BLOCK, 0, 0), (SEGMENT, LIST, 32)]);
    let found = sgl(&memory, (SEGMENT, LIST, length), 512);
    assert_eq!(found, Err(Status::INVALID_SGL_COUNT));
    let found = sgl(&memory, (LAST_SEGMENT, 0x10_0000, 0xFFFF_FFF0), 512);
    assert_eq!(found, Err(Status::INVALID_SGL_COUNT));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_list_is_followed_to_exactly_its_length_or_refused(
        length in 1_usize..(1 << 20),
        lists in proptest::collection::vec(
            (prop_oneof![4 => Just(DATA_BLOCK), 1 => Just(SEGMENT), 1 => Just(LAST_SEGMENT), 1 => any::<u8>()],
             prop_oneof![0..MEMORY, Just(LIST), any::<u64>()],
             prop_oneof![0_u32..64, (0_u32..256).prop_map(|count| count * 16), any::<u32>()]), 1..600),
    ) {
        let memory = memory();
        segment(&memory, LIST, &lists);
        if let Ok(stretches) = sgl(&memory, (SEGMENT, LIST, lists.len() as u32 * 16), length) {
            prop_assert_eq!(stretches.iter().map(|stretch| stretch.1).sum::<usize>(), length);
            for (at, bytes) in stretches {
                prop_assert!(at + bytes as u64 <= MEMORY);
            }
        }
    }
}
