//! Whether the stamps keep the order that the policy asks for.

use api::config::TeardownPolicy;

use super::facts::Facts;
use super::tasks::Tasks;
use super::violation::{Found, Rule};
use super::waits::Waits;
use super::{path, told};

/// Checks order, waits and critical path.
pub(super) fn check(facts: &Facts<'_>, found: &mut Found) {
    let waits = Waits::new(facts);
    check_flags(facts, found);
    check_dependants(facts, &waits, found);
    check_chains(facts, &waits, found);
    if let Some(tasks) = &waits.tasks {
        check_cookies(facts, tasks, found);
        check_barrier(facts, tasks, found);
    }
    let locks = facts.locks();
    check_locks(facts, &locks, found);
    told::check(facts, &waits, &locks, found);
    path::check(facts, &waits, &locks, found);
}

fn check_flags(facts: &Facts<'_>, found: &mut Found) {
    let policy = facts.report.policy;
    for device in &facts.report.devices {
        let fits = policy != TeardownPolicy::Serial || !device.asynchronous;
        found.unless(fits, Rule::Flags, &[device], || {
            format!("{} was asynchronous under serial", device.id)
        });
        let numbered = device.cookie.is_some() || device.waited_for_cookie.is_some();
        let fits = policy == TeardownPolicy::Cookie || !numbered;
        found.unless(fits, Rule::Flags, &[device], || {
            format!("{} has a task number, which only cookie gives", device.id)
        });
    }
}

fn check_dependants(facts: &Facts<'_>, waits: &Waits, found: &mut Found) {
    for (number, before) in waits.dependants.iter().enumerate() {
        if !facts.was_called(number) {
            continue;
        }
        let device = facts.device(number);
        for &other in before {
            let (rule, what) = if facts.parents[other] == Some(number) {
                (Rule::ChildrenFirst, "child")
            } else {
                (Rule::ConsumersFirst, "consumer")
            };
            let other = facts.device(other);
            let holds = other.end_ns <= device.start_ns;
            found.unless(holds, rule, &[other, device], || {
                format!(
                    "{} had not ended when {}, of which it is a {what}, began",
                    other.id, device.id
                )
            });
        }
    }
}

fn check_chains(facts: &Facts<'_>, waits: &Waits, found: &mut Found) {
    for chain in &waits.chains {
        let called = chain.iter().copied().filter(|&at| facts.was_called(at));
        let called: Vec<_> = called.map(|at| facts.device(at)).collect();
        for pair in called.windows(2) {
            let (first, then) = (pair[0], pair[1]);
            let holds = first.end_ns <= then.start_ns;
            found.unless(holds, Rule::OneByOne, &[first, then], || {
                format!(
                    "{} is behind {} in the list and synchronous as it is, but had not ended when it began",
                    first.id, then.id
                )
            });
        }
    }
}

fn check_cookies(facts: &Facts<'_>, tasks: &Tasks, found: &mut Found) {
    for (number, device) in facts.report.devices.iter().enumerate() {
        for (what, told, wanted) in [
            ("task", device.cookie, tasks.cookies[number]),
            (
                "awaited task",
                device.waited_for_cookie,
                tasks.waits_for[number],
            ),
        ] {
            let told = told.unwrap_or(0);
            found.unless(told == wanted, Rule::Cookie, &[device], || {
                format!(
                    "the {what} of {} is number {told}, but the list makes it {wanted} (0: none)",
                    device.id
                )
            });
        }
    }
}

fn check_barrier(facts: &Facts<'_>, tasks: &Tasks, found: &mut Found) {
    let last = tasks.last_up_to(|device| facts.device(device).end_ns);
    for (number, device) in facts.report.devices.iter().enumerate() {
        let until = tasks.until(facts, number);
        if until == 0 || !facts.was_called(number) {
            continue;
        }
        let other = last[until as usize - 1];
        let (task, own) = (tasks.cookies[other], tasks.cookies[number]);
        let other = facts.device(other);
        let holds = other.end_ns <= device.start_ns;
        found.unless(holds, Rule::Barrier, &[other, device], || {
            format!(
                "{} of task {task} had not ended when {} of task {own} began, which waits for all tasks up to {until}",
                other.id, device.id
            )
        });
    }
}

fn check_locks(facts: &Facts<'_>, locks: &[Vec<usize>], found: &mut Found) {
    for (parent, lockers) in locks.iter().enumerate() {
        for pair in lockers.windows(2) {
            let (first, then) = (facts.device(pair[0]), facts.device(pair[1]));
            let holds = first.end_ns <= then.start_ns;
            found.unless(holds, Rule::ParentLock, &[first, then], || {
                format!(
                    "{} and {} overlap, but each needs the lock of {}",
                    first.id,
                    then.id,
                    facts.device(parent).id
                )
            });
        }
    }
}
