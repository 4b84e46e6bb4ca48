//! The process behind a connection: who it is, whether it has ended, and its end where it must come.
//!
//! It is the one that answers, as the kernel notes with each message. The one that called `listen`, which is noted
//! with the connection, may be another: a service manager that listens for the server, or a parent that has ended since,
//! and whose number may be another's by now.
#![allow(unsafe_code)] // Socket options that no crate here reads, and numbers of processes that are not here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
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
    /// Whose message is the next to be read from `socket`, which must never be shut down for reading. Takes effect
    /// where [`Self::note_senders`] came before the message.
    ///
    /// # Errors
    /// When the host gives no descriptor.
    pub fn behind(socket: &UnixStream) -> std::io::Result<Self> {
        let pid = sender(socket).unwrap_or(0);
        let process = Pid::from_raw(pid.max(0));
        // Neither the first process nor this one: the one starts servers, the other plays them.
        let known = process.filter(|pid| !pid.is_init() && *pid != rustix::process::getpid());
        Ok(Self {
            pid,
            handle: known.and_then(|pid| handle(socket, pid)),
            socket: socket.try_clone()?,
        })
    }

    /// Has the kernel note with each message of `socket` who sent it, or no longer.
    ///
    /// # Errors
    /// What the host says.
    pub fn note_senders(socket: &UnixStream, note: bool) -> std::io::Result<()> {
        Ok(set_socket_passcred(socket, note)?)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is known which process this is.
    pub fn is_known(&self) -> bool {
        self.handle.is_some()
    }

    /// Whether it has let go of its end of the connection: closed it, and all that it shared it with have; or shut it
    /// down, which looks the same once this side has left.
    pub fn has_left(&self) -> bool {
        self.leaves(Duration::ZERO)
    }

    /// The same within `patience`.
    pub fn leaves(&self, patience: Duration) -> bool {
        ready(self.socket.as_fd(), PollFlags::empty(), patience)
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

    /// Why it is not known to have ended, and what to do.
    pub fn why_not_ended(&self) -> String {
        let pid = self.pid;
        if !self.is_known() {
            return "it is not known which process the server is, nor whether it has ended: it may still have the \
                    guest's memory"
                .to_owned();
        }
        match self.has_left() {
            true => format!(
                "process {pid} has closed the server's connection, and goes on: it may still have the guest's memory: \
                 end it"
            ),
            false => format!(
                "process {pid}, or one that it shares the server's connection with, still has that, and the guest's \
                 memory: end it"
            ),
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

/// A handle of `pid`, which has sent what is to be read.
fn handle(socket: &UnixStream, pid: Pid) -> Option<OwnedFd> {
    /// Linux 6.5.
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    if peer_pid(socket) == pid.as_raw_nonzero().get()
        && option(socket, SO_PEERPIDFD, &mut fd).is_ok()
        && fd >= 0
    {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        return Some(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // It is there still: it has to answer the rest of what it is asked before it is given anything.
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Who sent what is to be read next; 0 for one that has no number here.
fn sender(socket: &UnixStream) -> Option<i32> {
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: std::ptr::from_mut(&mut byte).cast(),
        iov_len: 1,
    };
    // Room for the sender alone. Descriptors that come with the message are not made here, and come when it is read.
    let mut control = [0_u64; 8];
    // SAFETY: plain data, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a size.
    let room = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) };
    header.msg_controllen = room as usize;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names a byte, and a buffer that is larger than it says; both outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    if count <= 0 {
        return None;
    }
    // SAFETY: the kernel has filled the buffer that the header names, and said how far.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() }?;
    if (first.cmsg_level, first.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) {
        return None;
    }
    // SAFETY: what follows the head of such a message is this structure, at any alignment.
    let sender = unsafe {
        libc::CMSG_DATA(first)
            .cast::<libc::ucred>()
            .read_unaligned()
    };
    Some(sender.pid)
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
