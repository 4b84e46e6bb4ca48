//! Transfers through a ring, and through threads where there is none: data, full depth, stuck files,
//! cancellation, and what never comes into the next boot's memory.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use devices::lifecycle::{Deadline, Device, Phases};
use tempfile::NamedTempFile;

use super::driver::{DATA, DISK, Guest, config, eventually, refused, result, transfer};
use super::io::{pattern, write_list};
use crate::backend::Durability;
use crate::spec::command::{admin, io as opcode};
use crate::spec::registers::offset;
use crate::spec::{Status, Submission};
use crate::{Backend, BackendError, Engine, FileBackend, GuestSlice};

/// A drive whose reads end when somebody writes to the other end of a pipe.
struct Pipe {
    file: Arc<File>,
    /// Reads that can be done at once are.
    is_cached: bool,
}

impl Pipe {
    fn new() -> (Arc<Self>, File) {
        let (read, write) = io::pipe().unwrap();
        let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
        let pipe = Self {
            file: Arc::new(read.into()),
            is_cached: false,
        };
        (Arc::new(pipe), write.into())
    }
}

impl Backend for Pipe {
    fn size(&self) -> u64 {
        DISK
    }
    fn ring_file(&self, _: u64) -> Option<Arc<File>> {
        Some(Arc::clone(&self.file))
    }
    fn read_at_once(&self, _: u64, _: &[GuestSlice<'_>]) -> bool {
        self.is_cached
    }
    fn read(&self, _: u64, _: &[GuestSlice<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write(&self, _: u64, _: &[GuestSlice<'_>], _: Durability) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn deallocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn engines() -> impl Iterator<Item = Arc<Engine>> {
    let one = NonZeroUsize::new(1);
    let engine = Engine::new(one).unwrap();
    if !engine.has_ring() {
        eprintln!("this host has no io_uring: the ring is not tested");
    }
    [engine, Engine::without_ring(one).unwrap()].into_iter()
}

/// An engine of one I/O thread with a ring, where the host has that.
fn with_ring() -> Option<Arc<Engine>> {
    engines().next().filter(|engine| engine.has_ring())
}

fn on_file(engine: Arc<Engine>, file: &NamedTempFile) -> Guest {
    file.as_file().set_len(DISK).unwrap();
    on_backend(engine, FileBackend::open(file.path(), false).unwrap())
}

fn on_backend(engine: Arc<Engine>, backend: FileBackend) -> Guest {
    let mut guest = Guest::on_engine(config(vec![Arc::new(backend)]), engine);
    guest.enable();
    guest.create_pair(1);
    guest
}

/// A drive on a pipe, with `count` reads of a block under way to consecutive pages.
fn stuck(engine: Arc<Engine>, count: u64) -> (Guest, File, Vec<u16>) {
    let (pipe, feed) = Pipe::new();
    let mut guest = Guest::on_engine(config(vec![pipe]), engine);
    guest.enable_msix();
    guest.enable();
    guest.create_pair(1);
    let cids = (0..count)
        .map(|index| guest.push(1, transfer(opcode::READ, 0, 1, DATA + index * 4096, 0)))
        .collect();
    guest.ring(1);
    let queue = guest.controller.session.load_full().unwrap();
    let queue = queue.submission_queue(1).unwrap();
    eventually("reads under way", || u64::from(queue.head()) == count);
    (guest, feed, cids)
}

fn abort(cid: u16) -> Submission {
    Submission {
        opcode: admin::ABORT,
        cdw10: u32::from(cid) << 16 | 1,
        ..Submission::zeroed()
    }
}

#[test]
fn a_file_keeps_what_is_written_with_a_ring_and_without() {
    for engine in engines() {
        let file = NamedTempFile::new().unwrap();
        let mut guest = on_file(engine, &file);
        let data = pattern(64 * 512, 3);
        // Pages that do not adjoin: several vectors.
        let pages: Vec<_> = (0..8).map(|page| DATA + page * 8192).collect();
        for (page, part) in pages.iter().zip(data.chunks(4096)) {
            guest.fill(*page, part);
        }
        write_list(&guest, 0x70_0000, &pages[1..]);
        let mut write = transfer(opcode::WRITE, 8, 64, DATA, 0x70_0000);
        guest.run(1, write).unwrap();
        // Force unit access.
        write.cdw12 |= 1 << 30;
        write.cdw10 = 1000;
        guest.run(1, write).unwrap();
        guest.run(1, transfer(opcode::FLUSH, 0, 1, 0, 0)).unwrap();
        let found = std::fs::read(file.path()).unwrap();
        assert_eq!(found[4096..][..data.len()], data);
        assert_eq!(found[512_000..][..data.len()], data);
        for page in &pages {
            guest.fill(*page, &[0; 4096]);
        }
        guest
            .run(1, transfer(opcode::READ, 1000, 64, DATA, 0x70_0000))
            .unwrap();
        let read: Vec<u8> = pages
            .iter()
            .flat_map(|page| guest.bytes(*page, 4096))
            .collect();
        assert_eq!(read, data);
        let smart = guest.controller.drive.logs.smart(0);
        assert_eq!(({ smart.read_commands }, { smart.write_commands }), (1, 2));
    }
}

#[test]
fn past_the_page_cache_every_alignment_keeps_its_data() {
    for engine in engines() {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(DISK).unwrap();
        let backend = match FileBackend::open_direct(file.path(), false) {
            Err(BackendError::NoDirect { .. }) => {
                eprintln!("this file system has no direct I/O: it is not tested");
                return;
            }
            other => other.unwrap(),
        };
        let mut guest = on_backend(engine, backend);
        // Blocks that share a page of the host, buffers on pages, within pages and at the least alignment.
        for (round, (block, blocks, skew)) in [
            (0, 32, 0),
            (9, 7, 0),
            (8, 8, 512),
            (3, 13, 1024),
            (16, 8, 4),
            (0, 32, 0),
        ]
        .into_iter()
        .enumerate()
        {
            let data = pattern(blocks as usize * 512, round as u8);
            let list = 0x70_0000;
            write_list(
                &guest,
                list,
                &(1..6).map(|page| DATA + page * 4096).collect::<Vec<_>>(),
            );
            let prp2 = if skew as usize + data.len() > 8192 {
                list
            } else {
                DATA + 4096
            };
            let command = |opcode| transfer(opcode, block, blocks, DATA + skew, prp2);
            guest.fill(DATA + skew, &data);
            guest.run(1, command(opcode::WRITE)).unwrap();
            guest.fill(DATA + skew, &vec![0; data.len()]);
            guest.run(1, command(opcode::READ)).unwrap();
            assert_eq!(guest.bytes(DATA + skew, data.len()), data, "round {round}");
            guest.run(1, transfer(opcode::FLUSH, 0, 1, 0, 0)).unwrap();
            let found = std::fs::read(file.path()).unwrap();
            assert_eq!(
                found[block as usize * 512..][..data.len()],
                data,
                "round {round}"
            );
        }
    }
}

#[test]
fn a_file_cut_short_fails_the_read_alone() {
    for engine in engines() {
        let file = NamedTempFile::new().unwrap();
        let mut guest = on_file(engine, &file);
        file.as_file().set_len(DISK / 2).unwrap();
        let last = transfer(opcode::READ, DISK / 1024 - 1, 2, DATA, 0);
        assert_eq!(guest.run(1, last), refused(Status::UNRECOVERED_READ_ERROR));
        guest.run(1, transfer(opcode::READ, 0, 2, DATA, 0)).unwrap();
    }
}

#[test]
fn a_flush_covers_what_was_written_before_it() {
    for engine in engines() {
        let file = NamedTempFile::new().unwrap();
        let mut guest = on_file(engine, &file);
        let namespace = guest.controller.drive.namespace(1).unwrap();
        guest
            .run(1, transfer(opcode::WRITE, 0, 1, DATA, 0))
            .unwrap();
        assert!(namespace.is_unflushed());
        guest.run(1, transfer(opcode::FLUSH, 0, 1, 0, 0)).unwrap();
        assert!(!namespace.is_unflushed());
    }
}

#[test]
fn a_stuck_file_holds_its_full_depth_and_no_other_drive_of_its_thread() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, mut feed, cids) = stuck(Arc::clone(&engine), 63);
    let file = NamedTempFile::new().unwrap();
    let mut other = on_file(engine, &file);
    other.run(1, transfer(opcode::READ, 0, 8, DATA, 0)).unwrap();
    assert!(!guest.has_completion(1));
    assert_eq!(guest.interrupts(1), 0, "nothing has ended");
    // In pieces that are no blocks: every short read goes on where it ended.
    for piece in pattern(63 * 512, 9).chunks(200) {
        feed.write_all(piece).unwrap();
    }
    for cid in cids {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
    let mut read: Vec<u8> = (0..63)
        .flat_map(|index| guest.bytes(DATA + index * 4096, 512))
        .collect();
    let mut fed = pattern(63 * 512, 9);
    read.sort_unstable();
    fed.sort_unstable();
    assert_eq!(read, fed, "every byte came once");
    assert!(guest.interrupts(1) < 63, "one interrupt a burst");
}

#[test]
fn a_read_alone_is_answered_from_the_page_cache_and_several_are_handed_over_together() {
    let Some(engine) = with_ring() else { return };
    let (pipe, mut feed) = Pipe::new();
    let file = Arc::clone(&pipe.file);
    let is_cached = true;
    let backend = Arc::new(Pipe { file, is_cached });
    let mut guest = Guest::on_engine(config(vec![backend]), engine);
    guest.enable();
    guest.create_pair(1);
    let read = transfer(opcode::READ, 0, 1, DATA, 0);
    for _ in 0..3 {
        guest.run(1, read).unwrap();
    }
    let cids = [0; 2].map(|_| guest.push(1, read));
    guest.ring(1);
    let session = guest.controller.session.load_full().unwrap();
    let queue = session.submission_queue(1).unwrap();
    eventually("reads under way", || queue.head() == 5);
    assert!(!guest.has_completion(1), "the pipe is empty");
    feed.write_all(&[7; 1024]).unwrap();
    for cid in cids {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
}

#[test]
fn abort_cancels_a_read_under_way() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, mut feed, cids) = stuck(engine, 3);
    assert_eq!(guest.admin(abort(cids[1])), Ok(0));
    let aborted = guest
        .poll(1)
        .expect("the command completes before the Abort");
    assert_eq!(aborted.cid, cids[1]);
    assert_eq!(result(&aborted), refused(Status::ABORT_REQUESTED));
    assert_eq!(guest.admin(abort(cids[1])), Ok(1), "it is gone");
    feed.write_all(&[7; 1024]).unwrap();
    for cid in [cids[0], cids[2]] {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
    assert_eq!(guest.bytes(DATA + 4096, 512), [0; 512]);
    assert_eq!(guest.admin(abort(cids[0])), Ok(1));
}

#[test]
fn deleting_a_queue_cancels_what_it_is_at() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, mut feed, cids) = stuck(engine, 40);
    guest.admin_ok(Submission {
        opcode: admin::DELETE_SQ,
        cdw10: 1,
        ..Submission::zeroed()
    });
    for cid in cids {
        let found = guest.wait(1, cid);
        assert_eq!(result(&found), refused(Status::ABORTED_SQ_DELETION));
    }
    feed.write_all(&[7; 4096]).unwrap();
    guest.admin_ok(Guest::create_sq_command(1, 1));
    assert_eq!(guest.bytes(DATA, 4096), [0; 4096]);
}

#[test]
fn a_disable_cancels_what_is_under_way() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, mut feed, _) = stuck(engine, 40);
    guest.write(offset::CC, 0);
    eventually("the end of the disable", || !guest.is_ready());
    assert!(!guest.has_failed());
    feed.write_all(&[7; 4096]).unwrap();
    guest.enable();
    assert_eq!(guest.bytes(DATA, 4096), [0; 4096]);
}

#[test]
fn a_teardown_cancels_what_is_under_way_and_nothing_comes_into_the_next_boot() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, mut feed, _) = stuck(engine, 63);
    guest.interrupts(1);
    let image = guest.bytes(0, 16 << 20);
    let by = Deadline::after(Duration::from_secs(20));
    guest
        .controller
        .shut_down(by, &mut Phases::default())
        .unwrap();
    assert!(guest.controller.is_quiet());
    feed.write_all(&pattern(32768, 5)).unwrap();
    assert_eq!(guest.bytes(0, 16 << 20), image);
    assert_eq!(guest.interrupts(1), 0);
    // What the next boot reads is for it alone.
    guest.power_up();
    guest.enable();
    guest.create_pair(1);
    guest.run(1, transfer(opcode::READ, 0, 1, DATA, 0)).unwrap();
    assert_eq!(guest.bytes(DATA, 512), pattern(512, 5));
}

#[test]
fn a_function_reset_cancels_without_a_completion() {
    let Some(engine) = with_ring() else { return };
    let (mut guest, _feed, _) = stuck(engine, 5);
    guest.interrupts(1);
    let image = guest.bytes(0, 16 << 20);
    guest.controller.reset_function();
    eventually("the end of the reads", || {
        Device::is_quiet(&*guest.controller)
    });
    assert_eq!(guest.bytes(0, 16 << 20), image);
    assert_eq!(guest.interrupts(1), 0);
    guest.enable();
}

#[test]
fn a_dropped_drive_leaves_nothing_under_way() {
    let Some(engine) = with_ring() else { return };
    let (guest, feed, _) = stuck(engine, 5);
    let drive = Arc::downgrade(&guest.controller.drive);
    guest.controller.release();
    drop(guest);
    eventually("the end of the drive", || drive.strong_count() == 0);
    drop(feed);
}

#[test]
fn what_was_made_unreadable_is_so_until_it_is_written() {
    for engine in engines() {
        let file = NamedTempFile::new().unwrap();
        let mut guest = on_file(engine, &file);
        guest
            .run(1, transfer(opcode::WRITE_UNCORRECTABLE, 8, 4, 0, 0))
            .unwrap();
        let read = transfer(opcode::READ, 4, 8, DATA, 0);
        assert_eq!(guest.run(1, read), refused(Status::UNRECOVERED_READ_ERROR));
        guest
            .run(1, transfer(opcode::WRITE, 8, 4, DATA, 0))
            .unwrap();
        guest.run(1, read).unwrap();
    }
}
