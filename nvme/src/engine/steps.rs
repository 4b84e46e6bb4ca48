//! An engine without threads: whoever has it does the work of all of them, a step at a time. What happens is
//! then the same in every run, for measurements and tests that count.

use std::io;
use std::sync::Arc;

use super::control::Control;
use super::io_thread::Mailbox;
use super::worker::Worker;
use super::{Engine, Transfers};

/// The work of an engine without threads. See [`Engine::stepped`].
pub struct Steps {
    mailbox: Arc<Mailbox>,
    control: Arc<Control>,
    worker: Worker,
    /// Admin commands start none.
    no_transfers: Transfers,
}

impl Engine {
    /// An engine without threads: the work of one I/O thread, which has an io_uring where `with_ring` and the
    /// host has it, and of the control thread is done by `Steps`, and stands still unless they are taken.
    /// Calls that block still have threads of their own.
    ///
    /// # Errors
    /// What the host says when it refuses an eventfd.
    pub fn stepped(with_ring: bool) -> io::Result<(Arc<Self>, Steps)> {
        let worker = Worker::new(with_ring);
        let transfers = &worker.transfers;
        let engine = Self::idle(1, transfers.has_ring(), transfers.can_watch())?;
        let mailbox = engine.io.first().map(Arc::clone);
        let steps = Steps {
            mailbox: mailbox.ok_or(io::ErrorKind::NotFound)?,
            control: Arc::clone(&engine.control),
            worker,
            no_transfers: Transfers::new(None),
        };
        Ok((engine, steps))
    }
}

impl Steps {
    /// Does what there is to do now: admin queues and timers, then a burst of every I/O queue, then what
    /// transfers have ended. Never waits. Returns whether there is more to do.
    pub fn step(&mut self) -> bool {
        while self.control.step(&mut self.no_transfers) {}
        self.mailbox.take(&mut self.worker.queues.ready);
        self.worker.round()
    }

    /// Waits until a transfer has ended, if there is one under way.
    ///
    /// # Errors
    /// What the host says to it.
    pub fn wait(&mut self) -> io::Result<()> {
        self.worker.transfers.wait()
    }
}
