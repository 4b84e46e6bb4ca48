//! ext4 and XFS: made, filled, and whole after ten reboots.

use anyhow::{Result, ensure};

use super::{Kernel, end_without_complaint, enter, guest};
use crate::scenarios::design::{drive, root_port};
use crate::scenarios::machine::Machine;
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "file_systems_are_whole_after_ten_reboots",
    420,
    file_systems,
)];

const REBOOTS: u32 = 10;

const EXT4_MIB: u64 = 24;
/// The smallest that mkfs.xfs makes.
const XFS_MIB: u64 = 320;

/// Mounts both.
const MOUNT: &str = "mkdir -p /ext4 /xfs && mount -t ext4 $ext4 /ext4 && mount -t xfs $xfs /xfs \
                     || { dmesg | tail -n 12; false; }";

fn file_systems(stage: &mut Stage) -> Result<()> {
    let devices = [
        root_port("rp0", [drive("ext4", stage.raw_file("ext4", EXT4_MIB)?)]),
        root_port("rp1", [drive("xfs", stage.raw_file("xfs", XFS_MIB)?)]),
    ];
    let mut machine = guest(stage, Kernel::Stock, 2, devices)?;
    find_drives(&mut machine)?;
    // Blocks of a page: with smaller ones a full ext4 that is reset may hold blocks beyond the end of a file,
    // which e2fsck finds, since the kernel counts a page as written that is so in part.
    machine.run("/suites/bin/mke2fs -q -t ext4 -b 4096 $ext4 && mkfs.xfs -q $xfs")?;
    machine.run(MOUNT)?;
    // ext4 until it is full; of XFS as much.
    machine.run(
        "head -c 1048576 /dev/urandom >/run/block; for system in /ext4 /xfs; do i=0; \
         while [ $i -lt 20 ] && cp /run/block $system/$i 2>/dev/null; do i=$((i + 1)); done; \
         rm -f $system/$i; (cd $system && sha256sum [0-9]* >sums); done; sync",
    )?;
    for number in 1..=REBOOTS {
        // Written and synced, and the reset comes without an unmount, every other time in the middle of
        // further writes.
        machine.run(&format!(
            "for system in /ext4 /xfs; do rm -f $system/0; echo {number} >$system/boot-{number}; \
             (cd $system && sha256sum [1-9]* boot-* >sums); done; sync"
        ))?;
        if number % 2 == 0 {
            machine.order("while :; do cat /run/block >/ext4/0; cat /run/block >/xfs/0; done")?;
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        machine.reboot()?;
        machine.ready()?;
        enter(&mut machine)?;
        find_drives(&mut machine)?;
        machine.run(MOUNT)?;
        check(&mut machine, number)?;
        machine.run("head -c 1048576 /dev/urandom >/run/block")?;
    }
    machine.run("umount /ext4 /xfs && e2fsck -fn $ext4 && xfs_repair -n $xfs 2>&1")?;
    end_without_complaint(machine, &["EXT4-fs (nvme", "XFS (nvme"])
}

/// Which is which, by their size: Linux probes drives side by side, and the first one to be there is nvme0.
fn find_drives(machine: &mut Machine) -> Result<()> {
    let sectors = EXT4_MIB << 11;
    machine
        .run(&format!(
            "for block in /sys/block/nvme*n1; do case $(cat $block/size) in \
             {sectors}) ext4=/dev/${{block##*/}} ;; *) xfs=/dev/${{block##*/}} ;; esac; done"
        ))
        .map(drop)
}

fn check(machine: &mut Machine, number: u32) -> Result<()> {
    let wrong = machine.run(
        "for system in /ext4 /xfs; do (cd $system && sha256sum -c sums 2>&1 | grep -v ': OK'); done; true",
    )?;
    ensure!(wrong.is_empty(), "after reboot {number}: {wrong:#?}");
    let boots = machine.run("cat /ext4/boot-* /xfs/boot-* | wc -l")?;
    ensure!(
        boots == [(2 * number).to_string()],
        "after reboot {number} there are the files of {boots:?} boots"
    );
    Ok(())
}
