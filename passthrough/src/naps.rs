//! Naps that double, between two looks at what tells nobody when it changes.

use std::thread;
use std::time::Duration;

use devices::lifecycle::Deadline;

/// See the module's header.
#[derive(Clone, Copy, Debug)]
pub struct Naps {
    next: Duration,
    longest: Duration,
}

impl Naps {
    /// The first of them is a millisecond.
    pub fn up_to(longest: Duration) -> Self {
        Self {
            next: Duration::from_millis(1),
            longest,
        }
    }

    /// Takes one.
    pub fn sleep(&mut self) {
        thread::sleep(self.next);
        self.next = (self.next * 2).min(self.longest);
    }

    /// Takes one unless `by` comes first; says whether it did.
    pub fn sleep_before(&mut self, by: Deadline) -> bool {
        let has_time = by.remaining() > self.next;
        if has_time {
            self.sleep();
        }
        has_time
    }
}

impl Default for Naps {
    /// Of up to 50 milliseconds: what is looked at takes the kernel a moment.
    fn default() -> Self {
        Self::up_to(Duration::from_millis(50))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_double_up_to_the_longest_and_none_outlasts_its_deadline() {
        let mut naps = Naps::up_to(Duration::from_millis(3));
        let lengths = [1, 2, 3, 3].map(|length| {
            let next = naps.next;
            naps.sleep();
            next == Duration::from_millis(length)
        });
        assert_eq!(lengths, [true; 4]);
        assert!(!naps.sleep_before(Deadline::after(Duration::ZERO)));
        assert!(naps.sleep_before(Deadline::after(Duration::from_secs(20))));
    }
}
