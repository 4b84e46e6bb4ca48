//! The gate: who is at work on behalf of a queue or of a whole session, and the way to know that nobody
//! is any more. Threads pass it before they touch guest memory; closing it lets nobody else in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use devices::lifecycle::Deadline;

type Then = Box<dyn FnOnce() + Send>;

/// Locks, also after a panic elsewhere: every structure here is valid between any two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module's header.
pub(crate) struct Gate {
    open: AtomicBool,
    state: Mutex<State>,
    emptied: Condvar,
}

struct State {
    open: bool,
    inside: u32,
    then: VecDeque<Then>,
}

/// The right to work behind a gate, given back when dropped.
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: AtomicBool::new(true),
            state: Mutex::new(State {
                open: true,
                inside: 0,
                then: VecDeque::new(),
            }),
            emptied: Condvar::new(),
        })
    }

    /// Lets the caller in while the gate is open.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let mut state = lock(&self.state);
        if !state.open {
            return None;
        }
        state.inside += 1;
        Some(Pass(Arc::clone(self)))
    }

    /// Whether work may go on; asked between two commands so that a closed gate empties soon.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Closes the gate for good. Returns whether nobody is inside.
    pub(crate) fn close(&self) -> bool {
        let mut state = lock(&self.state);
        state.open = false;
        self.open.store(false, Ordering::Release);
        state.inside == 0
    }

    /// Whether nobody is inside.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).inside == 0
    }

    /// Runs `then` once nobody is inside a closed gate: on the thread that leaves last, or here and now.
    pub(crate) fn when_empty(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.inside > 0 {
            state.then.push_back(Box::new(then));
            return;
        }
        drop(state);
        then();
    }

    /// Waits until nobody is inside. Returns whether that came before the deadline.
    pub(crate) fn wait_empty(&self, by: Deadline) -> bool {
        let mut state = lock(&self.state);
        while state.inside > 0 {
            let left = by.remaining();
            if left.is_zero() {
                return false;
            }
            state = self
                .emptied
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.inside -= 1;
        if state.inside > 0 || state.open {
            return;
        }
        let then = std::mem::take(&mut state.then);
        self.0.emptied.notify_all();
        drop(state);
        for run in then {
            run();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

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
