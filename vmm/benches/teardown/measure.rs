//! Times taken many times over, held against bounds, printed in rows.

use std::time::{Duration, Instant};

use api::config::TeardownPolicy;

/// What rounds of the same took.
pub struct Times(Vec<Duration>);

/// A figure of a round, or none: then the round itself is timed.
pub trait Round {
    fn took(self, since: Instant) -> Duration;
}

impl Round for () {
    fn took(self, since: Instant) -> Duration {
        since.elapsed()
    }
}

impl Round for Duration {
    fn took(self, _: Instant) -> Duration {
        self
    }
}

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Runs `rounds` rounds.
    pub fn of<R: Round>(rounds: usize, mut round: impl FnMut() -> R) -> Self {
        let times = (0..rounds).map(|_| {
            let start = Instant::now();
            round().took(start)
        });
        Self::new(times.collect())
    }

    pub fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// What the host disturbed least.
    pub fn least(&self) -> Duration {
        self.0[0]
    }

    /// Held against a bound on the whole.
    pub fn within(&self, bound: Duration) -> Bound {
        Bound {
            figure: format!("≤ {bound:?}"),
            met: self.median() <= bound,
        }
    }

    /// Held against a bound on each of `devices`.
    pub fn within_each(&self, devices: usize, bound: Duration) -> Bound {
        let each = |total: Duration| total.as_secs_f64() * 1e6 / devices as f64;
        Bound {
            figure: format!(
                "{:.2} µs a device, least {:.2}, ≤ {bound:?}",
                each(self.median()),
                each(self.least())
            ),
            met: self.median() <= bound * devices as u32,
        }
    }

    /// Held against what something else took.
    pub fn within_ratio(&self, other: &Self, bound: f64) -> Bound {
        let ratio = self.median().as_secs_f64() / other.median().as_secs_f64();
        let least = self.least().as_secs_f64() / other.least().as_secs_f64();
        Bound {
            figure: format!("{ratio:.2} × plain, least {least:.2}, ≤ {bound}"),
            met: ratio <= bound,
        }
    }
}

/// A figure held against its bound.
pub struct Bound {
    pub figure: String,
    pub met: bool,
}

pub fn head() {
    println!(
        "{:<46} {:<10} {:>12} {:>12}  bound",
        "teardown", "policy", "median", "least"
    );
}

pub fn row(label: &str, policy: TeardownPolicy, times: &Times, bound: Bound) {
    let us = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
    println!(
        "{label:<46} {:<10} {:>12} {:>12}  {}: {}",
        format!("{policy:?}"),
        us(times.median()),
        us(times.least()),
        bound.figure,
        verdict(bound.met)
    );
}

pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
