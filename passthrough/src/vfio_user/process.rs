//! The process behind a connection: who it is, whether it has ended, and its end where it must come.
//!
//! The kernel names the process that called `listen`. Where a service manager did so for the server, that is the
//! service manager: it is never killed, and what it started is never known to have ended.
#![allow(unsafe_code)] // Two socket options that no crate here reads.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that has, or had, the other end of a connection.
#[derive(Debug)]
pub struct ServerProcess {
    /// Its number here; 0 where it has none.
    pid: i32,
    /// None where it cannot be known which process it is.
    handle: Option<OwnedFd>,
    /// This side of the connection: it tells whether the other side still has its own.
    socket: UnixStream,
}

impl ServerProcess {
    /// Who is behind `socket`, which must never be shut down for reading.
    ///
    /// # Errors
    /// When the host gives no descriptor.
    pub fn behind(socket: &UnixStream) -> std::io::Result<Self> {
        let pid = peer_pid(socket);
        let process = Pid::from_raw(pid.max(0));
        // Neither the first process nor this one: the one starts servers, the other plays them.
        let known = process.filter(|pid| !pid.is_init() && *pid != rustix::process::getpid());
        Ok(Self {
            pid,
            handle: known.and_then(|pid| handle(socket, pid)),
            socket: socket.try_clone()?,
        })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is known which process this is.
    pub fn is_known(&self) -> bool {
        self.handle.is_some()
    }

    /// Whether it has closed its end of the connection, and all that it shared it with have.
    pub fn has_left(&self) -> bool {
        ready(self.socket.as_fd(), PollFlags::empty(), Duration::ZERO)
    }

    /// Whether it ends within `patience`, or has: it has no memory and no descriptor any more, and nobody it shared
    /// the connection with has it.
    pub fn has_ended(&self, patience: Duration) -> bool {
        let by = Instant::now() + patience;
        let Some(handle) = &self.handle else {
            return false;
        };
        ready(handle.as_fd(), PollFlags::IN, patience) && {
            let left = by.saturating_duration_since(Instant::now());
            ready(self.socket.as_fd(), PollFlags::empty(), left)
        }
    }

    /// Kills it; says whether it is known to have ended within `patience`. A process that is not known is left alone.
    pub fn kill(&self, patience: Duration) -> bool {
        if let Some(handle) = &self.handle {
            // One that has ended already is what is wanted.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        self.has_ended(patience)
    }
}

/// Whether one of `events`, or the end of what `fd` stands for, comes in time.
fn ready(fd: BorrowedFd<'_>, events: PollFlags, patience: Duration) -> bool {
    let by = Instant::now() + patience;
    loop {
        let left = by.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled = [PollFd::from_borrowed_fd(fd, events)];
        match poll(&mut polled, Some(&left)) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => {
                let ended = PollFlags::HUP | events;
                return polled[0].revents().intersects(ended);
            }
        }
    }
}

/// A handle of the peer, which is `pid`.
fn handle(socket: &UnixStream, pid: Pid) -> Option<OwnedFd> {
    /// Linux 6.5.
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    match option(socket, SO_PEERPIDFD, &mut fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        Ok(()) if fd >= 0 => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        // A kernel without: the number may be another's by now, but only where who called `listen` has ended.
        Err(Errno::NOPROTOOPT) => pidfd_open(pid, PidfdFlags::empty()).ok(),
        _ => None,
    }
}

fn peer_pid(socket: &UnixStream) -> i32 {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    match option(socket, libc::SO_PEERCRED, &mut peer) {
        Ok(()) => peer.pid,
        Err(_) => 0,
    }
}

/// Reads an option of the socket. `T` is plain data of the kind that the option has.
fn option<T: Copy>(socket: &UnixStream, name: libc::c_int, value: &mut T) -> Result<(), Errno> {
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `value`, which has as many and is plain integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
    }
}
