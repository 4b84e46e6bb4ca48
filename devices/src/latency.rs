//! Latencies that a device is made to have: fixed, or drawn from a distribution, so that a rehearsal varies
//! as real drives do and can still be repeated. A draw is a function of the seed, of what is drawn for, and
//! of how many were drawn for it before; nothing else, so that a change of one model moves no other's values.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, LogNormal, Uniform};

/// The longest latency there is, and where the tail of a distribution is cut: a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The standard score of the 99.9th percentile.
const PERCENTILE_99_9: f64 = 3.090_232_306_167_813;
const MIB: f64 = (1 << 20) as f64;

/// A modelled latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Always the same.
    Fixed(Duration),
    /// Anything between the two, each as likely.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest, no shorter than `min`.
        max: Duration,
    },
    /// Log-normal: half of them are below the median, a few far above.
    LogNormal {
        /// The median.
        median: Duration,
        /// The standard deviation of the logarithm, finite and not negative; 0 always gives the median.
        sigma: f64,
    },
    /// In proportion to the bytes that were written since the last flush.
    Written {
        /// With nothing written.
        base: Duration,
        /// Milliseconds more for every MiB, finite and not negative.
        ms_per_mib: f64,
        /// No longer than this, however much was written.
        cap: Duration,
    },
}

impl Default for Latency {
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

impl From<Duration> for Latency {
    fn from(latency: Duration) -> Self {
        Self::Fixed(latency)
    }
}

/// What a latency is drawn for. Each has values of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A normal shutdown by the guest.
    Shutdown,
    /// An abrupt shutdown by the guest.
    AbruptShutdown,
    /// The host-side teardown.
    Teardown,
    /// A command that is made slow by the rule of this number.
    Command(u16),
}

impl Purpose {
    /// The upper bits of the generator's stream; the number of the draw is below.
    fn stream(self) -> u64 {
        let number = match self {
            Self::Shutdown => 0,
            Self::AbruptShutdown => 1,
            Self::Teardown => 2,
            Self::Command(rule) => 0x100 + u64::from(rule),
        };
        number << 40
    }
}

impl Latency {
    /// Whether it is always nothing.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// What the draw of number `n` (from 0) for `purpose` comes to under `seed`, with `written` bytes
    /// since the last flush. Never longer than [`LONGEST`].
    pub fn draw(&self, seed: u64, purpose: Purpose, n: u64, written: u64) -> Duration {
        let generator = || {
            // Published, and the same on every host; a stream a draw, so that the values before it need
            // not be drawn to know it.
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(purpose.stream() | n & ((1 << 40) - 1));
            generator
        };
        let drawn = match *self {
            Self::Fixed(latency) => latency,
            Self::Uniform { min, max } => Uniform::new_inclusive(nanos(min), nanos(max))
                .map_or(min, |uniform| {
                    Duration::from_nanos(uniform.sample(&mut generator()))
                }),
            Self::LogNormal { median, sigma } => LogNormal::new(median.as_secs_f64().ln(), sigma)
                .map_or(median, |log_normal| {
                    seconds(log_normal.sample(&mut generator()))
                }),
            Self::Written {
                base,
                ms_per_mib,
                cap,
            } => {
                let more = seconds(written as f64 / MIB * ms_per_mib / 1000.0);
                base.saturating_add(more).min(cap)
            }
        };
        drawn.min(LONGEST)
    }

    /// What to expect: the mean of a uniform latency, the median of a log-normal one, and of one in
    /// proportion to what is written what it is with nothing written.
    pub fn typical(&self) -> Duration {
        match *self {
            Self::Fixed(latency) => latency,
            Self::Uniform { min, max } => min + max.saturating_sub(min) / 2,
            Self::LogNormal { median, .. } => median,
            Self::Written { base, cap, .. } => base.min(cap),
        }
    }

    /// What it exceeds hardly ever: the longest that it can be, or the 99.9th percentile of a log-normal one.
    pub fn bound(&self) -> Duration {
        let bound = match *self {
            Self::Fixed(latency) => latency,
            Self::Uniform { max, .. } => max,
            Self::LogNormal { median, sigma } => {
                seconds(median.as_secs_f64() * (sigma * PERCENTILE_99_9).exp())
            }
            Self::Written { cap, .. } => cap,
        };
        bound.min(LONGEST)
    }
}

/// The seed of a device that was given none, made of its name: the same at every start.
pub fn seed_of(id: &str) -> u64 {
    // 64 bits FNV-1a.
    id.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds as a duration; what is no duration is the longest.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |duration| duration.min(LONGEST))
}

#[cfg(test)]
mod tests;
