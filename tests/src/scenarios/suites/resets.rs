//! Controllers reset under load, and programs that write whole drives.

use anyhow::{Result, ensure};

use super::{Kernel, end_without_complaint, guest};
use crate::scenarios::design::{drive, root_port};
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("controllers_are_reset_under_load", 240, |stage| {
        resets(stage, Kernel::Stock)
    }),
    Scenario::new(
        "controllers_of_the_newest_kernel_are_reset_under_load",
        240,
        |stage| resets(stage, Kernel::Newest),
    ),
    Scenario::new("whole_drives_are_discarded_and_tested", 180, whole_drives),
];

/// Resets of each of the two drives, by nvme-cli and by sysfs.
const RESETS: u32 = 10;

fn resets(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let devices = [
        root_port("rp0", [drive("a", stage.raw_file("a", 8)?)]),
        root_port("rp1", [drive("b", stage.raw_file("b", 8)?)]),
    ];
    let mut machine = guest(stage, kernel, 2, devices)?;
    machine.run(
        "fio --direct=1 --rw=randrw --bs=4k --size=8m --time_based --runtime=600 --iodepth=16 \
         --ioengine=libaio --thread --verify=crc32c --verify_fatal=1 --verify_backlog=64 \
         --name=a --filename=/dev/nvme0n1 --name=b --filename=/dev/nvme1n1 \
         --eta=never --output=/run/fio.log & fio=$!",
    )?;
    machine.run(&format!(
        "i=0; while [ $i -lt {RESETS} ]; do i=$((i + 1)); \
         nvme reset /dev/nvme0 && echo 1 >/sys/class/nvme/nvme1/reset_controller || i=failed; \
         sleep 0.2; done; [ $i = {RESETS} ]"
    ))?;
    // Still at work after the last reset; fio's status when it is interrupted says nothing.
    machine.run("kill -INT $fio")?;
    machine.run("wait $fio; true")?;
    let failed = machine.run("grep -E 'err= *[1-9]|verify:|error' /run/fio.log || true")?;
    ensure!(failed.is_empty(), "under resets fio found {failed:#?}");
    let read = machine.run("grep -c -E '^ +(read|READ):.*IOPS=[1-9]' /run/fio.log || true")?;
    ensure!(
        read == ["2"],
        "both drives were to be read under resets: {read:?}"
    );
    let seen = machine.run("cat /sys/class/nvme/nvme*/state")?;
    ensure!(seen == ["live", "live"], "after the resets: {seen:?}");
    end_without_complaint(machine, &["resetting controller"])
}

fn whole_drives(stage: &mut Stage) -> Result<()> {
    let devices = [root_port("rp0", [drive("a", stage.raw_file("a", 4)?)])];
    let mut machine = guest(stage, Kernel::Stock, 1, devices)?;
    let bad = machine.run("badblocks -w -b 4096 -t 0xA5 -t 0x5A /dev/nvme0n1")?;
    ensure!(bad.is_empty(), "badblocks found {bad:?}");
    machine
        .run("/suites/bin/blkdiscard -z /dev/nvme0n1 && cmp -n 4194304 /dev/nvme0n1 /dev/zero")?;
    machine
        .run("badblocks -w -b 4096 -t 0xFF /dev/nvme0n1 && /suites/bin/blkdiscard /dev/nvme0n1")?;
    // Deallocated blocks read as zeroes, as Identify says.
    machine.run("cmp -n 4194304 /dev/nvme0n1 /dev/zero")?;
    end_without_complaint(machine, &[])
}
