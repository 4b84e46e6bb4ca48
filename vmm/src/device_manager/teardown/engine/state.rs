//! What the threads of a teardown share, all behind one lock: the schedule, the timer heap, the stamps
//! and the count of workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use api::report::Outcome;
use devices::lifecycle::{Finish, Phases, ShutdownError};

use super::sync::now;
use crate::device_manager::teardown::engine::{Stamp, Target};
use crate::device_manager::teardown::graph::Graph;
use crate::device_manager::teardown::policy::Rules;
use crate::device_manager::teardown::schedule::{Schedule, Stage};

/// A device's times while they are made.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) start: Option<Instant>,
    end: Option<Instant>,
    phases: Phases,
    outcome: Option<Outcome>,
    timer: Option<Timer>,
    on_worker: bool,
}

/// What a device waits for that has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Its modelled latency.
    Finishes(Instant),
    /// Its deadline.
    GivenUp(Instant),
}

/// See the module.
pub(super) struct State {
    /// The devices, with those that joined.
    pub(super) graph: Arc<Graph>,
    pub(super) schedule: Schedule,
    pub(super) records: Vec<Record>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// What the devices that joined are called through; their numbers are the last.
    pub(super) joined: Vec<Arc<dyn Target>>,
    /// Devices that have ended and of which the observer was not told.
    pub(super) news: Vec<(usize, Outcome)>,
    /// The calling thread has come.
    pub(super) begun: bool,
    /// The bound on `running`.
    pub(super) workers: usize,
    /// Workers in a device's call. One that was given up no longer counts.
    pub(super) running: usize,
    /// The most there were.
    pub(super) running_peak: usize,
    /// Workers that wait to be called.
    pub(super) idle: usize,
    /// Calls to idle workers that none has answered yet.
    pub(super) calls: usize,
    /// Workers called or being made that have not come.
    pub(super) coming: usize,
    /// Threads could not be made: the calling thread does what is left over.
    pub(super) without_threads: bool,
    /// Threads that are telling the observer.
    pub(super) telling: usize,
    /// Nothing is left, and those who wait have been told.
    pub(super) over: bool,
    /// The calling thread is in a device's call.
    pub(super) caller_busy: bool,
    /// Workers have to be made, and the calling thread has the time.
    pub(super) short_of_workers: bool,
    /// The calling thread waits and has not been woken.
    pub(super) caller_waits: bool,
    /// Whether a thread of its own keeps the timers, and not the calling thread.
    pub(super) keeper: bool,
    /// When the thread that keeps the timers wakes up by itself; none for never.
    pub(super) wakes_at: Option<Instant>,
    /// Whoever keeps the timers waits and has not been woken.
    pub(super) keeper_waits: bool,
    pub(super) warnings: Vec<String>,
}

impl State {
    pub(super) fn new(graph: Arc<Graph>, rules: Arc<Rules>, workers: usize) -> Self {
        let schedule = Schedule::new(&graph, rules);
        let mut records = Vec::new();
        records.resize_with(graph.len(), Record::default);
        Self {
            graph,
            schedule,
            records,
            timers: BinaryHeap::new(),
            joined: Vec::new(),
            news: Vec::new(),
            begun: false,
            workers: workers.max(1),
            running: 0,
            running_peak: 0,
            idle: 0,
            calls: 0,
            coming: 0,
            without_threads: false,
            telling: 0,
            over: false,
            caller_busy: false,
            short_of_workers: false,
            caller_waits: false,
            keeper: false,
            wakes_at: None,
            keeper_waits: false,
            warnings: Vec::new(),
        }
    }

    /// Whether the teardown has begun and nothing is left.
    pub(super) fn finished(&self) -> bool {
        self.begun && self.schedule.left() == 0
    }

    /// Counts a worker as at work on the device.
    pub(super) fn claim_worker(&mut self, device: usize) {
        self.records[device].on_worker = true;
        self.running += 1;
        self.running_peak = self.running_peak.max(self.running);
    }

    /// Whether a worker is at work on the device.
    pub(super) fn is_on_worker(&self, device: usize) -> bool {
        self.records[device].on_worker
    }

    /// Sees to it that a call on a worker is given up at its deadline. From another thread it cannot be
    /// taken.
    pub(super) fn begin_on_worker(&mut self, device: usize, start: Instant, by: Instant) {
        self.records[device].start = Some(start);
        self.set_timer(device, by, Timer::GivenUp(by));
    }

    /// Takes what a device's call, made at `start`, came to. False if the device had been given up.
    pub(super) fn returned(
        &mut self,
        device: usize,
        (start, by, now): (Instant, Instant, Instant),
        phases: Phases,
        result: Result<Finish, ShutdownError>,
    ) -> bool {
        if self.schedule.stage(device) == Stage::Ended {
            let id = &self.graph.node(device).id;
            self.warnings
                .push(format!("{id} returned after it had been given up"));
            return false;
        }
        let record = &mut self.records[device];
        record.start = Some(start);
        record.phases = phases;
        if std::mem::take(&mut record.on_worker) {
            self.running -= 1;
        }
        match comes_to(result, by, now) {
            (outcome, at) if at <= now => self.end(device, now, outcome),
            (Outcome::Done, at) => self.set_timer(device, at, Timer::Finishes(at)),
            (_, at) => self.set_timer(device, at, Timer::GivenUp(at)),
        }
        true
    }

    fn set_timer(&mut self, device: usize, at: Instant, timer: Timer) {
        self.records[device].timer = Some(timer);
        self.timers.push(Reverse((at, device)));
    }

    fn end(&mut self, device: usize, now: Instant, outcome: Outcome) {
        self.stamp_end(device, now, outcome);
        self.schedule.ended(device);
    }

    /// Notes that a device has ended, but for the schedule.
    pub(super) fn stamp_end(&mut self, device: usize, now: Instant, outcome: Outcome) {
        let record = &mut self.records[device];
        record.end = Some(now);
        record.timer = None;
        record.outcome = Some(outcome.clone());
        if std::mem::take(&mut record.on_worker) {
            self.running -= 1;
        }
        self.news.push((device, outcome));
    }

    /// Ends the devices whose timers have run out.
    pub(super) fn serve_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = now();
        while let Some(&Reverse((at, device))) = self.timers.peek() {
            let outcome = match self.records[device].timer {
                Some(Timer::Finishes(due)) if due == at => Some(Outcome::Done),
                Some(Timer::GivenUp(due)) if due == at => Some(Outcome::TimedOut),
                // It was set before its device returned.
                _ => None,
            };
            if outcome.is_some() && at > now {
                return;
            }
            self.timers.pop();
            if let Some(outcome) = outcome {
                self.end(device, now, outcome);
            }
        }
    }

    /// When the next timer fires. Exact after `serve_timers`, else it may be one that is no longer due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether whoever keeps the timers sleeps past the next one.
    pub(super) fn oversleeps(&self) -> bool {
        self.keeper_waits
            && self
                .next_timer()
                .is_some_and(|next| self.wakes_at.is_none_or(|wakes_at| next < wakes_at))
    }

    /// How many workers to wake and how many to make. Of the missing ones no more are brought in at a
    /// time than are at work already: a herd of short calls is over before many threads exist, and long
    /// calls have theirs after a logarithm of rounds.
    ///
    /// Only the calling thread makes any, unless it is busy: making one takes as long as many short calls,
    /// and when it has woken up for it they may be over.
    pub(super) fn call_workers(&mut self, as_caller: bool) -> (usize, usize) {
        self.short_of_workers = false;
        let (mut wake, mut make) = (0, 0);
        while self.begun
            && self.coming < self.schedule.blocking_ready().min(self.running.max(1))
            && self.running + self.coming < self.workers
        {
            if self.idle > 0 {
                self.idle -= 1;
                self.calls += 1;
                wake += 1;
            } else if self.without_threads {
                break;
            } else if !as_caller && !self.caller_busy {
                self.short_of_workers = true;
                break;
            } else {
                make += 1;
            }
            self.coming += 1;
        }
        (wake, make)
    }

    /// The stamps of all devices, by number, once all have ended. `begin` stands in for what is missing,
    /// which nothing is then.
    pub(super) fn take_stamps(&mut self, begin: Instant) -> Vec<Stamp> {
        self.timers.clear();
        std::mem::take(&mut self.records)
            .into_iter()
            .map(|record| Stamp {
                start: record.start.unwrap_or(begin),
                end: record.end.unwrap_or(begin),
                phases: record.phases,
                outcome: record.outcome.unwrap_or(Outcome::TimedOut),
            })
            .collect()
    }
}

/// How a device ends whose call returned `now`, and when: at once, or when a timer fires.
pub(super) fn comes_to(
    result: Result<Finish, ShutdownError>,
    by: Instant,
    now: Instant,
) -> (Outcome, Instant) {
    match result {
        Err(ShutdownError::DeadlinePassed { .. }) => (Outcome::TimedOut, now),
        Err(error) => {
            let error = error.to_string();
            (Outcome::Failed { error }, now)
        }
        Ok(_) if now > by => (Outcome::TimedOut, now),
        Ok(Finish::At(at)) if at > by => (Outcome::TimedOut, by),
        Ok(Finish::At(at)) if at > now => (Outcome::Done, at),
        Ok(_) => (Outcome::Done, now),
    }
}
