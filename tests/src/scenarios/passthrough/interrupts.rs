//! How passed-through devices interrupt: by pin, on lines that others share; by MSI. What does the latter has no reset
//! of its own either.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::super::design::{self, Design, root_port};
use super::super::machine::Machine;
use super::super::served::Served;
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{DEADLINE_MS, check_resets, device, forget, host_drives};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("passed_through_drives_interrupt_by_pin", 240, pins).with_vfio(),
    Scenario::new(
        "functions_of_one_slot_interrupt_by_msi_and_are_reset_together",
        240,
        one_slot,
    )
    .with_vfio(),
];

/// A line of the guest's `/proc/interrupts`.
#[derive(Debug)]
struct Line {
    /// Over all CPUs.
    count: u64,
    /// Whose it is and how it comes, as Linux says it.
    rest: String,
}

/// Those lines that have these words.
fn lines(machine: &mut Machine, words: &str) -> Result<Vec<Line>> {
    let said = machine.run("cat /proc/interrupts")?;
    let said = said.iter().filter(|line| line.contains(words));
    said.map(|line| {
        let (_, rest) = line.split_once(':').context("a line has no number")?;
        let counts = rest
            .split_whitespace()
            .map_while(|word| word.parse::<u64>().ok());
        Ok(Line {
            count: counts.sum(),
            rest: rest.to_owned(),
        })
    })
    .collect()
}

/// They must be the same lines, and each must have been busy.
fn have_grown(before: &[Line], after: &[Line]) -> Result<()> {
    let busy = |(before, after): (&Line, &Line)| before.count < after.count;
    ensure!(
        before.len() == after.len() && before.iter().zip(after).all(busy),
        "not every line was busy: {before:#?}, then {after:#?}"
    );
    Ok(())
}

/// The serial numbers of the drives on a line.
fn drives_on(machine: &mut Machine, line: &Line) -> Result<BTreeSet<String>> {
    let words = line.rest.split([' ', ',']);
    let queues = words.filter(|word| word.starts_with("nvme"));
    let controllers: BTreeSet<_> = queues
        .filter_map(|queue| Some(queue.rsplit_once('q')?.0))
        .collect();
    let said = controllers.iter().map(|controller| {
        let said = machine.run(&format!(
            "read -r serial </sys/class/nvme/{controller}/serial; echo $serial"
        ))?;
        said.into_iter()
            .next()
            .context("a drive has no serial number")
    });
    said.collect()
}

/// In a guest that uses no messages. Of five devices on the root bus the first and the last are eight places apart, and
/// so on one line.
fn pins(stage: &mut Stage) -> Result<()> {
    let served = Served::start(stage, "u0", 0)?;
    let mut drives = host_drives(stage, 2)?;
    drives.push(served.device(DEADLINE_MS, false));
    drives.push(stage.drive("e0")?);
    drives.push(stage.drive("e1")?.at(9, 0));
    let config = stage
        .linux()
        .cpus(2)
        .words("pci=nomsi sundown.drives=5")
        .with(drives);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    for boot in 1..=2 {
        let before = lines(&mut machine, "nvme")?;
        pattern(&mut machine, boot)?;
        let after = lines(&mut machine, "nvme")?;
        have_grown(&before, &after)?;
        let others: Vec<_> = after
            .iter()
            .filter(|line| !line.rest.contains("IO-APIC"))
            .collect();
        ensure!(
            others.is_empty(),
            "drives do not interrupt by pin: {others:#?}"
        );
        let mut seen = BTreeSet::new();
        let mut shared = Vec::new();
        for line in &after {
            let drives = drives_on(&mut machine, line)?;
            if drives.len() > 1 {
                shared.push(drives.clone());
            }
            seen.extend(drives);
        }
        ensure!(seen.len() == 5, "of five drives these have lines: {seen:?}");
        let with = |serial: &str| shared.iter().any(|drives| drives.contains(serial));
        ensure!(
            shared.len() == 1 && with("e1") && !with("e0"),
            "the lines that are shared: {shared:?}"
        );
        stage.note(format!("on one line: {shared:?}"));
        machine.reboot()?;
        machine.ready()?;
    }
    machine.end()
}

/// Two SATA controllers. That the reset reached both is seen by their global interrupt enable, which Linux sets and the
/// machine does not touch.
fn one_slot(stage: &mut Stage) -> Result<()> {
    let functions = match stage.files.sata.as_slice() {
        [first, second] => [
            design::vfio("s0", first),
            design::vfio("s1", second).at(0, 1),
        ],
        others => bail!("the host has the SATA controllers {others:?}, two are needed"),
    };
    let config = stage.linux().cpus(2).words("iomem=relaxed");
    let config = config.with([root_port("rp0", functions)]);
    let mut machine = stage.launch_ready(config)?;
    let mut sums = Vec::new();
    for boot in 1..=3 {
        ensure!(
            global_controls(&mut machine)? == [ENABLED; 2],
            "after a reset the controllers interrupt"
        );
        disks(&mut machine)?;
        let before = lines(&mut machine, "ahci")?;
        if boot == 1 {
            machine.run(
                "for d in $disks; do dd if=/dev/urandom of=$d bs=64k count=16 oflag=direct 2>/dev/null; done",
            )?;
        }
        let now = machine
            .run("for d in $disks; do dd if=$d bs=64k count=16 iflag=direct 2>/dev/null | sha256sum; done")?;
        if boot == 1 {
            sums.clone_from(&now);
        }
        ensure!(
            now.len() == 2 && now == sums && now.first() != now.last(),
            "in boot {boot} the disks have {now:?}, and had {sums:?}"
        );
        let after = lines(&mut machine, "ahci")?;
        have_grown(&before, &after)?;
        let by_msi = |line: &Line| line.rest.contains("PCI-MSI-");
        ensure!(
            after.len() == 2 && after.iter().all(by_msi),
            "they do not interrupt by MSI: {after:#?}"
        );
        ensure!(
            global_controls(&mut machine)? == [ENABLED | INTERRUPTS; 2],
            "the driver has not enabled interrupts"
        );
        let report = machine.reboot()?;
        for id in ["s0", "s1"] {
            check_resets(&report, &[id.to_owned()], true)?;
            let set = &device(&report, id)?.reset_set;
            ensure!(
                set.as_ref().is_some_and(|set| set.starts_with("slot ")),
                "{id} is said to be reset with {set:?}"
            );
        }
        machine.ready()?;
    }
    machine.end()
}

/// AHCI, 3.1.2: AHCI enable and interrupt enable of GHC.
const ENABLED: u64 = 1 << 31;
const INTERRUPTS: u64 = 1 << 1;

/// GHC of both controllers.
fn global_controls(machine: &mut Machine) -> Result<Vec<u64>> {
    let said = machine.run(
        "for d in /sys/bus/pci/devices/*; do [ \"$(cat $d/class)\" = 0x010601 ] || continue; \
         [ \"$(cat $d/enable)\" != 0 ] || echo 1 >$d/enable; \
         bar=$(sed -n 6p $d/resource); devmem $((${bar%% *} + 4)) 32; done",
    )?;
    said.iter()
        .map(|line| {
            let digits = line.strip_prefix("0x").context("no number")?;
            u64::from_str_radix(digits, 16).with_context(|| format!("GHC is `{line}`"))
        })
        .collect()
}

/// Inserts the driver, and waits for both disks: in `$disks`, in the order of their controllers.
fn disks(machine: &mut Machine) -> Result<()> {
    machine.run(
        "for module in scsi_common scsi_mod sd_mod libata libahci ahci; do \
         insmod /lib/modules/$module.ko || break; done; tries=0; disks=; \
         until [ \"${disks#* /}\" != \"$disks\" ] || [ $tries = 400 ]; do sleep 0.05; tries=$((tries + 1)); \
         disks=; for b in /sys/bus/pci/devices/*/ata*/host*/target*/*/block/sd*; do \
         [ ! -e $b ] || disks=\"$disks /dev/${b##*/}\"; done; disks=${disks# }; done; \
         [ $tries -lt 400 ]",
    )?;
    Ok(())
}
