//! Whether a teardown report keeps the rules of its policy. Pure, and independent of the engine: what has
//! to precede what is built anew from tree, links, flags and list, and held against the stamps.

mod facts;
mod guest;
mod order;
mod path;
mod stamps;
mod sums;
mod tasks;
mod told;
mod violation;
mod waits;

use api::report::TeardownReport;

pub use violation::{Involved, Rule, Violation};

use facts::Facts;
use violation::Found;

/// Checks a report. Empty if every rule holds; else every violation, with the devices and their times.
///
/// What the engine does beyond the kernel's rules is accepted as it is reported: the flags are those that
/// the teardown ran under, a device that was given up at its deadline counts as ended then, and one that
/// was removed was not called.
pub fn check(report: &TeardownReport) -> Vec<Violation> {
    let mut found = Found::default();
    stamps::check(report, &mut found);
    sums::check(report, &mut found);
    guest::check(report, &mut found);
    // Without a list and a tree there is no order to speak of.
    if let Some(facts) = Facts::read(report, &mut found) {
        order::check(&facts, &mut found);
    }
    found.violations
}

#[cfg(test)]
mod tests;
