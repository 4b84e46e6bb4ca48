//! The critical path, from the lengths of the teardowns and the rules.

use api::config::TeardownPolicy;

use super::facts::Facts;
use super::violation::{Found, Rule, ms};
use super::waits::Waits;

/// Checks the critical path and who is on it.
pub(super) fn check(facts: &Facts<'_>, waits: &Waits, locks: &[Vec<usize>], found: &mut Found) {
    let report = facts.report;
    let told = report.critical_path_ns;
    let length = |device: usize| {
        let device = facts.device(device);
        device.end_ns.saturating_sub(device.start_ns)
    };
    let critical = (0..facts.len()).filter(|&device| facts.device(device).critical);
    let total = |sum: u64, device| sum.saturating_add(length(device));
    let along = critical.fold(0, total);
    found.unless(along == told, Rule::CriticalPath, &[], || {
        format!(
            "the critical path is given as {} ms, but the devices marked critical took {} ms",
            ms(told),
            ms(along)
        )
    });
    let longest = (0..facts.len()).map(length).max().unwrap_or(0);
    let sum = (0..facts.len()).fold(0, total);
    found.unless(
        (longest..=sum).contains(&told),
        Rule::CriticalPath,
        &[],
        || {
            format!(
                "the critical path of {} ms is shorter than one device ({} ms) or longer than all ({} ms)",
                ms(told),
                ms(longest),
                ms(sum)
            )
        },
    );
    // Under `serial` it is that of `completion`, whose flags the report does not tell.
    if report.policy == TeardownPolicy::Serial {
        return;
    }
    // Locks are taken in the order of the run, as far as the stamps tell it.
    let in_turn = |pair: &&[usize]| start(facts, pair[0]) < start(facts, pair[1]);
    let turns = locks.iter().flat_map(|lockers| lockers.windows(2));
    let (told_apart, at_once): (Vec<_>, Vec<_>) = turns.partition(in_turn);
    let mut before = edges(facts, waits);
    for pair in told_apart {
        before[pair[1]].push(pair[0]);
    }
    let Some(path) = longest_chain(&before, |at| if at < facts.len() { length(at) } else { 0 })
    else {
        let message = "the rules have devices wait for each other in a circle".to_owned();
        found.push(Rule::CriticalPath, &[], message);
        return;
    };
    let holds = told == path || (told > path && !at_once.is_empty());
    found.unless(holds, Rule::CriticalPath, &[], || {
        format!(
            "the critical path is given as {} ms, but the longest chain of waits takes {} ms",
            ms(told),
            ms(path)
        )
    });
}

fn start(facts: &Facts<'_>, device: usize) -> u64 {
    facts.device(device).start_ns
}

/// For each device those it waits for. Behind the devices come, under `cookie`, the ends of the tasks:
/// each waits for its devices and for the end of the task before it.
fn edges(facts: &Facts<'_>, waits: &Waits) -> Vec<Vec<usize>> {
    let devices = facts.len();
    let mut before = waits.by_name();
    let Some(tasks) = &waits.tasks else {
        return before;
    };
    for (device, &until) in tasks.waits_for.iter().enumerate() {
        before[device].extend(until.checked_sub(1).map(|task| devices + task as usize));
    }
    for (task, members) in tasks.members.iter().enumerate() {
        let older = task.checked_sub(1).map(|older| devices + older);
        before.push(members.iter().copied().chain(older).collect());
    }
    before
}

/// How long it takes until all have ended, each after those before it; none if they close a circle.
fn longest_chain(before: &[Vec<usize>], length: impl Fn(usize) -> u64) -> Option<u64> {
    let mut waited_on_by = vec![Vec::new(); before.len()];
    let mut open = vec![0_usize; before.len()];
    for (at, on) in before.iter().enumerate() {
        open[at] = on.len();
        for &on in on {
            waited_on_by[on].push(at);
        }
    }
    let mut ends = vec![0_u64; before.len()];
    let mut ready: Vec<usize> = (0..before.len()).filter(|&at| open[at] == 0).collect();
    let mut left = before.len();
    while let Some(at) = ready.pop() {
        left -= 1;
        ends[at] = ends[at].saturating_add(length(at));
        for &next in &waited_on_by[at] {
            ends[next] = ends[next].max(ends[at]);
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(next);
            }
        }
    }
    (left == 0).then(|| ends.into_iter().max().unwrap_or(0))
}
