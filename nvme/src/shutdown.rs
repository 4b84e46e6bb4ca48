//! How long the drive takes to shut down: the model of CC.SHN, what Identify says of it, and where a
//! shutdown under way stands.
//!
//! ```text
//! Normal ── SHN ≠ 0 ──▶ Occurring { timer, flush } ── both ended ──▶ Complete
//!    ▲                        │ a flush failed: CSTS.CFS                 │
//!    └────────────── controller reset (EN 1→0, FLR, bus reset) ─────────┘
//! ```

use std::time::Duration;

use devices::latency::{Latency, Purpose};

use crate::faults::FaultSet;
use crate::spec::registers::ShutdownKind;

/// How a drive behaves, beyond what the specification asks of every one. It can be changed at any moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// The guest-visible shutdown.
    pub shutdown: ShutdownModel,
    /// What the host-side teardown is made to take, from its start; real work overlaps it.
    pub teardown: Latency,
    /// What is wrong with it.
    pub faults: FaultSet,
}

/// The time between CC.SHN and CSTS.SHST = 10b. Real flushing overlaps it, and may outlast it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShutdownModel {
    /// For a normal shutdown (SHN = 01b).
    pub latency: Latency,
    /// For an abrupt shutdown (SHN = 10b).
    pub abrupt_latency: Latency,
    /// What Identify's RTD3E says. Unless given, it follows from the latencies.
    pub estimate: Option<Duration>,
}

/// What a real flush may take on top of the modelled latency.
const FLUSH_ALLOWANCE: Duration = Duration::from_secs(1);

impl ShutdownModel {
    /// The latency of this kind of shutdown, and what it is drawn for.
    pub(crate) fn of(&self, kind: ShutdownKind) -> (Latency, Purpose) {
        match kind {
            ShutdownKind::Normal => (self.latency, Purpose::Shutdown),
            ShutdownKind::Abrupt => (self.abrupt_latency, Purpose::AbruptShutdown),
        }
    }

    /// What Identify's RTD3E says: the longest a shutdown is expected to take, in microseconds there.
    ///
    /// Linux waits whole seconds of it, clamped to 5..60, so that one second more than the latency keeps
    /// it waiting long enough for every latency that it can wait for at all.
    pub fn estimate(&self) -> Duration {
        let bound = self.latency.bound().max(self.abrupt_latency.bound());
        self.estimate.unwrap_or(bound + FLUSH_ALLOWANCE)
    }
}

/// See the module's header. `epoch` tells the timer and flush of one shutdown from those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shutdown {
    #[default]
    Normal,
    Occurring {
        timer: bool,
        flush: bool,
    },
    Complete,
}

impl Shutdown {
    /// CSTS.SHST.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Occurring { .. } => 1,
            Self::Complete => 2,
        }
    }

    /// One of the two parts ended.
    pub(crate) fn end(&mut self, part: Part) {
        if let Self::Occurring { timer, flush } = self {
            match part {
                Part::Timer => *timer = true,
                Part::Flush => *flush = true,
            }
        }
    }

    /// Makes a shutdown complete whose parts have both ended. Returns whether this did it.
    pub(crate) fn complete(&mut self) -> bool {
        let both = Self::Occurring {
            timer: true,
            flush: true,
        };
        let ended = *self == both;
        if ended {
            *self = Self::Complete;
        }
        ended
    }
}

/// What a shutdown waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The modelled latency.
    Timer,
    /// The flush of every namespace.
    Flush,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_completes_when_both_parts_have_ended() {
        let mut shutdown = Shutdown::Normal;
        shutdown.end(Part::Timer);
        assert!(!shutdown.complete());
        assert_eq!(shutdown.status(), 0);
        shutdown = Shutdown::Occurring {
            timer: false,
            flush: false,
        };
        shutdown.end(Part::Flush);
        assert!(!shutdown.complete());
        assert_eq!(shutdown.status(), 1);
        shutdown.end(Part::Timer);
        assert!(shutdown.complete());
        assert_eq!(shutdown.status(), 2);
        assert!(!shutdown.complete(), "it is already");
    }

    #[test]
    fn the_estimate_keeps_linux_waiting_for_every_latency_below_a_minute() {
        for millis in (0..59_000).step_by(77) {
            let model = ShutdownModel {
                latency: Duration::from_millis(millis).into(),
                ..ShutdownModel::default()
            };
            let waits = model.estimate().as_secs().clamp(5, 60) * 1000;
            assert!(waits > millis, "{millis} ms");
            if millis >= 5000 {
                assert!(model.estimate() >= Duration::from_millis(millis + 1000));
            }
        }
    }

    #[test]
    fn the_estimate_covers_what_varies_unless_it_is_given() {
        let abrupt_latency = Latency::Uniform {
            min: Duration::ZERO,
            max: Duration::from_secs(7),
        };
        let mut model = ShutdownModel {
            abrupt_latency,
            ..ShutdownModel::default()
        };
        assert_eq!(model.estimate(), Duration::from_secs(8));
        model.latency = Latency::LogNormal {
            median: Duration::from_secs(10),
            sigma: 0.5,
        };
        assert_eq!(model.estimate().as_secs(), 47, "its 99.9th percentile");
        model.estimate = Some(Duration::from_secs(3));
        assert_eq!(model.estimate(), Duration::from_secs(3));
    }
}
