//! The reboots that are drawn, where there are too many to draw them all.

use api::config::TeardownPolicy;

use super::Reboot;

/// The most reboots that one page and one trace have: a section each, as many as a reader scrolls through.
pub const DRAWN: usize = 24;

/// The reboots to draw, in the order in which they ran: all of at most [`DRAWN`]; of more, for each policy
/// the median teardown and the slowest, and of those with a failed device or a violated rule the first ones,
/// up to [`DRAWN`].
pub fn drawn<'a>(reboots: &'a [Reboot], policies: &[TeardownPolicy]) -> Vec<&'a Reboot> {
    if reboots.len() <= DRAWN {
        return reboots.iter().collect();
    }
    let mut chosen: Vec<usize> = Vec::new();
    for policy in policies {
        let mut own: Vec<_> = reboots.iter().enumerate().collect();
        own.retain(|(_, reboot)| reboot.policy == *policy);
        own.sort_by_key(|(_, reboot)| reboot.report.teardown_ns);
        let median = own.len().saturating_sub(1) / 2;
        let both = [own.get(median), own.last()];
        chosen.extend(both.into_iter().flatten().map(|(at, _)| *at));
    }
    let has_trouble =
        |reboot: &Reboot| reboot.failed().next().is_some() || !reboot.violations.is_empty();
    for (at, reboot) in reboots.iter().enumerate() {
        if chosen.len() < DRAWN && has_trouble(reboot) && !chosen.contains(&at) {
            chosen.push(at);
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    let chosen = chosen.into_iter();
    chosen.filter_map(|at| reboots.get(at)).collect()
}
