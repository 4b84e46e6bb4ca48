//! Interrupt coalescing (base 2.0, sections 5.27.1.6 and 5.27.1.7): interrupts of an I/O vector are held back
//! until enough entries wait for the guest, or the first of them has waited long enough.
//!
//! Off, as a host finds it, it costs one relaxed load an interrupt.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A unit of the aggregation time.
const TIME_UNIT: Duration = Duration::from_micros(100);

/// See the module's header.
pub(crate) struct Coalescing {
    /// The feature's dword: entries, zero-based, in bits 7:0, the time in bits 15:8.
    setting: AtomicU32,
    vectors: Box<[Vector]>,
}

#[derive(Default)]
struct Vector {
    /// The host wants every interrupt of it.
    disabled: AtomicBool,
    /// A timer runs that will interrupt.
    armed: AtomicBool,
}

/// What becomes of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent.
    Send,
    /// A timer that runs already sends it.
    Wait,
    /// A timer is to be armed that sends it after this time, by [`Coalescing::fired`].
    Arm(Duration),
}

impl Coalescing {
    /// None for any of `vectors` vectors.
    pub(crate) fn new(vectors: u16) -> Self {
        Self {
            setting: AtomicU32::new(0),
            vectors: (0..vectors).map(|_| Vector::default()).collect(),
        }
    }

    /// Feature 08h.
    pub(crate) fn set(&self, dword: u32) {
        self.setting.store(dword & 0xFFFF, Ordering::Relaxed);
    }

    /// Feature 09h: whether the host wants every interrupt of a vector.
    pub(crate) fn disable(&self, vector: u16, disabled: bool) {
        if let Some(vector) = self.vectors.get(usize::from(vector)) {
            vector.disabled.store(disabled, Ordering::Relaxed);
        }
    }

    /// What becomes of an interrupt of `vector` when `unread` says how many entries wait for the guest.
    #[inline]
    pub(crate) fn judge(&self, vector: u16, unread: impl FnOnce() -> u32) -> Verdict {
        let setting = self.setting.load(Ordering::Relaxed);
        if setting == 0 {
            return Verdict::Send;
        }
        let (threshold, time) = (setting & 0xFF, setting >> 8);
        // The admin queue's vector is never held back, and no time is no delay.
        let place = self.vectors.get(usize::from(vector));
        let Some(place) = place.filter(|_| vector != 0 && time != 0) else {
            return Verdict::Send;
        };
        if place.disabled.load(Ordering::Relaxed) || unread() > threshold {
            return Verdict::Send;
        }
        if place.armed.swap(true, Ordering::AcqRel) {
            return Verdict::Wait;
        }
        Verdict::Arm(TIME_UNIT * time)
    }

    /// The timer of `vector` has ended. From now on another one is armed; call before the entries that wait
    /// are looked at.
    pub(crate) fn fired(&self, vector: u16) {
        if let Some(vector) = self.vectors.get(usize::from(vector)) {
            vector.armed.swap(false, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five entries, or 0.3 ms.
    const SETTING: u32 = 3 << 8 | 4;

    #[test]
    fn nothing_is_held_back_unless_asked_for() {
        let coalescing = Coalescing::new(3);
        assert_eq!(coalescing.judge(1, || 1), Verdict::Send);
        coalescing.set(4);
        assert_eq!(coalescing.judge(1, || 1), Verdict::Send, "no time");
        coalescing.set(SETTING);
        assert_eq!(coalescing.judge(0, || 1), Verdict::Send, "admin");
        coalescing.disable(2, true);
        assert_eq!(coalescing.judge(2, || 1), Verdict::Send, "disabled");
        assert_eq!(coalescing.judge(9, || 1), Verdict::Send, "no such vector");
    }

    #[test]
    fn the_first_entry_arms_a_timer_and_the_last_one_sends() {
        let coalescing = Coalescing::new(3);
        coalescing.set(SETTING);
        let time = Duration::from_micros(300);
        assert_eq!(coalescing.judge(1, || 1), Verdict::Arm(time));
        assert_eq!(coalescing.judge(1, || 4), Verdict::Wait);
        assert_eq!(coalescing.judge(2, || 1), Verdict::Arm(time), "its own");
        assert_eq!(coalescing.judge(1, || 5), Verdict::Send);
        coalescing.fired(1);
        assert_eq!(coalescing.judge(1, || 1), Verdict::Arm(time));
    }
}
