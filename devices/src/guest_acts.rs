//! What a guest does to a device on its way down, as the device notes it at its registers: how often each
//! kind of act came, when first and when last, and the shutdown handshake. Constant memory, however often
//! a guest repeats itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a guest does to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// CC.EN went from 0 to 1 (NVMe base 2.0, section 3.1.3.5).
    Enable,
    /// A Delete I/O Submission Queue command succeeded (NVMe base 2.0, section 5.7).
    DeleteSubmissionQueue,
    /// A Delete I/O Completion Queue command succeeded (NVMe base 2.0, section 5.6).
    DeleteCompletionQueue,
    /// CC.SHN was set to 01b, a normal shutdown.
    ShutdownNormal,
    /// CC.SHN was set to 10b, an abrupt shutdown.
    ShutdownAbrupt,
    /// A read of CSTS while the shutdown was occurring, or the first that saw it complete.
    Poll,
    /// CC.EN went from 1 to 0.
    Disable,
    /// Bus mastering was switched off in the command register.
    BusMasterOff,
    /// A function level reset was initiated (PCIe base 6.0, section 6.6.2).
    FunctionReset,
    /// Secondary Bus Reset went from 0 to 1 in a bridge's control register (PCIe base 6.0, section 7.5.1.3.13).
    SecondaryBusReset,
    /// The NVM subsystem was reset by its register NSSR (NVMe base 2.0, section 3.7.1).
    SubsystemReset,
}

impl Act {
    /// All of them, in the order in which a driver comes to them.
    pub const ALL: [Self; 11] = [
        Self::Enable,
        Self::DeleteSubmissionQueue,
        Self::DeleteCompletionQueue,
        Self::ShutdownNormal,
        Self::ShutdownAbrupt,
        Self::Poll,
        Self::Disable,
        Self::BusMasterOff,
        Self::FunctionReset,
        Self::SecondaryBusReset,
        Self::SubsystemReset,
    ];
}

/// When one kind of act came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The first time.
    pub first: Instant,
    /// The last time.
    pub last: Instant,
    /// How often.
    pub count: u64,
}

/// An NVMe shutdown handshake (NVMe base 2.0, section 3.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// CC.SHN was written.
    pub requested: Instant,
    /// With 10b: an abrupt shutdown.
    pub abrupt: bool,
    /// What the drive is made to take; real flushing may take longer.
    pub modelled: Duration,
    /// CSTS.SHST came to 10b.
    pub completed: Option<Instant>,
    /// The first read of CSTS that said so.
    pub seen: Option<Instant>,
    /// Reads of CSTS from the request up to that one.
    pub polls: u64,
}

impl Handshake {
    /// A handshake that begins.
    pub fn begin(requested: Instant) -> Self {
        Self {
            requested,
            abrupt: false,
            modelled: Duration::ZERO,
            completed: None,
            seen: None,
            polls: 0,
        }
    }
}

/// What the guest did to one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestActs {
    times: [Option<Times>; Act::ALL.len()],
    /// The handshake that was begun last.
    pub handshake: Option<Handshake>,
}

impl GuestActs {
    /// Notes that `act` came `at` this moment.
    pub fn note(&mut self, act: Act, at: Instant) {
        let Some(slot) = self.times.get_mut(act as usize) else {
            return;
        };
        let times = slot.get_or_insert(Times {
            first: at,
            last: at,
            count: 0,
        });
        times.last = at;
        times.count = times.count.saturating_add(1);
    }

    /// Notes a read of CSTS during a handshake; `complete` says whether it showed the end. Reads after
    /// the first that did are nothing that the guest waited for.
    pub fn poll(&mut self, complete: bool, at: Instant) {
        let Some(handshake) = self.handshake.as_mut().filter(|last| last.seen.is_none()) else {
            return;
        };
        handshake.polls = handshake.polls.saturating_add(1);
        if complete {
            handshake.seen = Some(at);
        }
        self.note(Act::Poll, at);
    }

    /// When `act` came, if it did.
    pub fn of(&self, act: Act) -> Option<Times> {
        self.times.get(act as usize).copied().flatten()
    }

    /// What came, by kind.
    pub fn iter(&self) -> impl Iterator<Item = (Act, Times)> {
        Act::ALL
            .into_iter()
            .filter_map(|act| Some((act, self.of(act)?)))
    }

    /// Whether the guest has done nothing.
    pub fn is_empty(&self) -> bool {
        self.handshake.is_none() && self.times.iter().all(Option::is_none)
    }
}

/// A device's notes, for any thread. The lock is a leaf, held for a few stores and never over a call.
#[derive(Debug, Default)]
pub struct ActLog(Mutex<GuestActs>);

impl ActLog {
    /// Notes that `act` comes now.
    pub fn note(&self, act: Act) {
        let now = Instant::now();
        self.acts().note(act, now);
    }

    /// Notes whatever `change` has to note.
    pub fn change(&self, change: impl FnOnce(&mut GuestActs)) {
        change(&mut self.acts());
    }

    /// What was noted since the log began anew.
    pub fn read(&self) -> GuestActs {
        *self.acts()
    }

    /// Forgets everything: at the end of the device's teardown, and when its driver starts it anew.
    pub fn begin_anew(&self) {
        *self.acts() = GuestActs::default();
    }

    fn acts(&self) -> MutexGuard<'_, GuestActs> {
        // Half a note is still a note.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_the_last_and_the_count_of_each_kind_are_kept() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut acts = GuestActs::default();
        assert!(acts.is_empty());
        for ms in [3, 5, 9] {
            acts.note(Act::DeleteSubmissionQueue, at(ms));
        }
        acts.note(Act::SecondaryBusReset, at(4));
        let times = acts.of(Act::DeleteSubmissionQueue).unwrap();
        assert_eq!((times.first, times.last, times.count), (at(3), at(9), 3));
        let kinds: Vec<_> = acts.iter().map(|(act, _)| act).collect();
        assert_eq!(kinds, [Act::DeleteSubmissionQueue, Act::SecondaryBusReset]);
        assert!(!acts.is_empty());
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        for (index, act) in Act::ALL.into_iter().enumerate() {
            assert_eq!(act as usize, index, "{act:?}");
        }
    }

    #[test]
    fn polls_count_up_to_the_first_that_sees_the_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut acts = GuestActs::default();
        acts.poll(true, at(0));
        assert!(acts.is_empty(), "there is no handshake to wait for");
        acts.handshake = Some(Handshake::begin(at(1)));
        for (ms, complete) in [(2, false), (3, false), (7, true), (8, true), (9, true)] {
            acts.poll(complete, at(ms));
        }
        let handshake = acts.handshake.unwrap();
        assert_eq!((handshake.polls, handshake.seen), (3, Some(at(7))));
        let polls = acts.of(Act::Poll).unwrap();
        assert_eq!((polls.first, polls.last, polls.count), (at(2), at(7), 3));
    }

    #[test]
    fn a_log_that_begins_anew_is_empty() {
        let log = ActLog::default();
        log.note(Act::BusMasterOff);
        assert_eq!(log.read().of(Act::BusMasterOff).unwrap().count, 1);
        log.begin_anew();
        assert!(log.read().is_empty());
    }
}
