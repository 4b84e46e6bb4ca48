//! Commands whose data lies by scatter gather lists, to memory and through a ring.

use std::sync::Arc;

use tempfile::NamedTempFile;
use zerocopy::IntoBytes;

use super::driver::{DATA, DISK, Guest, config, refused, transfer};
use super::io::pattern;
use crate::spec::command::sgl::{DATA_BLOCK, LAST_SEGMENT, SEGMENT};
use crate::spec::command::{SglDescriptor, admin, io};
use crate::spec::identify::Controller;
use crate::spec::{Status, Submission};
use crate::{Backend, FileBackend, MemoryBackend};

/// The command with this descriptor for its data pointer.
fn with_sgl(command: Submission, descriptor: SglDescriptor) -> Submission {
    let [prp1, prp2] = zerocopy::transmute!(descriptor);
    Submission {
        flags: 0x40,
        prp1,
        prp2,
        ..command
    }
}

/// 16 blocks in 1300 pieces of odd lengths at odd places, in two segments. Returns the first descriptor.
fn odd_list(guest: &Guest) -> (SglDescriptor, Vec<(u64, usize)>) {
    let mut places = Vec::new();
    let mut left = 16 * 512;
    while left > 0 {
        let bytes = left.min(5 + places.len() % 3);
        places.push((DATA + places.len() as u64 * 16 + 1, bytes));
        left -= bytes;
    }
    let block = |&(at, bytes): &(u64, usize)| SglDescriptor::new(DATA_BLOCK, at, bytes as u32);
    let mut descriptors: Vec<_> = places.iter().map(block).collect();
    let rest = descriptors.split_off(100);
    let length = (rest.len() * 16) as u32;
    descriptors.push(SglDescriptor::new(LAST_SEGMENT, 0x70_0008, length));
    guest.fill(0x70_0008, rest.as_bytes());
    guest.fill(0x60_0000, descriptors.as_bytes());
    let first = SglDescriptor::new(SEGMENT, 0x60_0000, 101 * 16);
    (first, places)
}

#[test]
fn data_in_more_pieces_than_the_host_takes_at_a_time_keeps_its_order() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let backends: [Arc<dyn Backend>; 2] = [
        Arc::new(MemoryBackend::new(DISK)),
        Arc::new(FileBackend::open(file.path(), false).unwrap()),
    ];
    for backend in backends {
        let mut guest = Guest::up_with(config(vec![backend]));
        let data = pattern(16 * 512, 4);
        let (first, places) = odd_list(&guest);
        assert!(places.len() > 1024);
        let mut rest = &data[..];
        for &(at, bytes) in &places {
            let (now, later) = rest.split_at(bytes);
            guest.fill(at, now);
            rest = later;
        }
        let write = transfer(io::WRITE, 3, 16, 0, 0);
        guest.run(1, with_sgl(write, first)).unwrap();
        for &(at, _) in &places {
            guest.fill(at - 1, &[0xEE; 16]);
        }
        let read = transfer(io::READ, 3, 16, 0, 0);
        guest.run(1, with_sgl(read, first)).unwrap();
        let found: Vec<u8> = places
            .iter()
            .flat_map(|&(at, bytes)| guest.bytes(at, bytes))
            .collect();
        assert_eq!(found, data);
        assert_eq!(guest.bytes(places[0].0 - 1, 1), [0xEE], "nothing beside it");
    }
}

#[test]
fn bad_lists_fail_their_command_alone() {
    let mut guest = Guest::up();
    let read = transfer(io::READ, 0, 1, 0, 0);
    let of = |identifier, at, length| with_sgl(read, SglDescriptor::new(identifier, at, length));
    let cases = [
        (of(DATA_BLOCK, DATA, 511), Status::DATA_SGL_LENGTH_INVALID),
        (of(0x10, DATA, 512), Status::SGL_TYPE_INVALID),
        (of(SEGMENT, DATA, 15), Status::INVALID_SGL_SEGMENT),
        (of(DATA_BLOCK, 1 << 40, 512), Status::DATA_TRANSFER_ERROR),
    ];
    for (command, status) in cases {
        assert_eq!(guest.run(1, command), refused(status), "{command:?}");
    }
    for flags in [0x40, 0x80] {
        let good = of(DATA_BLOCK, DATA + 3, 512);
        guest.run(1, Submission { flags, ..good }).unwrap();
    }
}

#[test]
fn identify_claims_what_there_is_and_admin_commands_use_prp() {
    let mut guest = Guest::up();
    guest.admin_ok(transfer(admin::IDENTIFY, 1, 1, DATA, 0));
    let found = guest.bytes(DATA, 4096);
    let found: Controller = zerocopy::FromBytes::read_from_bytes(&found).unwrap();
    // Data blocks of any alignment, and lists longer than the data.
    assert_eq!({ found.sgls }, 1 | 1 << 18);
    let identify = transfer(admin::IDENTIFY, 1, 1, 0, 0);
    let by_sgl = with_sgl(identify, SglDescriptor::new(DATA_BLOCK, DATA, 4096));
    assert_eq!(guest.admin(by_sgl), refused(Status::INVALID_FIELD));
}
