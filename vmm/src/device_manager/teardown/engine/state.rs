//! What the threads of a teardown share, all behind one lock: the schedule, the timer heap, the stamps
//! and the count of workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use api::report::Outcome;
use devices::lifecycle::{Finish, Phases, ShutdownError};

use crate::device_manager::teardown::engine::Stamp;
use crate::device_manager::teardown::graph::Graph;
use crate::device_manager::teardown::schedule::{Schedule, Stage};

/// A device's times while they are made.
#[derive(Debug, Default)]
pub(super) struct Record {
    start: Option<Instant>,
    end: Option<Instant>,
    phases: Phases,
    outcome: Option<Outcome>,
    /// When its timer fires, and what it has come to by then.
    due: Option<(Instant, Outcome)>,
    on_worker: bool,
}

/// See the module.
pub(super) struct State {
    pub(super) schedule: Schedule,
    records: Vec<Record>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Devices that have ended and of which the observer was not told.
    pub(super) news: Vec<(usize, Outcome)>,
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
    pub(super) fn new(schedule: Schedule, workers: usize) -> Self {
        let mut records = Vec::new();
        records.resize_with(schedule.left(), Record::default);
        Self {
            schedule,
            records,
            timers: BinaryHeap::new(),
            news: Vec::new(),
            workers: workers.max(1),
            running: 0,
            running_peak: 0,
            idle: 0,
            calls: 0,
            coming: 0,
            without_threads: false,
            telling: 0,
            over: false,
            caller_waits: false,
            keeper: false,
            wakes_at: None,
            keeper_waits: false,
            warnings: Vec::new(),
        }
    }

    /// Counts a worker as at work on the device.
    pub(super) fn claim_worker(&mut self, device: usize) {
        self.records[device].on_worker = true;
        self.running += 1;
        self.running_peak = self.running_peak.max(self.running);
    }

    /// Stamps the begin of a device's call and returns the moment it must have ended by.
    pub(super) fn begin(&mut self, graph: &Graph, device: usize, now: Instant) -> Instant {
        let by = now + graph.node(device).deadline;
        let record = &mut self.records[device];
        record.start = Some(now);
        // Only from a worker can a call be taken.
        if record.on_worker {
            self.set_timer(device, by, Outcome::TimedOut);
        }
        by
    }

    /// Takes what a device's call came to. False if the device had been given up.
    pub(super) fn returned(
        &mut self,
        device: usize,
        by: Instant,
        now: Instant,
        phases: Phases,
        result: Result<Finish, ShutdownError>,
    ) -> bool {
        if self.schedule.stage(device) == Stage::Ended {
            return false;
        }
        let record = &mut self.records[device];
        record.phases = phases;
        if std::mem::take(&mut record.on_worker) {
            self.running -= 1;
        }
        match result {
            Err(ShutdownError::DeadlinePassed { .. }) => self.end(device, now, Outcome::TimedOut),
            Err(error) => self.end(
                device,
                now,
                Outcome::Failed {
                    error: error.to_string(),
                },
            ),
            Ok(_) if now > by => self.end(device, now, Outcome::TimedOut),
            Ok(Finish::At(at)) if at > by => self.set_timer(device, by, Outcome::TimedOut),
            Ok(Finish::At(at)) if at > now => self.set_timer(device, at, Outcome::Done),
            Ok(_) => self.end(device, now, Outcome::Done),
        }
        true
    }

    fn set_timer(&mut self, device: usize, at: Instant, outcome: Outcome) {
        self.records[device].due = Some((at, outcome));
        self.timers.push(Reverse((at, device)));
    }

    fn end(&mut self, device: usize, now: Instant, outcome: Outcome) {
        let record = &mut self.records[device];
        record.end = Some(now);
        record.due = None;
        record.outcome = Some(outcome.clone());
        if std::mem::take(&mut record.on_worker) {
            self.running -= 1;
        }
        self.schedule.ended(device);
        self.news.push((device, outcome));
    }

    /// Ends the devices whose timers have run out.
    pub(super) fn serve_timers(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, device))) = self.timers.peek() {
            let due = self.records[device]
                .due
                .as_ref()
                .filter(|(due, _)| *due == at);
            if due.is_some() && at > now {
                return;
            }
            let outcome = due.map(|(_, outcome)| outcome.clone());
            self.timers.pop();
            // A timer that is no longer due was set before its device returned.
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
    pub(super) fn call_workers(&mut self) -> (usize, usize) {
        let (mut wake, mut make) = (0, 0);
        while self.coming < self.schedule.blocking_ready().min(self.running.max(1))
            && self.running + self.coming < self.workers
        {
            if self.idle > 0 {
                self.idle -= 1;
                self.calls += 1;
                wake += 1;
            } else if self.without_threads {
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
