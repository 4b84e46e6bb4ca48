//! Interrupts of a session: vectors, held back where the host asked for it, and the pin.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Session;
use crate::coalescing::Verdict;
use crate::engine::{TimerKey, TimerKind};
use crate::gate::lock;
use crate::queue::CompletionQueue;

impl Session {
    /// Interrupts for the entries written to `queue`.
    pub(crate) fn signal(&self, queue: &CompletionQueue) {
        let Some(vector) = queue.vector else { return };
        if self.abandoned.load(Ordering::Acquire) {
            return;
        }
        match self.drive.endpoint.msix() {
            Some(msix) if msix.enabled() => {
                match self.coalescing.judge(vector, || queue.unread()) {
                    Verdict::Send => msix.signal(vector),
                    Verdict::Wait => {}
                    Verdict::Arm(time) => self.signal_after(vector, time),
                }
            }
            _ => self.update_pin(),
        }
    }

    /// Interrupts by `vector`, in so much time, for what then waits for the guest.
    fn signal_after(&self, vector: u16, time: Duration) {
        let key = TimerKey {
            owner: self.drive.number,
            kind: TimerKind::Interrupt(vector),
        };
        let me = self.me.clone();
        let job = Box::new(move || {
            let Some(session) = me.upgrade() else { return };
            // With a pass no interrupt is sent once the session is over.
            let Some(_pass) = session.gate.enter() else {
                return;
            };
            session.coalescing.fired(vector);
            let of_vector =
                |queue: &CompletionQueue| queue.vector == Some(vector) && queue.unread() > 0;
            let waits = (session.completions.iter())
                .any(|queue| queue.load().as_deref().is_some_and(of_vector));
            if let Some(msix) = session.drive.endpoint.msix()
                && waits
            {
                msix.signal(vector);
            }
        });
        let engine = &self.drive.engine;
        engine.arm(key, Instant::now() + time, job);
    }

    /// Brings the interrupt pin to what queues and INTMS say. Without effect on the line under MSI-X.
    pub(crate) fn update_pin(&self) {
        let _order = lock(&self.pin);
        let unread = |queue: &CompletionQueue| queue.vector.is_some() && queue.has_unread();
        let pending = !self.drive.pin_masked()
            && self.gate.is_open()
            && (self.completions.iter()).any(|queue| queue.load().as_deref().is_some_and(unread));
        self.drive.endpoint.set_interrupt(pending);
    }
}
