//! The engine: the threads that all controllers of a machine share. A fixed set of I/O threads, each with
//! its own queues and its own io_uring; one control thread (admin queues, timers); and lanes for calls that
//! may block long. Where the host's kernel refuses io_uring, lanes read and write as well.

mod control;
mod io_thread;
mod lane;
mod lease;
mod place;
mod ring;
mod spin;
mod steps;
mod transfer;
mod transfers;
mod watches;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

pub(crate) use control::{TimerKey, TimerKind};
pub(crate) use lane::{Lane, Ticket};
pub(crate) use lease::Lease;
pub use steps::Steps;
pub(crate) use transfer::{Action, End, Ended, Handle, Transfer, Vectors};
pub(crate) use transfers::Transfers;

use crate::gate::lock;
use control::Control;
use io_thread::Mailbox;
use ring::Ring;

/// How long a dropped engine waits for its threads before it leaves a stuck one behind.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A piece of work of a thread of the engine.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A queue as the thread that owns it sees it.
pub(crate) trait Serve: Send + Sync {
    /// Serves a burst, so that other queues get their turn before the next.
    fn serve(self: Arc<Self>, transfers: &mut Transfers) -> Turn;

    /// Whether a queue that is watched has something to do.
    fn has_more(&self) -> bool {
        false
    }

    /// Asks to be scheduled for what comes from now on. Returns whether something has come already.
    fn rest(&self) -> bool {
        false
    }

    /// Transfers that it started ended, on the same thread. There is nothing more to be told for now.
    fn ended(&self, _ends: &mut Vec<End>) {}

    /// A transfer that was to be cancelled cannot be, or has just ended by itself.
    fn not_cancelled(&self, _tag: u32) {}

    /// An eventfd that is watched for it was signalled, perhaps several times.
    fn rang(&self) {}

    /// An eventfd that was watched for it is not any more: the host refused.
    fn unwatched(&self) {}
}

/// What a burst came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing more to do: whatever comes is scheduled.
    Done,
    /// There is more to do.
    More,
    /// There is nothing more to do for now, and what comes is not scheduled before the queue has been asked
    /// to [`rest`](Serve::rest).
    Watch,
}

/// Where a queue is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The control thread.
    Control,
    /// The I/O thread of this number, taken modulo their count.
    Io(usize),
}

/// The threads shared by all controllers of a machine. Dropping the last reference stops them.
pub struct Engine {
    io: Vec<Arc<Mailbox>>,
    has_ring: bool,
    /// I/O threads can watch eventfds.
    can_watch: bool,
    control: Arc<Control>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: Mutex<Receiver<()>>,
    controllers: AtomicU64,
}

/// What the host lets I/O threads use.
enum Rings {
    Used { can_watch: bool },
    Refused,
}

impl Engine {
    /// Starts the control thread and `io_threads` I/O threads, as many as the host has CPUs where `None`.
    ///
    /// # Errors
    /// What the host says when it refuses a thread or an eventfd.
    pub fn new(io_threads: Option<NonZeroUsize>) -> io::Result<Arc<Self>> {
        let rings = match Ring::new() {
            Ok(ring) => Rings::Used {
                can_watch: ring.can_watch(),
            },
            Err(failure) => {
                info!(
                    "no io_uring on this host ({failure}): NVMe drives read and write on a thread pool"
                );
                Rings::Refused
            }
        };
        Self::start(io_threads, rings)
    }

    /// The same without io_uring, whether or not the host has it: drives read and write on a thread pool.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn without_ring(io_threads: Option<NonZeroUsize>) -> io::Result<Arc<Self>> {
        Self::start(io_threads, Rings::Refused)
    }

    fn start(io_threads: Option<NonZeroUsize>, rings: Rings) -> io::Result<Arc<Self>> {
        let (has_ring, can_watch) = match rings {
            Rings::Used { can_watch } => (true, can_watch),
            Rings::Refused => (false, true),
        };
        let count = match io_threads {
            Some(count) => count.get(),
            None => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let engine = Self::idle(count, has_ring, can_watch)?;
        let (alive, ended) = channel();
        *lock(&engine.ended) = ended;
        let control = Arc::clone(&engine.control);
        let sleep = spin::cost_of_a_sleep();
        debug!(?sleep, "what a sleep and a wake cost here");
        let mut threads = lock(&engine.threads);
        for (index, mailbox) in engine.io.iter().enumerate() {
            let (mailbox, alive) = (Arc::clone(mailbox), alive.clone());
            threads.push(
                thread::Builder::new()
                    .name(format!("nvme-io{index}"))
                    .spawn(move || {
                        mailbox.run(has_ring, sleep);
                        drop(alive);
                    })?,
            );
        }
        threads.push(
            thread::Builder::new()
                .name("nvme-control".into())
                .spawn(move || {
                    control.run();
                    drop(alive);
                })?,
        );
        drop(threads);
        Ok(engine)
    }

    /// An engine whose threads are not there yet.
    fn idle(io_threads: usize, has_ring: bool, can_watch: bool) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            io: (0..io_threads)
                .map(|_| Mailbox::new().map(Arc::new))
                .collect::<io::Result<_>>()?,
            has_ring,
            can_watch,
            control: Arc::new(Control::new()),
            threads: Mutex::new(Vec::with_capacity(io_threads + 1)),
            ended: Mutex::new(channel().1),
            controllers: AtomicU64::new(0),
        }))
    }

    /// The number of I/O threads.
    pub fn io_threads(&self) -> usize {
        self.io.len()
    }

    /// Whether I/O threads use io_uring.
    pub fn has_ring(&self) -> bool {
        self.has_ring
    }

    /// Whether queues can have eventfds watched: an old kernel's io_uring cannot.
    pub(crate) fn can_watch(&self) -> bool {
        self.can_watch
    }

    /// A number that no other controller of the engine has.
    pub(crate) fn next_number(&self) -> u64 {
        self.controllers.fetch_add(1, Ordering::Relaxed)
    }

    /// Has `queue` served at `place` soon.
    pub(crate) fn schedule(&self, place: Place, queue: Arc<dyn Serve>) {
        match place {
            Place::Control => self.control.schedule(queue),
            Place::Io(number) => {
                if let Some(mailbox) = self.io.get(number % self.io.len()) {
                    mailbox.schedule(queue);
                }
            }
        }
    }

    /// Runs `job` on the control thread. Jobs never block.
    pub(crate) fn post(&self, job: Job) {
        self.control.post(job);
    }

    /// Runs `job` on the control thread at `at`, in place of what `key` waited for before.
    pub(crate) fn arm(&self, key: TimerKey, at: Instant, job: Job) {
        self.control.arm(key, at, job);
    }

    /// Forgets what `key` waits for.
    pub(crate) fn disarm(&self, key: TimerKey) {
        self.control.disarm(key);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for mailbox in &self.io {
            mailbox.stop();
        }
        self.control.stop();
        let threads = std::mem::take(&mut *lock(&self.threads));
        // The last reference may go on one of the engine's own threads, which cannot wait for itself.
        let own = thread::current().id();
        if threads.iter().any(|thread| thread.thread().id() == own) {
            return;
        }
        // Each thread holds one end of the channel: it is closed when all have ended.
        match lock(&self.ended).recv_timeout(STOP_WAIT) {
            Err(RecvTimeoutError::Timeout) => warn!("an NVMe I/O thread is stuck in its backend"),
            _ => threads.into_iter().for_each(|thread| {
                let _ = thread.join();
            }),
        }
    }
}

#[cfg(test)]
mod tests;
