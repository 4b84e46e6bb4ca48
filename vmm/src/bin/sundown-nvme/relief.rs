//! Relief for the main thread: a client can hold up whoever signals an eventfd of its, for as long as it likes. The
//! main thread signals too, and while it is held up it takes no message that would end that. So another thread
//! looks how long each of its calls takes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a call may take before it may be held up.
const PATIENCE: Duration = Duration::from_millis(100);

/// See the module's header.
pub struct Relief {
    calls: Arc<Calls>,
    /// Until it is dropped.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Calls {
    /// Counts begins and ends: odd within a call.
    number: AtomicU64,
    /// The thread does not look before it is woken.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
}

/// A call of the main thread, to its end.
pub struct Call<'a>(&'a Calls);

impl Relief {
    /// Has `let_go` called whenever a call takes long, again and again.
    pub fn start(let_go: impl Fn() + Send + 'static) -> io::Result<Self> {
        let calls = Arc::new(Calls::default());
        let watched = Arc::clone(&calls);
        let thread = thread::Builder::new()
            .name("relief".into())
            .spawn(move || watched.watch(&let_go))?;
        Ok(Self {
            calls,
            thread: Some(thread),
        })
    }

    /// A call begins. It ends when what this returns is dropped; there is one at a time.
    pub fn begin(&self) -> Call<'_> {
        // Either this sees the thread asleep, or the thread sees the call before it sleeps.
        self.calls.number.fetch_add(1, Ordering::SeqCst);
        if self.calls.is_asleep.load(Ordering::SeqCst) {
            self.calls.is_asleep.store(false, Ordering::SeqCst);
            self.wake();
        }
        Call(&self.calls)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Calls {
    fn watch(&self, let_go: &impl Fn()) {
        while !self.is_over.load(Ordering::SeqCst) {
            let before = self.number.load(Ordering::SeqCst);
            thread::park_timeout(PATIENCE);
            if self.number.load(Ordering::SeqCst) != before {
                continue;
            }
            if before % 2 == 1 {
                let_go();
                continue;
            }
            // Nothing has been called for a while.
            self.is_asleep.store(true, Ordering::SeqCst);
            if self.number.load(Ordering::SeqCst) != before {
                self.is_asleep.store(false, Ordering::SeqCst);
            }
            while self.is_asleep.load(Ordering::SeqCst) && !self.is_over.load(Ordering::SeqCst) {
                thread::park();
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.number.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Relief {
    fn drop(&mut self) {
        self.calls.is_over.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use devices::shared_event::SharedEvent;
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const FULL: u64 = u64::MAX - 1;

    #[test]
    fn a_call_that_is_held_up_in_a_signal_goes_on() {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let mut theirs = File::from(event.try_clone().unwrap());
        let event = SharedEvent::from(event);
        let relief = Relief::start(move || event.let_go()).unwrap();
        for _ in 0..3 {
            theirs.write_all(&FULL.to_ne_bytes()).unwrap();
            let mut held_up = theirs.try_clone().unwrap();
            let (tell, told) = channel();
            thread::scope(|scope| {
                let relief = &relief;
                scope.spawn(move || {
                    let _call = relief.begin();
                    // What a signal does that has looked before the counter was filled.
                    held_up.write_all(&1_u64.to_ne_bytes()).unwrap();
                    tell.send(()).unwrap();
                });
                told.recv_timeout(SOON).expect("the call goes on");
            });
            // Longer than it looks: the next call finds the thread asleep.
            let by = Instant::now() + SOON;
            while !relief.calls.is_asleep.load(Ordering::SeqCst) {
                assert!(Instant::now() < by, "it looks without end");
                thread::yield_now();
            }
            theirs.read_exact(&mut [0; 8]).unwrap();
        }
    }

    #[test]
    fn nothing_is_done_while_nothing_is_called() {
        let (tell, told) = channel();
        let relief = Relief::start(move || tell.send(()).unwrap()).unwrap();
        for _ in 0..1000 {
            drop(relief.begin());
        }
        drop(relief);
        assert!(told.try_recv().is_err());
    }
}
