//! fio writes and verifies: on every drive, from one command under way to 128, with several jobs at once.

use anyhow::{Result, ensure};

use super::{Kernel, end_without_complaint, guest};
use crate::scenarios::design::{drive, pci_bridge, root_port, switch};
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("fio_verifies_every_drive", 240, |stage| {
        fio(stage, Kernel::Stock)
    }),
    Scenario::new(
        "fio_verifies_every_drive_of_the_newest_kernel",
        240,
        |stage| fio(stage, Kernel::Newest),
    ),
];

/// Of each drive; its jobs have a part each.
const MIB: u64 = 16;
/// Commands under way at most, of each job.
const DEPTHS: [u32; 4] = [1, 8, 32, 128];

fn fio(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let [a, b, c] = ["a", "b", "c"].map(|id| Ok(drive(id, stage.raw_file(id, MIB)?)));
    let (a, b, c): (Result<_>, Result<_>, Result<_>) = (a, b, c);
    let devices = [
        root_port("rp0", [a?]),
        root_port("rp1", [switch("s", [b?])]),
        root_port("rp2", [pci_bridge("bridge", [c?])]),
    ];
    let mut machine = guest(stage, kernel, 3, devices)?;
    // Sizes that are no multiple of a page, and some that need a list of pages.
    let mut jobs = String::from(
        "fio --direct=1 --rw=randwrite --bsrange=512-96k --verify=crc32c --verify_fatal=1 \
         --do_verify=1 --size=3m --io_size=3m --thread --eta=never --output=/run/fio.log --group_reporting",
    );
    for drive in 0..3 {
        for (part, depth) in DEPTHS.iter().enumerate() {
            let engine = if part % 2 == 0 { "io_uring" } else { "libaio" };
            jobs.push_str(&format!(
                " --name=drive{drive}-{depth} --filename=/dev/nvme{drive}n1 --offset={}m \
                 --iodepth={depth} --ioengine={engine}",
                4 * part
            ));
        }
    }
    machine.run(&jobs)?;
    let verified = machine.run("grep -E 'err= *[1-9]|verify:' /run/fio.log || true")?;
    ensure!(verified.is_empty(), "fio found {verified:#?}");
    let totals = machine.run("grep -E '^ *(read|write|READ|WRITE):' /run/fio.log | head -4")?;
    ensure!(
        totals
            .iter()
            .any(|line| line.contains("READ") || line.contains("read")),
        "fio has read nothing back: {totals:?}"
    );
    for line in totals {
        stage.note(line.trim().to_owned());
    }
    end_without_complaint(machine, &[])
}
