//! Instants as nanoseconds of CLOCK_MONOTONIC.

use std::time::Instant;

/// A pair of readings of one moment, which turns instants into numbers.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    ns: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            instant: Instant::now(),
            ns: api::clock::monotonic_ns(),
        }
    }
}

impl Clock {
    /// `at` in nanoseconds of CLOCK_MONOTONIC.
    pub fn ns(&self, at: Instant) -> u64 {
        match at.checked_duration_since(self.instant) {
            Some(later) => self.ns + later.as_nanos() as u64,
            None => self
                .ns
                .saturating_sub((self.instant - at).as_nanos() as u64),
        }
    }
}
