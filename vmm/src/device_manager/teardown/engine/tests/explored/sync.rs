//! What the crew waits with while it is explored: shuttle's lock, and a clock that stands still as long as
//! any thread has something to do. When all wait, it goes on to the next moment that one waits for; if
//! there is none, a wake-up was lost, and the test ends there.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};

shuttle::lazy_static! {
    static ref CLOCK: Clock = Clock::new();
}

/// The time of one exploration, and who waits for it.
struct Clock {
    time: shuttle::sync::Mutex<Time>,
    woken: shuttle::sync::Condvar,
}

struct Time {
    now: Instant,
    /// Threads that have something to do.
    awake: usize,
    asleep: Vec<Sleeper>,
    sleepers: usize,
}

struct Sleeper {
    number: usize,
    /// The condition it waits on, by its address.
    on: Option<usize>,
    until: Option<Instant>,
}

impl Clock {
    /// The thread that explores is awake.
    fn new() -> Self {
        Self {
            time: shuttle::sync::Mutex::new(Time {
                now: Instant::now(),
                awake: 1,
                asleep: Vec::new(),
                sleepers: 0,
            }),
            woken: shuttle::sync::Condvar::new(),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Time) -> T) -> T {
        let mut time = self.time.lock().unwrap();
        let result = change(&mut time);
        if time.awake == 0 && !time.asleep.is_empty() {
            let next = time.asleep.iter().filter_map(|sleeper| sleeper.until).min();
            let next = next.expect("all threads wait, and none for a moment: a wake-up was lost");
            time.pass(next);
        }
        drop(time);
        self.woken.notify_all();
        result
    }

    fn fall_asleep(&self, on: Option<usize>, until: Option<Instant>) -> usize {
        self.change(|time| {
            time.awake -= 1;
            time.sleepers += 1;
            let number = time.sleepers;
            time.asleep.push(Sleeper { number, on, until });
            number
        })
    }

    fn until_woken(&self, number: usize) {
        let mut time = self.time.lock().unwrap();
        while time.asleep.iter().any(|sleeper| sleeper.number == number) {
            time = self.woken.wait(time).unwrap();
        }
    }
}

impl Time {
    /// Lets the time pass until `moment`.
    fn pass(&mut self, moment: Instant) {
        self.now = self.now.max(moment);
        let now = self.now;
        self.wake(|sleeper| sleeper.until.is_some_and(|until| until <= now));
    }

    fn wake(&mut self, which: impl Fn(&Sleeper) -> bool) {
        let before = self.asleep.len();
        self.asleep.retain(|sleeper| !which(sleeper));
        self.awake += before - self.asleep.len();
    }
}

/// See `engine::sync`.
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// See `engine::sync`.
pub(super) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: shuttle::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            guard: self.0.lock().unwrap(),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// See `engine::sync`. Its size is not zero: it is known by its address.
#[derive(Default)]
pub(super) struct Condvar {
    _place: u8,
}

impl Condvar {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_for(guard, None)
    }

    pub(super) fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        at: Instant,
    ) -> MutexGuard<'a, T> {
        self.wait_for(guard, Some(at))
    }

    fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        let mutex = guard.mutex;
        // Known as waiting before the lock is free: no notification falls in between.
        let number = CLOCK.fall_asleep(Some(self.address()), until);
        drop(guard);
        CLOCK.until_woken(number);
        mutex.lock()
    }

    pub(super) fn notify_one(&self) {
        CLOCK.change(|time| {
            let on = Some(self.address());
            let waiting: Vec<usize> = time
                .asleep
                .iter()
                .filter(|sleeper| sleeper.on == on)
                .map(|sleeper| sleeper.number)
                .collect();
            if !waiting.is_empty() {
                let chosen = waiting[thread_rng().gen_range(0..waiting.len())];
                time.wake(|sleeper| sleeper.number == chosen);
            }
        });
    }

    pub(super) fn notify_all(&self) {
        let on = Some(self.address());
        CLOCK.change(|time| time.wake(|sleeper| sleeper.on == on));
    }
}

/// See `engine::sync`.
pub(super) fn now() -> Instant {
    CLOCK.time.lock().unwrap().now
}

/// Waits so long.
pub(super) fn sleep(duration: Duration) {
    if duration.is_zero() {
        shuttle::thread::yield_now();
        return;
    }
    let until = now() + duration;
    CLOCK.until_woken(CLOCK.fall_asleep(None, Some(until)));
}

/// Starts a thread that the clock waits for as long as it has something to do.
pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> shuttle::thread::JoinHandle<()> {
    CLOCK.change(|time| time.awake += 1);
    shuttle::thread::spawn(move || {
        work();
        CLOCK.change(|time| time.awake -= 1);
    })
}

/// Waits for a thread's end.
pub(super) fn join(thread: shuttle::thread::JoinHandle<()>) {
    CLOCK.change(|time| time.awake -= 1);
    thread.join().unwrap();
    CLOCK.change(|time| time.awake += 1);
}

/// What a slow host does: time passes while threads have something to do, or one wakes for no reason.
pub(super) fn disturb() {
    CLOCK.change(|time| {
        if time.asleep.is_empty() {
            return;
        }
        let at = thread_rng().gen_range(0..time.asleep.len());
        match time.asleep[at].until {
            Some(until) => time.pass(until),
            None => {
                let number = time.asleep[at].number;
                time.wake(|sleeper| sleeper.number == number);
            }
        }
    });
}
