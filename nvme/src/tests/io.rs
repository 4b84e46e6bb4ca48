//! I/O commands: data arrives where it belongs, and every bad command gets its status.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::NamedTempFile;
use vm_memory::GuestAddress;
use zerocopy::IntoBytes;

use super::backend::TestBackend;
use super::commands::{identify, page};
use super::driver::{DATA, DISK, Guest, MEMORY, config, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::{Controller, cns};
use crate::spec::{DsmRange, Status, Submission};
use crate::{Backend, FileBackend};

pub(super) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

#[test]
fn data_survives_every_layout_of_pages() {
    let mut guest = Guest::up();
    // (offset in the first page, blocks): one entry, two entries, lists, lists from an odd place.
    for (index, (skew, blocks)) in [
        (0, 1),
        (512, 7),
        (512, 15),
        (0, 16),
        (4, 9),
        (0, 200),
        (3584, 2048),
        (0, 2048),
    ]
    .into_iter()
    .enumerate()
    {
        let length = blocks as usize * 512;
        let data = pattern(length, index as u8);
        let list = 0x70_0000 + 0xE00;
        for base in [DATA, DATA + (4 << 20)] {
            // Every second page, so that nothing merges, as far as a page list reaches.
            let pages = (length + skew as usize).div_ceil(4096);
            let page = |number: usize| base + number as u64 * 8192;
            let prp2 = if pages == 2 { page(1) } else { list };
            if pages > 2 {
                write_list(&guest, list, &(1..pages).map(page).collect::<Vec<_>>());
            }
            let first = base + skew;
            let mut opcode = io::WRITE;
            if base == DATA {
                scatter(&guest, first, &page, &data);
            } else {
                opcode = io::READ;
            }
            guest
                .run(1, transfer(opcode, 8, blocks, first, prp2))
                .unwrap();
            if base != DATA {
                assert_eq!(
                    gather(&guest, first, &page, length),
                    data,
                    "{blocks} blocks"
                );
            }
        }
    }
}

/// A PRP list at `at` that goes on in pages of its own.
pub(super) fn write_list(guest: &Guest, mut at: u64, entries: &[u64]) {
    let mut left = entries;
    let mut next = 0x71_0000;
    loop {
        let fit = (4096 - at as usize % 4096) / 8;
        let now = if left.len() > fit {
            fit - 1
        } else {
            left.len()
        };
        let (here, rest) = left.split_at(now);
        guest.fill(at, here.as_bytes());
        if rest.is_empty() {
            return;
        }
        guest.fill(at + now as u64 * 8, &u64::to_le_bytes(next));
        (at, left, next) = (next, rest, next + 4096);
    }
}

fn stretches(first: u64, page: &dyn Fn(usize) -> u64, length: usize) -> Vec<(u64, usize)> {
    let in_first = length.min(4096 - (first % 4096) as usize);
    let mut all = vec![(first, in_first)];
    let mut done = in_first;
    while done < length {
        let now = (length - done).min(4096);
        all.push((page(all.len()), now));
        done += now;
    }
    all
}

fn scatter(guest: &Guest, first: u64, page: &dyn Fn(usize) -> u64, data: &[u8]) {
    let mut rest = data;
    for (at, length) in stretches(first, page, data.len()) {
        let (now, later) = rest.split_at(length);
        guest.fill(at, now);
        rest = later;
    }
}

fn gather(guest: &Guest, first: u64, page: &dyn Fn(usize) -> u64, length: usize) -> Vec<u8> {
    let all = stretches(first, page, length);
    all.into_iter()
        .flat_map(|(at, length)| guest.bytes(at, length))
        .collect()
}

#[test]
fn bad_commands_get_their_status() {
    let mut guest = Guest::up();
    let end = DISK / 512;
    let read = |block, blocks| transfer(io::READ, block, blocks, DATA, DATA + 4096);
    let with = |change: fn(&mut Submission)| {
        let mut command = transfer(io::READ, 0, 1, DATA, 0);
        change(&mut command);
        command
    };
    let cases = [
        (read(end, 1), Status::LBA_OUT_OF_RANGE),
        (read(end - 1, 2), Status::LBA_OUT_OF_RANGE),
        (read(u64::MAX, 1), Status::LBA_OUT_OF_RANGE),
        (read(0, 2049), Status::INVALID_FIELD),
        (with(|command| command.nsid = 0), Status::INVALID_NAMESPACE),
        (with(|command| command.nsid = 2), Status::INVALID_NAMESPACE),
        (
            with(|command| command.nsid = u32::MAX),
            Status::INVALID_NAMESPACE,
        ),
        (
            with(|command| command.opcode = 0x7E),
            Status::INVALID_OPCODE,
        ),
        (with(|command| command.flags = 0xC0), Status::INVALID_FIELD),
        (with(|command| command.flags = 0x20), Status::INVALID_FIELD),
        (with(|command| command.flags = 1), Status::INVALID_FIELD),
        (
            with(|command| command.prp1 = DATA + 1),
            Status::PRP_OFFSET_INVALID,
        ),
        (
            with(|command| command.prp1 = MEMORY),
            Status::DATA_TRANSFER_ERROR,
        ),
    ];
    for (command, status) in cases {
        assert_eq!(guest.run(1, command), refused(status), "{command:?}");
    }
    guest.run(1, read(end - 1, 1)).unwrap();
}

#[test]
fn flush_reaches_one_namespace_or_all() {
    let backends = [(); 3].map(|()| TestBackend::new(DISK));
    let mut guest = Guest::with(config(
        backends.iter().cloned().map(|one| one as _).collect(),
    ));
    guest.enable();
    guest.create_pair(1);
    let flushes = || {
        backends
            .each_ref()
            .map(|one| one.flushes.load(Ordering::SeqCst))
    };
    let flush = |nsid| Submission {
        opcode: io::FLUSH,
        nsid,
        ..Submission::zeroed()
    };
    guest.run(1, flush(2)).unwrap();
    assert_eq!(flushes(), [0, 1, 0]);
    guest.run(1, flush(u32::MAX)).unwrap();
    assert_eq!(flushes(), [1, 2, 1]);
    assert_eq!(guest.run(1, flush(4)), refused(Status::INVALID_NAMESPACE));
    backends[0].fail_flushes.store(true, Ordering::SeqCst);
    assert_eq!(guest.run(1, flush(1)), refused(Status::WRITE_FAULT));
    guest.run(1, flush(2)).unwrap();
    assert_eq!(guest.run(1, flush(u32::MAX)), refused(Status::WRITE_FAULT));
}

#[test]
fn zeroes_and_deallocation_on_a_real_file() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let backend = FileBackend::open(file.path(), false).unwrap();
    let zeroes_when_gone = backend.deallocated_reads_zero();
    let mut guest = Guest::with(config(vec![std::sync::Arc::new(backend)]));
    guest.enable();
    guest.create_pair(1);
    guest.fill(DATA, &pattern(16384, 1));
    write_list(&guest, 0x70_0000, &[DATA + 4096, DATA + 8192, DATA + 12288]);
    let mut write = transfer(io::WRITE, 0, 32, DATA, 0x70_0000);
    // Force unit access.
    write.cdw12 |= 1 << 30;
    guest.run(1, write).unwrap();
    assert_eq!(
        std::fs::read(file.path()).unwrap()[..16384],
        pattern(16384, 1)
    );

    guest
        .run(1, transfer(io::WRITE_ZEROES, 8, 4, 0, 0))
        .unwrap();
    let ranges = [
        DsmRange {
            blocks: 8,
            starting_block: 16,
            ..DsmRange::default()
        },
        DsmRange::default(),
    ];
    guest.fill(DATA, ranges.as_bytes());
    let mut dsm = transfer(io::DATASET_MANAGEMENT, 1, 1, DATA, 0);
    dsm.cdw11 = 1 << 2;
    guest.run(1, dsm).unwrap();
    guest
        .run(1, transfer(io::READ, 0, 32, DATA, 0x70_0000))
        .unwrap();
    let found = guest.bytes(DATA, 16384);
    let expected = pattern(16384, 1);
    assert_eq!(found[..4096], expected[..4096]);
    assert!(found[4096..6144].iter().all(|byte| *byte == 0));
    assert_eq!(found[6144..8192], expected[6144..8192]);
    if zeroes_when_gone {
        assert!(found[8192..12288].iter().all(|byte| *byte == 0));
    }
    assert_eq!(found[12288..], expected[12288..]);

    let outside = DsmRange {
        blocks: 1,
        starting_block: DISK / 512,
        ..DsmRange::default()
    };
    guest.fill(DATA, outside.as_bytes());
    dsm.cdw10 = 0;
    assert_eq!(guest.run(1, dsm), refused(Status::LBA_OUT_OF_RANGE));
}

#[test]
fn a_read_only_namespace_refuses_changes() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK).unwrap();
    let backend = FileBackend::open(file.path(), true).unwrap();
    let mut guest = Guest::with(config(vec![std::sync::Arc::new(backend)]));
    guest.enable();
    guest.create_pair(1);
    for opcode in [io::WRITE, io::WRITE_ZEROES, io::DATASET_MANAGEMENT] {
        let command = transfer(opcode, 0, 1, DATA, 0);
        assert_eq!(
            guest.run(1, command),
            refused(Status::NAMESPACE_WRITE_PROTECTED)
        );
    }
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
    guest.run(1, transfer(io::FLUSH, 0, 1, 0, 0)).unwrap();
}

#[test]
fn a_full_completion_queue_holds_commands_back_and_loses_none() {
    let mut guest = Guest::up();
    guest.create_pair(2);
    let mut cids = Vec::new();
    for _ in 0..63 {
        cids.push(guest.push(1, transfer(io::READ, 0, 1, DATA, 0)));
    }
    guest.ring(1);
    // A second submission queue on the same completion queue has to wait for its doorbell.
    let second = Submission {
        prp1: 0x60_0000,
        ..Guest::create_sq_command(3, 1)
    };
    guest.admin_ok(second);
    let command = Submission {
        cid: 9999,
        ..transfer(io::READ, 0, 1, DATA, 0)
    };
    guest
        .memory
        .write_slice(command.as_bytes(), GuestAddress(0x60_0000))
        .unwrap();
    eventually("a full queue", || {
        let queue = guest
            .controller
            .session
            .load_full()
            .unwrap()
            .submission_queue(1)
            .unwrap();
        queue.head() == 63
    });
    guest.write(0x1000 + 3 * 8, 1);
    std::thread::sleep(Duration::from_millis(5));
    for cid in cids {
        assert_eq!(guest.wait(1, cid).sq_id, 1);
    }
    assert_eq!(guest.wait(1, 9999).sq_id, 3);
}

#[test]
fn abort_takes_back_what_has_not_begun() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    let flush = transfer(io::FLUSH, 0, 1, 0, 0);
    let running = [(); 2].map(|()| guest.submit(1, flush));
    backend.wait_entered(2);
    let waiting = guest.submit(1, flush);
    let abort = |cid: u16, queue: u32| Submission {
        opcode: admin::ABORT,
        cdw10: u32::from(cid) << 16 | queue,
        ..Submission::zeroed()
    };
    eventually("an abort", || guest.admin(abort(waiting, 1)) == Ok(0));
    let found = guest.wait(1, waiting);
    assert_eq!(result(&found), refused(Status::ABORT_REQUESTED));
    let namespace = guest.controller.drive.namespace(1).unwrap();
    eventually("a lane that has forgotten it", || {
        namespace.lane.waiting() == 0
    });
    assert_eq!(guest.admin(abort(running[0], 1)), Ok(1), "it runs");
    assert_eq!(guest.admin(abort(77, 1)), Ok(1));
    assert_eq!(guest.admin(abort(1, 9)), Ok(1));
    backend.hold(false);
    for cid in running {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
}

#[test]
fn a_write_cache_that_is_off_keeps_nothing_back() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    let mut set = transfer(admin::SET_FEATURES, 6, 1, 0, 0);
    set.cdw11 = 1;
    for (cached, stable) in [(true, 0), (false, 1)] {
        set.cdw11 = cached.into();
        guest.admin_ok(set);
        let get = Submission {
            opcode: admin::GET_FEATURES,
            ..set
        };
        assert_eq!(guest.admin_ok(get), u32::from(cached));
        guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
        assert_eq!(backend.stable.load(Ordering::SeqCst), stable);
    }
}

#[test]
fn a_drive_without_a_write_cache_has_none_to_turn_on() {
    let backend = TestBackend::new(DISK);
    let mut config = config(vec![backend.clone()]);
    config.write_cache = false;
    let mut guest = Guest::up_with(config);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    assert_eq!(backend.stable.load(Ordering::SeqCst), 1);
    let flushes = backend.flushes.load(Ordering::SeqCst);
    guest
        .run(1, transfer(io::WRITE_ZEROES, 0, 1, 0, 0))
        .unwrap();
    assert_eq!(backend.flushes.load(Ordering::SeqCst), flushes + 1);
    for opcode in [admin::SET_FEATURES, admin::GET_FEATURES] {
        let command = transfer(opcode, 6, 1, 0, 0);
        assert_eq!(guest.admin(command), refused(Status::INVALID_FIELD));
    }
    let controller: Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    assert_eq!(controller.vwc, 0b110);
}
