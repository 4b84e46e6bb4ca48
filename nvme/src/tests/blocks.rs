//! Commands on blocks beside Read and Write: Compare, Verify, Copy, Write Uncorrectable.

use zerocopy::IntoBytes;

use super::backend::TestBackend;
use super::commands::{identify, log_page, page};
use super::driver::{DATA, DISK, Guest, config, refused, transfer};
use crate::faults::{FaultSet, MediaFault};
use crate::spec::command::io;
use crate::spec::identify::{self, cns};
use crate::spec::log::{self, ErrorEntry, Smart};
use crate::spec::{CopyRange, Status, Submission};

fn write(guest: &mut Guest, block: u64, blocks: u32, byte: u8) {
    guest.fill(DATA, &vec![byte; blocks as usize * 512]);
    guest
        .run(1, transfer(io::WRITE, block, blocks, DATA, DATA + 4096))
        .unwrap();
}

fn read(guest: &mut Guest, block: u64) -> Result<Vec<u8>, u16> {
    guest.run(1, transfer(io::READ, block, 1, DATA, 0))?;
    Ok(guest.bytes(DATA, 512))
}

#[test]
fn compare_tells_equal_from_different() {
    let mut guest = Guest::up();
    write(&mut guest, 4, 2, 7);
    let compare = transfer(io::COMPARE, 4, 2, DATA, 0);
    assert_eq!(guest.run(1, compare), Ok(0));
    guest.fill(DATA + 1023, &[8]);
    assert_eq!(guest.run(1, compare), refused(Status::COMPARE_FAILURE));
    let beyond = transfer(io::COMPARE, DISK / 512, 1, DATA, 0);
    assert_eq!(guest.run(1, beyond), refused(Status::LBA_OUT_OF_RANGE));
    let smart: Smart = page(&mut guest, log_page(log::id::SMART, 512));
    let (media, reads) = (smart.media_errors, smart.read_commands);
    assert_eq!(
        (media, reads),
        (0, 2),
        "a difference is no error of the media"
    );
}

#[test]
fn what_was_made_unreadable_is_so_until_it_is_written() {
    let mut guest = Guest::up();
    write(&mut guest, 0, 8, 1);
    let mark = transfer(io::WRITE_UNCORRECTABLE, 2, 3, 0, 0);
    guest.run(1, mark).unwrap();
    let lost = Err(Status::UNRECOVERED_READ_ERROR.bits());
    assert_eq!(read(&mut guest, 1), Ok(vec![1; 512]));
    assert_eq!(read(&mut guest, 2), lost);
    let verify = |block, blocks| transfer(io::VERIFY, block, blocks, 0, 0);
    assert_eq!(guest.run(1, verify(0, 2)), Ok(0));
    let whole = guest.run(1, verify(0, 8));
    assert_eq!(whole, refused(Status::UNRECOVERED_READ_ERROR));
    let errors: [ErrorEntry; 1] = page(&mut guest, log_page(log::id::ERRORS, 64));
    assert_eq!(
        (errors[0].lba, errors[0].nsid),
        (2, 1),
        "the first block in error"
    );
    let compare = guest.run(1, transfer(io::COMPARE, 4, 1, DATA, 0));
    assert_eq!(compare, refused(Status::UNRECOVERED_READ_ERROR));
    write(&mut guest, 3, 1, 9);
    assert_eq!(read(&mut guest, 2), lost);
    assert_eq!(read(&mut guest, 3), Ok(vec![9; 512]));
    assert_eq!(read(&mut guest, 4), lost);
    guest
        .run(1, transfer(io::WRITE_ZEROES, 2, 3, 0, 0))
        .unwrap();
    assert_eq!(guest.run(1, verify(0, 8)), Ok(0));
    let beyond = transfer(io::WRITE_UNCORRECTABLE, DISK / 512 - 1, 2, 0, 0);
    assert_eq!(guest.run(1, beyond), refused(Status::LBA_OUT_OF_RANGE));
}

fn copy(guest: &Guest, ranges: &[CopyRange], to: u64) -> Submission {
    guest.fill(DATA, ranges.as_bytes());
    transfer(io::COPY, to, ranges.len() as u32, DATA, DATA + 4096)
}

#[test]
fn copy_gathers_ranges_also_from_under_itself() {
    let mut guest = Guest::up();
    for block in 0..8 {
        write(&mut guest, block, 1, block as u8 + 1);
    }
    let ranges = [CopyRange::new(6, 2), CopyRange::new(0, 3)];
    let command = copy(&guest, &ranges, 1);
    guest.run(1, command).unwrap();
    let found = [(); 8].map(|()| 0);
    let found: Vec<_> = (0..found.len() as u64)
        .map(|block| read(&mut guest, block).unwrap()[0])
        .collect();
    assert_eq!(found, [1, 7, 8, 1, 2, 3, 7, 8]);
}

#[test]
fn copy_keeps_to_the_limits_that_identify_tells() {
    let mut guest = Guest::up();
    let namespace: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 1));
    let (longest, most) = (u32::from(namespace.mssrl), namespace.mcl);
    let ranges = u32::from(namespace.msrc_z) + 1;
    assert_eq!((longest, most, ranges), (2048, 8192, 128));
    let exceeded = refused(Status::COMMAND_SIZE_LIMIT_EXCEEDED);
    let mut run = |ranges: &[CopyRange], to| {
        let command = copy(&guest, ranges, to);
        guest.run(1, command)
    };
    assert_eq!(run(&[CopyRange::new(0, longest)], 0), Ok(0));
    assert_eq!(run(&[CopyRange::new(0, longest + 1)], 0), exceeded);
    assert_eq!(run(&[CopyRange::new(0, longest); 4], 0), Ok(0));
    let too_much = [
        [CopyRange::new(0, longest); 4].as_slice(),
        &[CopyRange::new(0, 1)],
    ]
    .concat();
    assert_eq!(run(&too_much, 0), exceeded);
    assert_eq!(run(&[CopyRange::new(0, 1); 128], 0), Ok(0));
    assert_eq!(run(&[CopyRange::new(0, 1); 129], 0), exceeded);
    let outside = refused(Status::LBA_OUT_OF_RANGE);
    assert_eq!(run(&[CopyRange::new(DISK / 512, 1)], 0), outside);
    assert_eq!(run(&[CopyRange::new(0, 2)], DISK / 512 - 1), outside);
    let other_format = Submission {
        cdw12: 1 << 8,
        ..transfer(io::COPY, 0, 1, DATA, 0)
    };
    assert_eq!(guest.run(1, other_format), refused(Status::INVALID_FIELD));
}

#[test]
fn a_copy_from_an_unreadable_block_changes_nothing() {
    let mut guest = Guest::up();
    write(&mut guest, 0, 8, 1);
    guest
        .run(1, transfer(io::WRITE_UNCORRECTABLE, 1, 1, 0, 0))
        .unwrap();
    let ranges = [CopyRange::new(0, 1), CopyRange::new(1, 1)];
    let command = copy(&guest, &ranges, 100);
    let failed = guest.run(1, command);
    assert_eq!(failed, refused(Status::UNRECOVERED_READ_ERROR));
    assert_eq!(read(&mut guest, 100), Ok(vec![0; 512]));
}

#[test]
fn a_copy_from_a_bad_block_fails_and_one_onto_it_does_not() {
    let mut guest = Guest::up();
    write(&mut guest, 0, 8, 1);
    guest.set_faults(&FaultSet {
        media: vec![MediaFault {
            namespace: 1,
            first_block: 4,
            blocks: 1,
        }],
        ..FaultSet::default()
    });
    // The second range ends with it.
    let ranges = [CopyRange::new(0, 1), CopyRange::new(3, 2)];
    let command = copy(&guest, &ranges, 100);
    let failed = guest.run(1, command);
    assert_eq!(failed, refused(Status::UNRECOVERED_READ_ERROR));
    assert_eq!(read(&mut guest, 100), Ok(vec![0; 512]));
    let smart = guest.controller.drive.logs.smart(0);
    assert_eq!({ smart.media_errors }, 1);
    let command = copy(&guest, &[CopyRange::new(5, 3)], 3);
    assert_eq!(guest.run(1, command), Ok(0));
}

#[test]
fn a_drive_that_caches_nothing_copies_to_stable_storage() {
    let backend = TestBackend::new(DISK);
    let mut config = config(vec![backend.clone()]);
    config.write_cache = false;
    let mut guest = Guest::up_with(config);
    let command = copy(&guest, &[CopyRange::new(0, 1)], 5);
    guest.run(1, command).unwrap();
    assert_eq!(backend.stable.load(std::sync::atomic::Ordering::SeqCst), 1);
}
