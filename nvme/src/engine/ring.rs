//! An io_uring: how it is set up, and the few operations that the engine asks of it.
#![allow(
    unsafe_code,
    reason = "the kernel keeps pointers beyond the call that hands them over; `transfers` says why they last"
)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Submissions between two calls of the kernel. More of them cost one call more.
const ENTRIES: u32 = 256;
/// Completions that the ring itself holds; the kernel keeps any beyond them.
const COMPLETIONS: u32 = 4096;

/// An io_uring of one thread.
pub(super) struct Ring(IoUring);

/// An operation on an open file.
pub(super) enum Operation<'a> {
    /// Into one stretch of memory, or from one.
    Single(Direction, *mut u8, u32),
    /// The same with several.
    Vectored(Direction, &'a [libc::iovec]),
    /// fdatasync.
    Sync,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the file to memory.
    Read,
    /// From memory to the file, `stable` once it is on stable storage.
    Write { stable: bool },
}

impl Ring {
    /// Sets up a ring for the calling thread alone, as well as the host's kernel can.
    pub(super) fn new() -> io::Result<Self> {
        let mut plain = IoUring::builder();
        plain.dontfork().setup_clamp().setup_cqsize(COMPLETIONS);
        let mut cooperative = plain.clone();
        cooperative.setup_coop_taskrun().setup_submit_all();
        let mut deferred = plain.clone();
        // Completions are made when this thread asks for them, never by interrupting it.
        deferred
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all();
        let ring = [deferred, cooperative]
            .iter()
            .find_map(|builder| builder.build(ENTRIES).ok())
            .map_or_else(|| plain.build(ENTRIES), Ok)?;
        // Without it the kernel may drop completions when there are too many.
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_submit_stable() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self(ring))
    }

    /// Queues `operation` on `fd` at `offset`.
    ///
    /// # Safety
    /// Until the completion of `tag` comes, the memory stays mapped and `fd` open; until the next
    /// `submit`, the list of vectors stays where it is.
    pub(super) unsafe fn push(
        &mut self,
        fd: RawFd,
        offset: u64,
        operation: &Operation<'_>,
        tag: u64,
    ) -> io::Result<()> {
        let file = types::Fd(fd);
        let flags = |stable| if stable { libc::RWF_DSYNC } else { 0 };
        let entry = match *operation {
            Operation::Single(Direction::Read, at, length) => {
                opcode::Read::new(file, at, length).offset(offset).build()
            }
            Operation::Single(Direction::Write { stable }, at, length) => {
                opcode::Write::new(file, at, length)
                    .offset(offset)
                    .rw_flags(flags(stable))
                    .build()
            }
            Operation::Vectored(Direction::Read, vectors) => {
                opcode::Readv::new(file, vectors.as_ptr(), vectors.len() as u32)
                    .offset(offset)
                    .build()
            }
            Operation::Vectored(Direction::Write { stable }, vectors) => {
                opcode::Writev::new(file, vectors.as_ptr(), vectors.len() as u32)
                    .offset(offset)
                    .rw_flags(flags(stable))
                    .build()
            }
            Operation::Sync => opcode::Fsync::new(file)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        };
        // SAFETY: the caller's promise.
        unsafe { self.queue(entry.user_data(tag)) }
    }

    /// Queues the reading of an eventfd's counter.
    ///
    /// # Safety
    /// As for [`push`](Self::push).
    pub(super) unsafe fn push_wake(
        &mut self,
        fd: RawFd,
        into: *mut u64,
        tag: u64,
    ) -> io::Result<()> {
        let entry = opcode::Read::new(types::Fd(fd), into.cast(), size_of::<u64>() as u32).build();
        // SAFETY: the caller's promise.
        unsafe { self.queue(entry.user_data(tag)) }
    }

    /// Queues the watching of an eventfd: each signal from now on is a completion, and one of before is too.
    pub(super) fn push_poll(&mut self, fd: RawFd, tag: u64) -> io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).multi(true);
        // SAFETY: the entry speaks of no memory, and the kernel keeps the file.
        unsafe { self.queue(poll.build().user_data(tag)) }
    }

    /// Whether eventfds can be watched by one entry for all their signals.
    pub(super) fn can_watch(&self) -> bool {
        // This came with the same kernel, and has a mark of its own.
        self.0.params().is_feature_resource_tagging()
    }

    /// Queues the cancellation of the operation `of`.
    pub(super) fn push_cancel(&mut self, of: u64, tag: u64) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(of).build().user_data(tag);
        // SAFETY: the entry speaks of no memory.
        unsafe { self.queue(entry) }
    }

    /// Hands what is queued to the kernel, and waits for a completion where `wait`.
    pub(super) fn submit(&mut self, wait: bool) -> io::Result<()> {
        match self.0.submit_and_wait(usize::from(wait)) {
            Ok(_) => Ok(()),
            Err(failure) => match failure.raw_os_error() {
                // Interrupted; or the kernel is short of something until completions are taken.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(failure),
            },
        }
    }

    /// Whether something is queued that the kernel does not know of, or the kernel waits to be asked.
    pub(super) fn wants_submit(&mut self) -> bool {
        let queue = self.0.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Whether a completion waits, or work that makes one.
    pub(super) fn has_completions(&self) -> bool {
        // SAFETY: the ring belongs to this thread, and neither view lives longer than its own statement.
        let (queue, waiting) = unsafe { (self.0.submission_shared(), self.0.completion_shared()) };
        !waiting.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Takes the completions: tags, results, and whether more will come of the same entry.
    pub(super) fn reap(&mut self, into: &mut Vec<(u64, i32, bool)>) {
        let found = self.0.completion();
        into.extend(found.map(|entry: cqueue::Entry| {
            let more = cqueue::more(entry.flags());
            (entry.user_data(), entry.result(), more)
        }));
    }

    /// # Safety
    /// As for [`push`](Self::push).
    unsafe fn queue(&mut self, entry: squeue::Entry) -> io::Result<()> {
        if self.0.submission().is_full() {
            self.submit(false)?;
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.submission().push(&entry) }
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
    }
}
