//! Backends over real files and memory: what is written is read, locks exclude, mistakes are named.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use tempfile::NamedTempFile;
use vm_memory::VolatileSlice;

use super::*;

fn file_of(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

fn round_trip(backend: &dyn Backend) {
    let mut data: Vec<u8> = (0..3 * 512).map(|byte| (byte % 251) as u8).collect();
    let (one, two) = data.split_at_mut(700);
    let slices = [VolatileSlice::from(one), VolatileSlice::from(two)];
    backend.write(512, &slices, Durability::Cached).unwrap();
    backend.write(4096, &slices, Durability::Stable).unwrap();
    backend.flush().unwrap();
    backend.write_zeroes(1024, 512, false).unwrap();
    backend.write_zeroes(4096, 512, true).unwrap();
    backend.deallocate(4096 + 1024, 512).unwrap();
    let mut found = vec![0xEE; 3 * 512];
    let mut read = |offset| {
        backend
            .read(offset, &[VolatileSlice::from(&mut found[..])])
            .unwrap();
        found.clone()
    };
    let first = read(512);
    assert_eq!(first[..512], data[..512]);
    assert!(first[512..1024].iter().all(|byte| *byte == 0));
    assert_eq!(first[1024..], data[1024..]);
    let second = read(4096);
    assert!(second[..512].iter().all(|byte| *byte == 0));
    assert_eq!(second[512..1024], data[512..1024]);
    if backend.deallocated_reads_zero() {
        assert!(second[1024..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_written_is_read() {
    round_trip(&MemoryBackend::new(1 << 20));
    let file = file_of(1 << 20);
    round_trip(&FileBackend::open(file.path(), false).unwrap());
}

#[test]
fn a_file_that_is_let_go_soon_is_waited_for() {
    let file = file_of(4096);
    let writer = FileBackend::open(file.path(), false).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| FileBackend::open(file.path(), false).map(|_| ()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!second.is_finished());
        drop(writer);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_file_has_one_writer_or_many_readers() {
    let file = file_of(4096);
    let writer = FileBackend::open(file.path(), false).unwrap();
    for read_only in [false, true] {
        let refused = FileBackend::open(file.path(), read_only);
        assert!(matches!(refused, Err(BackendError::Locked { .. })));
    }
    writer.release();
    assert!(writer.flush().is_err());
    let readers = [(); 2].map(|()| FileBackend::open(file.path(), true).unwrap());
    assert!(matches!(
        FileBackend::open(file.path(), false),
        Err(BackendError::Locked { .. })
    ));
    drop(readers);
    FileBackend::open(file.path(), false).unwrap();
}

#[test]
fn files_that_are_no_drive_are_named() {
    let missing = FileBackend::open(Path::new("/nonexistent/disk.raw"), false).unwrap_err();
    assert!(matches!(missing, BackendError::Missing { .. }));
    assert!(missing.to_string().contains("/nonexistent/disk.raw"));
    let folder = FileBackend::open(Path::new("/"), true).unwrap_err();
    assert!(matches!(folder, BackendError::NotStorage { .. }));
    let device = FileBackend::open(Path::new("/dev/null"), false).unwrap_err();
    assert!(matches!(device, BackendError::NotStorage { .. }));
    for size in [0, 513] {
        let file = file_of(size);
        let odd = FileBackend::open(file.path(), false).unwrap_err();
        assert!(matches!(odd, BackendError::Size { size: found, .. } if found == size));
    }
}

#[test]
fn a_file_cut_short_is_an_error_and_no_hang() {
    let mut file = file_of(8192);
    file.write_all(&[1; 512]).unwrap();
    let backend = FileBackend::open(file.path(), false).unwrap();
    file.as_file().set_len(512).unwrap();
    let mut data = [0; 1024];
    let failure = backend
        .read(0, &[VolatileSlice::from(&mut data[..])])
        .unwrap_err();
    assert_eq!(failure.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn only_what_is_aligned_goes_past_the_page_cache() {
    let file = file_of(1 << 20);
    let backend = match FileBackend::open_direct(file.path(), false) {
        Err(BackendError::NoDirect { .. }) => {
            eprintln!("this file system has no direct I/O: it is not tested");
            return;
        }
        other => other.unwrap(),
    };
    let is_direct = |alignment| {
        let file = backend.ring_file(alignment).unwrap();
        let flags = rustix::fs::fcntl_getfl(&*file).unwrap();
        flags.contains(rustix::fs::OFlags::DIRECT)
    };
    assert!(is_direct(1 << 20));
    assert!(is_direct(4096));
    assert!(!is_direct(1));
    round_trip(&backend);
    backend.release();
    assert!(backend.ring_file(4096).is_none());
}

/// Clears from an offset, so many bytes.
type Clear = fn(&FileBackend, u64, u64) -> io::Result<()>;

/// In memory a range is punched in pieces: all of it, and nothing beside it.
#[test]
fn a_large_range_of_a_file_in_memory_is_cleared_to_its_last_block() {
    const SIZE: usize = 40 << 20;
    let memory = rustix::fs::memfd_create("drive", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, SIZE as u64).unwrap();
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let backend = FileBackend::open(Path::new(&path), false).unwrap();
    let clears: [Clear; 3] = [
        |backend, at, length| backend.deallocate(at, length),
        |backend, at, length| backend.write_zeroes(at, length, true),
        |backend, at, length| backend.write_zeroes(at, length, false),
    ];
    for clear in clears {
        let mut bytes = vec![0xA5_u8; SIZE];
        let all = [VolatileSlice::from(&mut bytes[..])];
        backend.write(0, &all, Durability::Cached).unwrap();
        let cleared = 4096..SIZE - 4096;
        clear(&backend, cleared.start as u64, cleared.len() as u64).unwrap();
        backend.read(0, &all).unwrap();
        assert!(bytes[cleared.clone()].iter().all(|byte| *byte == 0));
        assert!(bytes[..cleared.start].iter().all(|byte| *byte == 0xA5));
        assert!(bytes[cleared.end..].iter().all(|byte| *byte == 0xA5));
    }
}

#[test]
fn a_file_in_memory_is_read_at_once_and_one_on_a_disk_is_not() {
    let memory = rustix::fs::memfd_create("drive", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, 1 << 20).unwrap();
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let backend = FileBackend::open(Path::new(&path), false).unwrap();
    assert!(backend.is_immediate());
    round_trip(&backend);
    // Where these tests were built is a disk, except where somebody builds in memory.
    let here = std::env::current_exe().unwrap();
    let file = NamedTempFile::new_in(here.parent().unwrap()).unwrap();
    file.as_file().set_len(4096).unwrap();
    let backend = FileBackend::open(file.path(), false).unwrap();
    let kind = rustix::fs::fstatfs(file.as_file()).unwrap().f_type;
    assert_eq!(backend.is_immediate(), kind == libc::TMPFS_MAGIC);
}

#[test]
fn what_the_page_cache_holds_is_read_at_once_and_nothing_past_it() {
    let here = std::env::current_exe().unwrap();
    let mut file = NamedTempFile::new_in(here.parent().unwrap()).unwrap();
    file.write_all(&[0x5A; 8192]).unwrap();
    file.as_file().sync_all().unwrap();
    let open = || FileBackend::open(file.path(), true).unwrap();
    let mut data = [0; 4096];
    let mut read = |backend: &FileBackend, offset| {
        data.fill(0);
        let done = backend.read_at_once(offset, &[VolatileSlice::from(&mut data[..])]);
        (done, data)
    };
    let (done, found) = read(&open(), 4096);
    if !done {
        eprintln!("this file system reads nothing at once: it is not tested");
        return;
    }
    assert_eq!(found, [0x5A; 4096]);
    assert!(!read(&open(), 6144).0, "its end is beyond the file's");
    if let Ok(direct) = FileBackend::open_direct(file.path(), true) {
        assert!(!read(&direct, 4096).0, "it is to go past the page cache");
    }
    let released = open();
    released.release();
    assert!(!read(&released, 0).0);
}
