//! Many reboots in a row: nothing that a process holds of its host grows.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::report::Cause;

use super::design::{Design, pci_bridge, root_port, switch};
use super::tiny::{READY, RESET};
use super::usage::Usage;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a_hundred_reboots_leave_nothing_behind", 240, stock),
    Scenario::new(
        "five_hundred_resets_by_the_guest_leave_nothing_behind",
        120,
        tiny,
    ),
];

/// Reboots before the first count: caches and pools are filled by then, and with the many quick resets
/// the log of events too.
const WARM_UP: u64 = 10;
const WARM_UP_RESETS: u64 = 300;
const REBOOTS: u64 = 100;
const RESETS: u64 = 500;
/// Reports kept: few, so that they do not count as growth.
const HISTORY: u16 = 4;
/// Resident memory is counted in what the allocator holds, which moves a little.
const RESIDENT_SLACK_KIB: u64 = 1024;
/// Its stack and the page that guards it; the allocator's arena for it, in two parts. An arena stays when its
/// thread ends, and is another's then.
const ANONYMOUS_A_THREAD: usize = 4;
/// A thread for each drive that is being shut down, one for the flush that this waits for.
const THREADS_A_DRIVE: usize = 2;

/// Fails if a process holds more than it did. A teardown has a worker for each drive at most, and does
/// not wait for the last of them to end: they may count.
pub(super) fn check(before: Usage, after: Usage, drives: usize) -> Result<()> {
    ensure!(
        after.descriptors <= before.descriptors,
        "descriptors grew: {before}; then {after}"
    );
    ensure!(
        after.threads <= before.threads + drives,
        "threads grew: {before}; then {after}"
    );
    ensure!(
        after.mappings <= before.mappings,
        "mappings grew: {before}; then {after}"
    );
    ensure!(
        after.anonymous <= before.anonymous + ANONYMOUS_A_THREAD * THREADS_A_DRIVE * drives,
        "mappings without a name grew: {before}; then {after}"
    );
    ensure!(
        after.resident_kib <= before.resident_kib + RESIDENT_SLACK_KIB,
        "resident memory grew: {before}; then {after}"
    );
    Ok(())
}

/// Stock Linux, reset by a client early or late in its boot, its drives in whatever state.
fn stock(stage: &mut Stage) -> Result<()> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| stage.drive(id));
    let mut config = stage.linux().cpus(2).words("sundown.drives=4").with([
        root_port("rp0", [switch("s", [a?, b?])]),
        root_port("rp1", [pci_bridge("bridge", [c?])]),
        root_port("rp2", [d?]),
    ]);
    config.teardown.history = HISTORY;
    let mut machine = stage.launch(config)?;
    let mut before = None;
    let begin = Instant::now();
    for number in 0..WARM_UP + REBOOTS {
        if number == WARM_UP {
            before = Some(Usage::lasting(machine.process.pid())?);
        }
        // Now and then late enough that the drives are in use.
        let early = Duration::from_millis(20 + number * 7 % 90);
        let late = Duration::from_secs(4);
        sleep(if number % 25 == 24 { late } else { early });
        machine.reboot()?;
    }
    let after = Usage::lasting(machine.process.pid())?;
    let before = before.context("nothing was counted")?;
    stage.note(format!("before: {before}"));
    stage.note(format!("after {REBOOTS} reboots: {after}"));
    stage.note(format!("{} s in all", begin.elapsed().as_secs()));
    check(before, after, 4)?;
    machine.ready()?;
    let seen = machine.run("list_namespaces; echo $namespace_count")?;
    ensure!(
        seen == ["4"],
        "after it all the guest sees {seen:?} namespaces"
    );
    machine.end()
}

/// A guest that resets itself as soon as it runs.
fn tiny(stage: &mut Stage) -> Result<()> {
    let [a, b] = ["a", "b"].map(|id| stage.drive(id));
    let mut config = stage
        .tiny(&[READY, RESET])?
        .cpus(2)
        .with([root_port("rp0", [switch("s", [a?, b?])])]);
    config.teardown.history = HISTORY;
    let machine = stage.launch(config)?;
    let begin = Instant::now();
    machine.reaches(WARM_UP_RESETS)?;
    let before = Usage::lasting(machine.process.pid())?;
    machine.reaches(WARM_UP_RESETS + RESETS)?;
    let took = begin.elapsed() / (WARM_UP_RESETS + RESETS) as u32;
    let after = Usage::lasting(machine.process.pid())?;
    stage.note(format!("before: {before}"));
    stage.note(format!("after {RESETS} resets: {after}"));
    stage.note(format!("{:.1} ms a reset", took.as_secs_f64() * 1000.0));
    let last = machine
        .client()
        .teardowns()
        .context("vm.teardowns failed")?;
    ensure!(
        last.len() == usize::from(HISTORY) && last.iter().all(|one| one.cause == Cause::I8042),
        "the last of them: {last:?}"
    );
    check(before, after, 2)
}
