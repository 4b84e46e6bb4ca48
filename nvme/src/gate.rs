//! The gate: who is at work on behalf of a queue or of a whole session, and the way to know that nobody
//! is any more. Threads pass it before they touch guest memory; closing it lets nobody else in.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use devices::lifecycle::Deadline;

type Then = Box<dyn FnOnce() + Send>;

/// Locks, also after a panic elsewhere: every structure here is valid between any two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module's header.
pub(crate) struct Gate {
    /// Those inside, and [`CLOSED`].
    state: AtomicU64,
    then: Mutex<VecDeque<Then>>,
    emptied: Condvar,
}

/// The bit of the state that says that nobody else gets in.
const CLOSED: u64 = 1 << 63;

/// The right to work behind a gate, given back when dropped. One that is used within a call borrows the gate.
pub(crate) struct Pass<G: Deref<Target = Gate> = Arc<Gate>>(G);

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(0),
            then: Mutex::default(),
            emptied: Condvar::new(),
        })
    }

    /// Lets the caller in while the gate is open.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        // A pass in either case: one that came too late leaves again as any other does.
        let pass = Pass(Arc::clone(self));
        (before & CLOSED == 0).then_some(pass)
    }

    /// The same, for work that ends before the caller returns.
    pub(crate) fn enter_briefly(&self) -> Option<Pass<&Self>> {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        let pass = Pass(self);
        (before & CLOSED == 0).then_some(pass)
    }

    /// Whether work may go on; asked between two commands so that a closed gate empties soon.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED == 0
    }

    /// Closes the gate for good. Returns whether nobody is inside.
    pub(crate) fn close(&self) -> bool {
        self.state.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0
    }

    /// Whether nobody is inside.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) & !CLOSED == 0
    }

    /// Runs `then` once nobody is inside a closed gate: on the thread that leaves last, or here and now.
    pub(crate) fn when_empty(&self, then: impl FnOnce() + Send + 'static) {
        let mut waiting = lock(&self.then);
        // The last one out takes this lock after it has left: it either was counted out here, or finds
        // what is pushed.
        if !self.is_empty() {
            waiting.push_back(Box::new(then));
            return;
        }
        drop(waiting);
        then();
    }

    /// Waits until nobody is inside. Returns whether that came before the deadline.
    pub(crate) fn wait_empty(&self, by: Deadline) -> bool {
        let mut waiting = lock(&self.then);
        while !self.is_empty() {
            let left = by.remaining();
            if left.is_zero() {
                return false;
            }
            waiting = self
                .emptied
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    #[cold]
    fn last_left(&self) {
        let mut waiting = lock(&self.then);
        // Somebody who comes too late is inside for a moment, and then is the last one out.
        if !self.is_empty() {
            return;
        }
        let then = std::mem::take(&mut *waiting);
        self.emptied.notify_all();
        drop(waiting);
        for run in then {
            run();
        }
    }
}

impl<G: Deref<Target = Gate>> Drop for Pass<G> {
    fn drop(&mut self) {
        if self.0.state.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.0.last_left();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    #[test]
    fn whoever_leaves_last_runs_what_waits_and_nobody_runs_it_twice() {
        for _ in 0..200 {
            let gate = Gate::new();
            let runs = Arc::new(AtomicU32::new(0));
            std::thread::scope(|scope| {
                let passes = [(); 2].map(|()| gate.enter().unwrap());
                for pass in passes {
                    scope.spawn(move || drop(pass));
                }
                // Comers too late leave again, before or after those who were let in.
                scope.spawn(|| while gate.enter().is_some() {});
                gate.close();
                let counted = Arc::clone(&runs);
                gate.when_empty(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                });
                assert!(gate.wait_empty(Deadline::after(Duration::from_secs(20))));
            });
            assert_eq!(runs.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn a_closed_gate_lets_nobody_in_and_tells_when_it_is_empty() {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        assert!(!gate.close());
        assert!(gate.enter().is_none());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        gate.when_empty(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        assert!(!gate.wait_empty(Deadline::after(Duration::from_millis(1))));
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        drop(pass);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(gate.wait_empty(Deadline::after(Duration::ZERO)));
        let counted = Arc::clone(&runs);
        gate.when_empty(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
