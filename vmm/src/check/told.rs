//! What a report tells of waits, held against the rules and the stamps.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::violation::{Found, Rule, ms};
use super::waits::Waits;

/// Checks whom each device is said to have waited for, who held it up, and when it was ready.
pub(super) fn check(facts: &Facts<'_>, waits: &Waits, locks: &[Vec<usize>], found: &mut Found) {
    let end = |device: usize| facts.device(device).end_ns;
    let last = waits.tasks.as_ref().map(|tasks| tasks.last_up_to(end));
    for (number, mut on) in waits.by_name().into_iter().enumerate() {
        let device = facts.device(number);
        let names = |on: &[usize]| -> BTreeSet<String> {
            on.iter().map(|&on| facts.device(on).id.clone()).collect()
        };
        let (wanted, told) = (names(&on), device.waited_on.iter().cloned().collect());
        found.unless(wanted == told, Rule::WaitedOn, &[device], || {
            format!(
                "{} is said to have waited for {}, but has to wait for {}",
                device.id,
                join(&told),
                join(&wanted)
            )
        });
        if !facts.was_called(number) {
            continue;
        }
        if let (Some(tasks), Some(last)) = (&waits.tasks, &last)
            && let Some(task) = tasks.until(facts, number).checked_sub(1)
        {
            let last = last[task as usize];
            on.push(last);
            // Several may have ended at that moment.
            let told = device.held_up_by.as_deref().and_then(|id| facts.find(id));
            on.extend(told.filter(|&by| tasks.cookies[by] <= task + 1 && end(by) == end(last)));
        }
        on.extend(rivals(facts, number, locks));
        held_up_by(facts, number, &on, found);
    }
}

fn held_up_by(facts: &Facts<'_>, number: usize, on: &[usize], found: &mut Found) {
    let device = facts.device(number);
    let told = device.held_up_by.as_deref();
    let Some(last) = on.iter().map(|&on| facts.device(on).end_ns).max() else {
        found.unless(told.is_none(), Rule::HeldUpBy, &[device], || {
            format!(
                "{} is said to have been held up by {}, but waits for nobody",
                device.id,
                told.unwrap_or_default()
            )
        });
        let begin = facts.report.teardown_start_ns;
        found.unless(device.ready_ns <= begin, Rule::HeldUpBy, &[device], || {
            format!(
                "{} waits for nobody, but was ready only at {} ms, after the teardown had begun",
                device.id,
                ms(device.ready_ns)
            )
        });
        return;
    };
    let by = told.and_then(|id| facts.find(id));
    let by = by.filter(|by| on.contains(by));
    let holds = by.is_some_and(|by| facts.device(by).end_ns == last);
    found.unless(holds, Rule::HeldUpBy, &[device], || {
        let latest = on.iter().filter(|&&on| facts.device(on).end_ns == last);
        let latest = latest.map(|&on| facts.device(on).id.clone()).collect();
        format!(
            "{} is said to have been held up by {}, but of those it waits for {} ended last",
            device.id,
            told.unwrap_or("nobody"),
            join(&latest)
        )
    });
    found.unless(device.ready_ns == last, Rule::HeldUpBy, &[device], || {
        format!(
            "{} is said to have been ready at {} ms, but the last it waits for ended at {} ms",
            device.id,
            ms(device.ready_ns),
            ms(last)
        )
    });
}

fn join(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

/// Those that held a lock the device needs before it. Of two that start at one moment and one of which
/// takes no time it is not known who was first: the report is believed.
fn rivals(facts: &Facts<'_>, number: usize, locks: &[Vec<usize>]) -> Vec<usize> {
    let device = facts.device(number);
    let parent = facts.parents[number].filter(|_| device.parent_lock);
    let needed = [Some(number), parent].into_iter().flatten();
    let others = needed.flat_map(|lock| locks[lock].iter().copied());
    others
        .filter(|&at| {
            let other = facts.device(at);
            let told = device.held_up_by.as_ref() == Some(&other.id);
            let first = other.start_ns < device.start_ns || told;
            at != number && first && other.end_ns <= device.start_ns
        })
        .collect()
}
