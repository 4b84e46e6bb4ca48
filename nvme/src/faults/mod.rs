//! Faults: what a drive is made to do wrong, so that its guest and its host can be rehearsed on a slow, dirty
//! or dying one. A set of them is in force at a time; it is replaced as a whole, at any moment.
//!
//! A drive without faults pays one relaxed load a command.

mod parked;
mod rules;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use devices::latency::Latency;

use crate::gate::lock;
use crate::respond::{Deferred, Outcome};
use crate::spec::{Status, Submission};
use rules::{Rule, Rules};

/// What is wrong with a drive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultSet {
    /// It is gone without a warning: registers and configuration space read as ones, writes have no effect,
    /// and there is no DMA and no interrupt.
    pub removed: bool,
    /// What becomes of a shutdown that the guest asks for.
    pub shutdown: Option<ShutdownFault>,
    /// What becomes of a flush, whether the guest's, a shutdown's or a teardown's.
    pub flush: Option<FlushFault>,
    /// Blocks that cannot be read.
    pub media: Vec<MediaFault>,
    /// Commands that fare otherwise. The first that strikes decides.
    pub commands: Vec<CommandFault>,
}

/// A shutdown that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownFault {
    /// CSTS.SHST stays 01b until the fault is cleared or the controller reset.
    Hang,
    /// CSTS.CFS is set with CC.SHN, and CSTS.SHST stays 01b until the controller is reset.
    Fatal,
}

/// A flush that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushFault {
    /// It says that it failed. What is written is saved all the same, as far as the host can.
    Fail,
    /// It does not end before the fault is cleared.
    Stuck,
}

/// Blocks whose reading fails with Unrecovered Read Error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaFault {
    /// The namespace.
    pub namespace: u32,
    /// The first block.
    pub first_block: u64,
    /// How many.
    pub blocks: u64,
}

/// What becomes of certain commands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommandFault {
    /// Which queues' commands; of all unless given.
    pub queue: Option<QueueKind>,
    /// Which command; every one unless given.
    pub opcode: Option<u8>,
    /// It strikes at the command of this number among those that match, from 1 …
    pub nth: u64,
    /// … and, if set, again after as many each.
    pub every: bool,
    /// What it does to them.
    pub effect: Effect,
}

/// The two kinds of submission queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Queue 0.
    Admin,
    /// All others.
    Io,
}

/// What is done to a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// It is not executed and ends with this status.
    Status(Status),
    /// It is executed so much later.
    Slow(Latency),
    /// It is not executed before the fault is cleared. Abort, the deletion of its queue and every reset
    /// cancel it.
    Stuck,
}

/// The faults in force at a drive.
pub(crate) struct Faults {
    /// Whether a command can be struck at all.
    armed: AtomicBool,
    removed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    flush: Option<FlushFault>,
    rules: Rules,
    /// Commands held up, with the rule that did it.
    parked: Vec<(Arc<Rule>, std::sync::Weak<Deferred>)>,
    /// Flushes that wait for the end of [`FlushFault::Stuck`].
    flushes: Vec<Box<dyn FnOnce() + Send>>,
    /// Numbers the timers of commands held up.
    timers: u64,
}

/// What was held up by faults that are cleared: to be let go with no lock held.
#[must_use]
pub(crate) struct Released {
    commands: Vec<Arc<Deferred>>,
    flushes: Vec<Box<dyn FnOnce() + Send>>,
}

impl Faults {
    /// No fault, and the seed of latencies to come.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            armed: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            state: Mutex::new(State {
                flush: None,
                rules: Rules::new(seed),
                parked: Vec::new(),
                flushes: Vec::new(),
                timers: 0,
            }),
        }
    }

    /// Whether the drive is gone.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Puts `set` in the place of the faults before. A fault that is in both goes on counting.
    pub(crate) fn set(&self, set: &FaultSet) -> Released {
        let mut state = lock(&self.state);
        state.rules.replace(set);
        state.flush = set.flush;
        let (parked, rules) = (std::mem::take(&mut state.parked), &state.rules);
        let (kept, cleared): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|(rule, _)| rules.holds(rule));
        state.parked = kept;
        let flushes = match set.flush {
            Some(FlushFault::Stuck) => Vec::new(),
            _ => std::mem::take(&mut state.flushes),
        };
        self.armed.store(!state.rules.is_empty(), Ordering::Release);
        self.removed.store(set.removed, Ordering::Release);
        let cleared = cleared.into_iter();
        Released {
            commands: cleared.filter_map(|(_, parked)| parked.upgrade()).collect(),
            flushes,
        }
    }

    /// What becomes of `command` of the queue `queue` in place of its execution, if it is struck. The
    /// caller is about to execute it.
    #[inline]
    pub(crate) fn strike(&self, queue: u16, command: &Submission) -> Option<Outcome> {
        // What a guest sends after a change is known to it is seen by its threads in order; nothing else
        // hangs on the moment.
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        let struck = lock(&self.state).rules.strike(queue, command)?;
        Some(parked::outcome(struck))
    }

    /// Whether one of `count` blocks from `first` cannot be read: for commands that do not name in their
    /// dwords what they read.
    pub(crate) fn has_bad_block(&self, namespace: u32, first: u64, count: u64) -> bool {
        self.armed.load(Ordering::Relaxed)
            && lock(&self.state)
                .rules
                .has_bad_block(namespace, first, count)
    }

    /// Whether a flush fails or is held up; `flush` is kept in the latter case and run when it may be.
    pub(crate) fn flush(&self, flush: impl FnOnce(Result<(), Status>) + Send + 'static) {
        let mut state = lock(&self.state);
        let result = match state.flush {
            Some(FlushFault::Stuck) => {
                state.flushes.push(Box::new(move || flush(Ok(()))));
                return;
            }
            Some(FlushFault::Fail) => Err(Status::WRITE_FAULT),
            None => Ok(()),
        };
        drop(state);
        flush(result);
    }
}

impl Released {
    /// Lets everything go.
    pub(crate) fn run(self) {
        for command in self.commands {
            command.resume();
        }
        for flush in self.flushes {
            flush();
        }
    }
}
