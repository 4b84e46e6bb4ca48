//! Drives that are slow, dying or gone, made so while their machine runs.

use anyhow::{Context, Result, ensure};
use api::config::{
    BehaviourUpdate, CommandFault, Effect, FaultsConfig, FlushFault, Latency, QueueKind,
    ShutdownFault, TeardownModel,
};
use api::events::EventKind;
use api::report::{Cause, Outcome};

use super::design::{Design, root_port};
use super::machine::Machine;
use super::teardown::device;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "a_drive_that_dies_is_given_up_and_others_are_not",
        60,
        dying,
    ),
    Scenario::new("a_drive_that_hangs_or_is_removed_is_lived_with", 240, met),
    Scenario::new(
        "writes_that_are_stuck_end_with_their_boot_and_touch_nothing_of_the_next",
        240,
        stuck,
    ),
];

const MS: u64 = 1_000_000;

fn change(machine: &mut Machine, id: &str, update: &BehaviourUpdate) -> Result<()> {
    let changed = machine.client().set_behaviour(id, update);
    changed.with_context(|| format!("vm.devices/{id}/behaviour failed"))?;
    let told = machine.event("device-behaviour-changed", |event| match event {
        EventKind::DeviceBehaviourChanged { id, .. } => Some(id.clone()),
        _ => None,
    })?;
    ensure!(told == id, "the event is about {told}, not {id}");
    Ok(())
}

fn faults(faults: FaultsConfig) -> BehaviourUpdate {
    BehaviourUpdate {
        faults: Some(faults),
        ..BehaviourUpdate::default()
    }
}

fn dying(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[READY])?.with([
        root_port("rp0", [stage.drive("well")?]),
        root_port("rp1", [stage.drive("dying")?.deadline_ms(300)]),
    ]);
    let mut machine = stage.launch(config)?;
    let even = Latency::Uniform {
        min_ms: 40,
        max_ms: 60,
    };
    let slow = BehaviourUpdate {
        teardown: Some(TeardownModel { latency: even }),
        ..BehaviourUpdate::default()
    };
    change(&mut machine, "well", &slow)?;
    let stuck = faults(FaultsConfig {
        flush: Some(FlushFault::Stuck),
        ..FaultsConfig::default()
    });
    change(&mut machine, "dying", &stuck)?;
    machine.client().reboot().context("vm.reboot failed")?;
    let number = machine.teardown_by(Cause::Api)?;
    machine.booted()?;
    let report = machine.report(number)?;
    let dying = device(&report, "dying")?;
    ensure!(
        dying.outcome == Outcome::TimedOut && dying.end_ns - dying.start_ns >= 300 * MS,
        "dying is {:?} after {} ms",
        dying.outcome,
        (dying.end_ns - dying.start_ns) / MS
    );
    let well = device(&report, "well")?;
    let drawn = well.modelled_ns.context("nothing was drawn for well")?;
    ensure!(
        well.outcome == Outcome::Done
            && (40 * MS..=60 * MS).contains(&drawn)
            && well.end_ns - well.start_ns >= drawn,
        "well is {:?} after {} ns, of which {drawn} were drawn",
        well.outcome,
        well.end_ns - well.start_ns
    );
    machine.check_reports()?;
    machine.end()
}

fn met(stage: &mut Stage) -> Result<()> {
    let config = stage.linux().words("sundown.drives=2").with([
        root_port("rp0", [stage.drive("d0")?]),
        root_port("rp1", [stage.drive("d1")?]),
    ]);
    let mut machine = stage.launch_ready(config)?;
    // The guest's kernel waits five seconds for it, complains, and goes on.
    let hung = faults(FaultsConfig {
        shutdown: Some(ShutdownFault::Hang),
        ..FaultsConfig::default()
    });
    change(&mut machine, "d0", &hung)?;
    let seen = machine.run("list_namespaces; echo $namespace_count")?;
    ensure!(seen == ["2"], "the guest sees {seen:?} namespaces");
    machine.order("reboot -f")?;
    let report = machine.reset_by(Cause::AcpiReset)?;
    let handshake = |id: &str| {
        let devices = report.guest.devices.iter();
        let mut handshakes = devices.filter(|one| one.id == id).map(|one| one.handshake);
        handshakes.next().flatten()
    };
    let (d0, d1) = (handshake("d0"), handshake("d1"));
    ensure!(
        d0.is_some_and(|one| one.completed_ns.is_none() && !one.abrupt),
        "the handshake of d0 is {d0:?}"
    );
    ensure!(
        d1.is_some_and(|one| one.completed_ns.is_some()),
        "the handshake of d1 is {d1:?}"
    );
    machine.ready()?;

    change(&mut machine, "d0", &faults(FaultsConfig::default()))?;
    let removed = faults(FaultsConfig {
        removed: true,
        ..FaultsConfig::default()
    });
    change(&mut machine, "d1", &removed)?;
    let gone = machine.run("od -An -tx1 -N4 /sys/bus/pci/devices/0000:02:00.0/config")?;
    ensure!(
        gone.iter().any(|line| line.trim() == "ff ff ff ff"),
        "the identity of a drive that is gone reads as {gone:?}"
    );
    machine.client().reboot().context("vm.reboot failed")?;
    machine.teardown_by(Cause::Api)?;
    machine.booted()?;
    machine.check_reports()?;
    machine.end()
}

/// Writes that the guest has under way. A boot reads its drives, and writes nothing to them.
const STUCK: u32 = 8;
/// Begins them, and waits until the kernel has handed all of them to the drive.
const WRITES: &str = "tr '\\000' x </dev/zero | head -c 524288 >/x; for at in 0 1 2 3 4 5 6 7; do \
     dd if=/x of=/dev/nvme0n1 bs=64k count=1 seek=$((at + 16)) oflag=direct 2>/dev/null & done; \
     writes=0; while [ $writes -lt 8 ]; do sleep 0.05; \
     read -r other writes </sys/class/block/nvme0n1/inflight; done; echo $writes";
/// Fills most of the guest's memory, and says what with.
const FILL: &str = "mkdir -p /full; mount -t tmpfs -o size=90% none /full; \
     while read -r key kib unit; do [ $key = MemAvailable: ] && mib=$((kib / 1536)); done </proc/meminfo; \
     dd if=/dev/urandom of=/full/data bs=1M count=$mib 2>/dev/null; md5sum </full/data";

fn stuck(stage: &mut Stage) -> Result<()> {
    let drive = stage.drive("d0")?.deadline_ms(5000);
    let config = stage.linux().with([root_port("rp0", [drive])]);
    let mut machine = stage.launch_ready(config)?;
    let writes = CommandFault {
        queue: Some(QueueKind::Io),
        opcode: Some(1),
        nth: 1,
        repeat: true,
        effect: Effect::Stuck {},
    };
    let never = FaultsConfig {
        commands: vec![writes],
        ..FaultsConfig::default()
    };
    machine.run("while [ ! -b /dev/nvme0n1 ]; do sleep 0.05; done")?;
    change(&mut machine, "d0", &faults(never))?;
    let seen = machine.run(WRITES)?;
    ensure!(
        seen.last() == Some(&STUCK.to_string()),
        "the guest has {seen:?} writes under way"
    );
    machine.client().reboot().context("vm.reboot failed")?;
    let number = machine.teardown_by(Cause::Api)?;
    machine.booted()?;
    let report = machine.report(number)?;
    let d0 = device(&report, "d0")?;
    let quiesce = d0.phases.iter().find(|phase| phase.name == "quiesce");
    let quiesce = quiesce.context("d0 was not quiesced")?;
    ensure!(
        d0.outcome == Outcome::Done && quiesce.end_ns - quiesce.start_ns < 5000 * MS,
        "d0 is {:?}, and was quiesced in {} ms",
        d0.outcome,
        (quiesce.end_ns - quiesce.start_ns) / MS
    );
    stage.note(format!(
        "{STUCK} stuck writes were cancelled within {} us",
        (quiesce.end_ns - quiesce.start_ns) / 1000
    ));
    // Still stuck: what came before could come late, into what is now another's memory.
    machine.ready()?;
    let before = machine.run(FILL)?;
    change(&mut machine, "d0", &faults(FaultsConfig::default()))?;
    // The drive works, and none of them was executed.
    let written = machine.run(
        "dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=1 seek=24 oflag=direct 2>/dev/null && \
         dd if=/dev/nvme0n1 bs=64k count=8 skip=16 iflag=direct 2>/dev/null | tr -d '\\000' | wc -c",
    )?;
    ensure!(
        written.last().is_some_and(|bytes| bytes.trim() == "0"),
        "writes of the boot before were executed: {written:?}"
    );
    let after = machine.run("md5sum </full/data")?;
    ensure!(
        !before.is_empty() && before.last() == after.last(),
        "memory was {before:?} and is {after:?}"
    );
    machine.check_reports()?;
    machine.end()
}
