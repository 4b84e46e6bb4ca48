//! What a guest has flushed is there after a reset, whatever was in flight.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::report::Cause;

use super::design::{Design, pci_bridge, root_port, switch};
use super::machine::Machine;
use super::usage::Usage;
use super::{Scenario, Stage, soak};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "flushed_data_outlives_ten_resets_under_load",
    420,
    load,
)];

const RESETS: u64 = 10;
/// The guest writes this long at least, and at most so much longer, in ms.
const LEAST: u64 = 200;
const RANGE: u64 = 1500;

fn load(stage: &mut Stage) -> Result<()> {
    let [a, b, c] = ["a", "b", "c"].map(|id| stage.drive(id));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=3 sundown.load=0")
        .with([
            root_port("rp0", [switch("s", [a?])]),
            root_port("rp1", [pci_bridge("bridge", [b?])]),
            root_port("rp2", [c?]),
        ]);
    let mut machine = stage.launch_ready(config)?;
    let mut before = None;
    let mut flushed = check(&mut machine, 1)?;
    for number in 0..RESETS {
        let written = LEAST + RandomState::new().build_hasher().finish() % RANGE;
        sleep(Duration::from_millis(written));
        // One in three is the guest's own, as abrupt as a watchdog's.
        if number % 3 == 2 {
            machine.order("echo 1 >/proc/sys/kernel/sysrq; echo kbd >/sys/kernel/reboot/type; echo b >/proc/sysrq-trigger")?;
            machine.reset_by(Cause::I8042)?;
        } else {
            machine.reboot()?;
        }
        machine.ready()?;
        let now = check(&mut machine, number + 2)?;
        ensure!(
            now >= flushed,
            "{now} blocks are known to be flushed, {flushed} were before"
        );
        flushed = now;
        if number == 0 {
            before = Some(Usage::lasting(machine.process.pid())?);
        }
    }
    let after = Usage::lasting(machine.process.pid())?;
    stage.note(format!(
        "{flushed} blocks of 4 KiB flushed in all before the last reset, none lost"
    ));
    if let Some(before) = before {
        stage.note(format!(
            "after one reset under load: {before}; after {RESETS}: {after}"
        ));
        soak::check(before, after, 3)?;
    }
    ensure!(
        flushed > 0,
        "the guest has flushed nothing: there was no load"
    );
    machine.end()
}

/// Has the guest check its drives and go on writing to them. Returns how many blocks it knows to have
/// been flushed on all drives.
pub(super) fn check(machine: &mut Machine, boots: u64) -> Result<u64> {
    let said = machine.run(". /jobs/load")?;
    let value = |key: &str| {
        said.iter()
            .find_map(|line| line.strip_prefix(&format!("SUNDOWN: {key} ")))
            .with_context(|| format!("the guest says nothing of its {key}: {said:?}"))
    };
    let wanted = if boots == 1 { "written" } else { "intact" };
    ensure!(
        value("data")? == wanted && value("boots")? == boots.to_string(),
        "in boot {boots}: {said:#?}"
    );
    let flushed = said.iter().filter_map(|line| {
        let (_, rest) = line.split_once(" flushed=")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(flushed.sum())
}
