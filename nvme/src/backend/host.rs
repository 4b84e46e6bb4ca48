//! Calls of the host that Rust's library does not have: locks, allocation, and where a file lies.
#![allow(unsafe_code, reason = "these calls have no safe interface")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long a file may stay locked by whoever is gone already.
const LET_GO: Duration = Duration::from_secs(1);
/// How often a lock is tried.
const POLL: Duration = Duration::from_millis(10);

/// Whether the file lies in the host's memory (tmpfs, ramfs): then reads and writes are copies in memory. An
/// io_uring would hand each of them to a thread, as these file systems do not say what would block.
pub(super) fn is_in_memory(file: &File) -> io::Result<bool> {
    const RAMFS_MAGIC: i64 = 0x8584_58F6;
    // SAFETY: `statfs` is plain data, and all zeroes is a value of it.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and `found` outlives the call.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut found) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([libc::TMPFS_MAGIC, RAMFS_MAGIC].contains(&found.f_type))
}

/// Takes O_NONBLOCK back: a ring hands an operation that would block to a worker, unless the file is said not to.
pub(super) fn block_on_calls(file: &File) -> io::Result<()> {
    // SAFETY: the calls take integers and an open descriptor.
    let result = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes a lock of the open file description on the whole file. Returns whether it was free.
///
/// Waits a little for another one to let go: where a process was killed, the kernel ends its rings, and closes
/// the files that they have, only after the process is gone.
pub(crate) fn lock_whole(file: &File, exclusive: bool) -> io::Result<bool> {
    let by = Instant::now() + LET_GO;
    loop {
        if try_lock_whole(file, exclusive)? {
            return Ok(true);
        }
        if Instant::now() >= by {
            return Ok(false);
        }
        thread::sleep(POLL);
    }
}

fn try_lock_whole(file: &File, exclusive: bool) -> io::Result<bool> {
    let kind = if exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    // SAFETY: `flock` is plain data, all-zeroes is a value of it: the whole file, pid 0 as OFD locks want.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open and `lock` outlives the call, which reads it only.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if result == 0 {
        return Ok(true);
    }
    let failure = io::Error::last_os_error();
    match failure.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(failure),
    }
}

pub(super) fn allocate(file: &File, mode: libc::c_int, offset: u64, length: u64) -> io::Result<()> {
    loop {
        // SAFETY: the call takes integers and an open descriptor.
        let result =
            unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, length as i64) };
        if result == 0 {
            return Ok(());
        }
        let failure = io::Error::last_os_error();
        if failure.kind() != ErrorKind::Interrupted {
            return Err(failure);
        }
    }
}
