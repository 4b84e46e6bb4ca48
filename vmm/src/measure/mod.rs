//! What a series of reboots comes to: figures per policy, ratios between policies, bounds, tables for
//! spreadsheets. Pure; `sundownctl measure` runs the reboots and writes what is made here.

mod bound;
mod choice;
mod figure;
mod spread;
mod spreadsheet;
mod summary;

use api::config::TeardownPolicy;
use api::report::{DeviceReport, Outcome, TeardownReport};

pub use bound::{Bound, BoundError, Judged, Side};
pub use choice::{DRAWN, drawn};
pub use figure::{Figure, Unit};
pub use spread::Spread;
pub use spreadsheet::{devices_csv, teardowns_csv};
pub use summary::{PolicySummary, Ratio, Summary, quickest};

use crate::check::Violation;

/// One reboot that was measured.
#[derive(Clone, Debug)]
pub struct Reboot {
    /// The round it belongs to, from 1: a round has one reboot of every policy.
    pub round: u64,
    /// The policy that was asked for.
    pub policy: TeardownPolicy,
    /// What the server reported.
    pub report: TeardownReport,
    /// From the reset request to the boot marker that says that the guest is ready, in nanoseconds; none
    /// if it was not seen.
    pub ready_ns: Option<u64>,
    /// The rules that the report does not keep.
    pub violations: Vec<Violation>,
}

impl Reboot {
    /// The devices that failed or were given up.
    pub fn failed(&self) -> impl Iterator<Item = &DeviceReport> {
        let devices = self.report.devices.iter();
        devices
            .filter(|device| matches!(device.outcome, Outcome::Failed { .. } | Outcome::TimedOut))
    }
}

/// The policy of each reboot: all policies in every round, so that what changes with time changes for all.
pub fn interleaved(
    policies: &[TeardownPolicy],
    rounds: u64,
) -> impl Iterator<Item = (u64, TeardownPolicy)> + '_ {
    (1..=rounds).flat_map(|round| policies.iter().map(move |&policy| (round, policy)))
}

#[cfg(test)]
mod tests;
