//! Where the threads of a teardown come from.

use std::{io, thread};

/// Small, so that the C library keeps the stacks of 64 workers from one teardown to the next.
const STACK_SIZE: usize = 512 << 10;

/// Where threads come from.
pub trait Spawn: Send + Sync {
    /// Runs `work` on a thread of its own, which nobody joins.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// The operating system's threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsThreads;

impl Spawn for OsThreads {
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_SIZE)
            .spawn(work)
            .map(drop)
    }
}
