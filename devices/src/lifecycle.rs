//! What the device manager shuts down: the lifecycle every device of a machine has.

use std::time::{Duration, Instant};

use crate::guest_acts::GuestActs;

/// The moment by which a device must have been shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `budget` from now.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The deadline at `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// A named stretch of one device's teardown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What was done: `quiesce`, `flush`, `reset`, …
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended; may lie ahead where the phase is a modelled latency.
    pub end: Instant,
}

/// The phases of one device's teardown, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    phases: Vec<Phase>,
    modelled: Option<Duration>,
}

impl Phases {
    /// Runs `work` and records it as the phase `name`.
    pub fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.record(name, start, Instant::now());
        result
    }

    /// Records a phase that was timed elsewhere.
    pub fn record(&mut self, name: &'static str, start: Instant, end: Instant) {
        self.phases.push(Phase { name, start, end });
    }

    /// Records the latency that the device is made to have this time, before anything cuts it short.
    pub fn model(&mut self, latency: Duration) {
        self.modelled = Some(latency);
    }

    /// The modelled latency; none if the device has none.
    pub fn modelled(&self) -> Option<Duration> {
        self.modelled
    }

    /// The phases so far.
    pub fn as_slice(&self) -> &[Phase] {
        &self.phases
    }
}

/// When a device whose work is done counts as shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// At once.
    Now,
    /// At this moment: a modelled latency, waited for by a timer and not by a thread.
    At(Instant),
}

/// Why a device could not be shut down.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// The deadline passed.
    #[error("{doing} did not end before the deadline")]
    DeadlinePassed {
        /// What was being done.
        doing: String,
    },
    /// The device did not end in an earlier teardown and is no part of the machine any more.
    #[error(
        "it was given up in an earlier teardown and stays quarantined until the machine is created anew"
    )]
    GivenUp,
    /// The host refused an operation.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: String,
        /// The host's error.
        source: std::io::Error,
    },
}

/// A device of the machine, from the device manager's side.
pub trait Device: Send + Sync {
    /// Quiesces and resets the device. Called once a teardown, with all vCPUs paused and everything
    /// behind the device (children, consumers) shut down before.
    ///
    /// After `Ok`: no DMA and no interrupt from this device until its guest driver starts it anew, and
    /// guest-visible state as after power-on. Host resources (files, eventfds, mappings) stay.
    fn shut_down(&self, by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError>;

    /// Whether nothing of the device can reach guest memory any more. Asked of a device that was given up
    /// in its teardown: one that is not quiet keeps the machine from booting in that memory.
    fn is_quiet(&self) -> bool {
        true
    }

    /// What the guest has done to the device since it was powered on: in the present boot, and since its
    /// driver last started it where a device is started. Asked with all vCPUs paused, before `shut_down`,
    /// after which it is forgotten.
    fn guest_acts(&self) -> GuestActs {
        GuestActs::default()
    }

    /// Gives host resources back: at unplug and when the machine is deleted, after `shut_down`.
    fn release(&self);
}
