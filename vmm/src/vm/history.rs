//! The reports of the last teardowns.

use std::collections::VecDeque;

use api::report::{Outcome, TeardownReport, TeardownSummary};

/// The newest reports, at most as many as were asked for.
pub struct History {
    reports: VecDeque<TeardownReport>,
    kept: usize,
    newest: u64,
}

impl History {
    /// An empty history of `kept` reports, at least one.
    pub fn new(kept: u16) -> Self {
        Self {
            reports: VecDeque::new(),
            kept: usize::from(kept.max(1)),
            newest: 0,
        }
    }

    /// The number of the next teardown.
    pub fn next_number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// Keeps `report`, and drops the oldest where there are too many.
    pub fn keep(&mut self, report: TeardownReport) {
        if self.reports.len() == self.kept {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    /// Says that boot number `boot` reached its first marker `ns` after the reset request.
    pub fn ready(&mut self, boot: u64, ns: u64) {
        if let Some(report) = self
            .reports
            .iter_mut()
            .find(|report| report.boot + 1 == boot)
        {
            report.reset_to_ready_ns = Some(ns);
        }
    }

    /// Report number `number`, if it is kept.
    pub fn get(&self, number: u64) -> Option<&TeardownReport> {
        self.reports.iter().find(|report| report.number == number)
    }

    /// All that are kept, oldest first.
    pub fn summaries(&self) -> Vec<TeardownSummary> {
        self.reports.iter().map(summary).collect()
    }
}

fn summary(report: &TeardownReport) -> TeardownSummary {
    let failed = report
        .devices
        .iter()
        .filter(|device| device.outcome != Outcome::Done)
        .count();
    TeardownSummary {
        number: report.number,
        boot: report.boot,
        cause: report.cause,
        policy: report.policy,
        teardown_ns: report.teardown_ns,
        reset_ns: report.reset_ns,
        reset_to_ready_ns: report.reset_to_ready_ns,
        failed: failed as u64,
        guest_order: report.guest.order,
        guest_span_ns: report.guest.span_ns,
    }
}
