//! What the threads of a teardown wait with: a lock, a condition, a clock. The tests that explore the
//! threads' schedules put others in their place.

use std::sync::PoisonError;
use std::time::Instant;

pub(super) use std::sync::MutexGuard;

/// A lock that outlives a panic of its holder.
#[derive(Debug)]
pub(super) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What threads wait on; they may wake for no reason.
#[derive(Debug, Default)]
pub(super) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits no longer than until `at`.
    pub(super) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        at: Instant,
    ) -> MutexGuard<'a, T> {
        let left = at.saturating_duration_since(now());
        let waited = self.0.wait_timeout(guard, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(super) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The moment, on the clock that `wait_until` goes by.
pub(super) fn now() -> Instant {
    Instant::now()
}
