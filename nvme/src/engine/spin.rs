//! How long a thread stays awake before it sleeps: as long as that has paid lately, and no longer.

use std::hint::spin_loop;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, yield_now};
use std::time::{Duration, Instant};

use crate::gate::lock;

const SHORTEST: Duration = Duration::from_micros(4);
/// About what a sleep and a wake cost on most hosts.
const USUAL: Duration = Duration::from_micros(32);
/// Whatever they cost: a thread that is awake takes a CPU from the guest's.
const MOST: Duration = Duration::from_millis(1);
/// Wakes of which the quickest tells what one costs: others had to wait for a CPU.
const TRIES: usize = 8;

/// Grows while sleeps turn out shorter than it could have stayed awake, shrinks when they do not.
#[derive(Debug)]
pub(super) struct Spin {
    budget: Duration,
    /// The longest it looks out for work before it sleeps.
    longest: Duration,
}

/// What a sleep and a wake cost on this host, within bounds. More where the host is itself a virtual machine: a wake
/// takes interrupts between CPUs there.
pub(super) fn cost_of_a_sleep() -> Duration {
    let cost = quickest_wake().unwrap_or(USUAL);
    cost.clamp(USUAL, MOST)
}

/// From the signal of one thread to another one that sleeps, and back.
fn quickest_wake() -> io::Result<Duration> {
    // Odd when it is the other thread's turn.
    let (turn, changed) = (Mutex::new(0_u32), Condvar::new());
    let pass_on = |mut turn: MutexGuard<'_, u32>| {
        *turn += 1;
        changed.notify_all();
    };
    let wait_for = |parity: u32| {
        let turn = changed.wait_while(lock(&turn), |turn| *turn % 2 != parity);
        turn.unwrap_or_else(PoisonError::into_inner)
    };
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || {
            (0..TRIES).for_each(|_| pass_on(wait_for(1)));
        })?;
        let tries = (0..TRIES).map(|_| {
            let begin = Instant::now();
            pass_on(wait_for(0));
            drop(wait_for(0));
            begin.elapsed()
        });
        Ok(tries.min().unwrap_or(USUAL))
    })
}

impl Spin {
    /// Stays awake for no longer than this.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            budget: Duration::ZERO,
            longest,
        }
    }

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
        self.budget = if wait <= 2 * self.longest {
            (self.budget * 2).clamp(SHORTEST, self.longest)
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
        let mut spin = Spin::up_to(USUAL);
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
        assert_eq!(spin.budget, USUAL);
        assert!(!spin.wait(Instant::now(), poll));
        assert!(polls.get() > 0);
        assert!(spin.wait(Instant::now(), || true));
        for _ in 0..10 {
            spin.slept(Duration::from_millis(1));
        }
        assert_eq!(spin.budget, Duration::ZERO);
    }

    #[test]
    fn what_is_a_short_sleep_depends_on_what_a_sleep_costs() {
        let sleep = Duration::from_micros(500);
        for (cost, budget) in [(USUAL, Duration::ZERO), (MOST, MOST)] {
            let mut spin = Spin::up_to(cost);
            for _ in 0..10 {
                spin.slept(sleep);
            }
            assert_eq!(spin.budget, budget, "{cost:?}");
        }
    }

    #[test]
    fn a_wake_is_measured() {
        let cost = quickest_wake().unwrap();
        assert!(
            cost > Duration::ZERO && cost < Duration::from_secs(20),
            "{cost:?}"
        );
    }
}
