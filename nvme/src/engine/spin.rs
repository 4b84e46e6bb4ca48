//! How long a thread stays awake before it sleeps: as long as that has paid lately, and no longer.

use std::hint::spin_loop;
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// The longest a thread looks out for work before it sleeps. About what a sleep and a wake cost.
const LONGEST: Duration = Duration::from_micros(32);
const SHORTEST: Duration = Duration::from_micros(4);

/// Grows while sleeps turn out shorter than it could have stayed awake, shrinks when they do not.
#[derive(Debug, Default)]
pub(super) struct Spin {
    budget: Duration,
}

impl Spin {
    /// Looks for `ready` from `since` on, within the budget. Returns whether it came.
    pub(super) fn wait(&self, since: Instant, ready: impl Fn() -> bool) -> bool {
        if self.budget.is_zero() {
            return false;
        }
        loop {
            for _ in 0..16 {
                if ready() {
                    return true;
                }
                spin_loop();
            }
            if since.elapsed() >= self.budget {
                return false;
            }
            // What is waited for may itself wait for this CPU: the guest's driver, or a thread that the
            // kernel has given a transfer to.
            yield_now();
        }
    }

    /// A wait, the time awake included, took `wait` although the thread slept in it.
    pub(super) fn slept(&mut self, wait: Duration) {
        self.budget = if wait <= 2 * LONGEST {
            (self.budget * 2).clamp(SHORTEST, LONGEST)
        } else {
            let less = self.budget / 2;
            if less < SHORTEST {
                Duration::ZERO
            } else {
                less
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_make_it_stay_awake_and_long_ones_sleep() {
        let mut spin = Spin::default();
        let polls = std::cell::Cell::new(0);
        let poll = || {
            polls.set(polls.get() + 1);
            false
        };
        assert!(!spin.wait(Instant::now(), poll));
        assert_eq!(polls.get(), 0, "nothing says yet that it pays");
        for _ in 0..10 {
            spin.slept(Duration::from_micros(10));
        }
        assert_eq!(spin.budget, LONGEST);
        assert!(!spin.wait(Instant::now(), poll));
        assert!(polls.get() > 0);
        assert!(spin.wait(Instant::now(), || true));
        for _ in 0..10 {
            spin.slept(Duration::from_millis(1));
        }
        assert_eq!(spin.budget, Duration::ZERO);
    }
}
