//! nvme-cli: what a drive says of itself, and what it does when told.

use anyhow::{Result, ensure};

use super::{Kernel, end_without_complaint, guest};
use crate::scenarios::design::{drive, root_port};
use crate::scenarios::machine::Machine;
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("nvme_cli_reads_what_a_drive_says_of_itself", 120, |stage| {
        identify(stage, Kernel::Stock)
    }),
    Scenario::new("nvme_cli_of_the_newest_kernel_reads_it_too", 120, |stage| {
        identify(stage, Kernel::Newest)
    }),
];

/// Each must end with status 0.
const READS: &[&str] = &[
    "nvme list",
    "nvme id-ctrl /dev/nvme0 -H",
    "nvme id-ns /dev/nvme0n1 -H",
    "nvme ns-descs /dev/nvme0n1",
    "nvme list-ns /dev/nvme0",
    "nvme cmdset-ind-id-ns /dev/nvme0n1",
    "nvme nvm-id-ctrl /dev/nvme0",
    "nvme show-regs /dev/nvme0 -H",
    "nvme smart-log /dev/nvme0",
    "nvme error-log /dev/nvme0",
    "nvme fw-log /dev/nvme0",
    "nvme changed-ns-list-log /dev/nvme0",
    "nvme effects-log /dev/nvme0",
    "nvme supported-log-pages /dev/nvme0",
    "nvme get-feature /dev/nvme0 -f 1 -H",
    "nvme get-feature /dev/nvme0 -f 2 -H",
    "nvme get-feature /dev/nvme0 -f 4 -H",
    "nvme get-feature /dev/nvme0n1 -f 5 -H",
    "nvme get-feature /dev/nvme0 -f 6 -H",
    "nvme get-feature /dev/nvme0 -f 7 -H",
    "nvme get-feature /dev/nvme0 -f 8 -H",
    "nvme get-feature /dev/nvme0 -f 9 -H",
    "nvme get-feature /dev/nvme0 -f 10 -H",
    "nvme get-feature /dev/nvme0 -f 11 -H",
    "nvme get-feature /dev/nvme0 -f 14 -H",
];

fn identify(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let devices = [root_port("rp0", [drive("a", stage.raw_file("a", 8)?)])];
    let mut machine = guest(stage, kernel, 1, devices)?;
    for command in READS {
        machine.run(&format!(
            "{command} >/run/said 2>&1 || {{ cat /run/said; false; }}"
        ))?;
    }
    let says = |machine: &mut Machine, command: &str| machine.run(command);
    let version = says(&mut machine, "nvme id-ctrl /dev/nvme0 | grep '^ver '")?;
    ensure!(
        version.iter().any(|line| line.ends_with("0x20000")),
        "its version is {version:?}"
    );
    let blocks = says(&mut machine, "nvme id-ns /dev/nvme0n1 | grep '^nsze '")?;
    ensure!(
        blocks.iter().any(|line| line.ends_with("0x4000")),
        "8 MiB in blocks of 512 bytes are {blocks:?}"
    );
    // What a write of 1 MiB does to the counters: units of 1,000 blocks, rounded up.
    machine.run("dd if=/dev/urandom of=/dev/nvme0n1 bs=64k count=16 oflag=direct 2>/dev/null")?;
    let written = says(
        &mut machine,
        "nvme smart-log /dev/nvme0 | grep -i '^data units written' | head -1",
    )?;
    ensure!(
        written.iter().any(|line| line.contains(": 3 ")),
        "2,048 blocks written are counted as {written:?}"
    );
    machine.run("nvme flush /dev/nvme0n1 -n 1 && nvme reset /dev/nvme0")?;
    end_without_complaint(machine, &["resetting controller"])
}
