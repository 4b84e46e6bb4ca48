//! Interrupts by pin: drives behind bridges of every kind, in a guest that uses no messages.

use anyhow::{Result, ensure};

use super::design::{Design, pci_bridge, root_port, switch};
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "drives_work_by_intx_behind_bridges",
    120,
    intx,
)];

/// Writes and reads back a block of every drive; prints the number of drives where that failed.
const TRY_DRIVES: &str = "bad=0; for drive in /dev/nvme?n1; do \
    head -c 4096 /dev/urandom >/run/block; \
    dd if=/run/block of=$drive bs=4096 count=1 conv=fsync oflag=direct 2>/dev/null && \
    dd if=$drive bs=4096 count=1 iflag=direct 2>/dev/null | cmp -s - /run/block || bad=$((bad + 1)); \
    done; echo $bad";

fn intx(stage: &mut Stage) -> Result<()> {
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(|id| stage.drive(id));
    let config = stage
        .linux()
        .cpus(2)
        .words("pci=nomsi sundown.drives=5")
        .with([
            root_port("rp0", [a?]),
            root_port("rp1", [pci_bridge("bridge", [b?, c?.at(3, 0)])]),
            root_port("rp2", [switch("s", [d?, e?])]),
        ]);
    let mut machine = stage.launch_ready(config)?;
    for _ in 0..2 {
        let seen = machine.run("list_namespaces; echo $namespace_count")?;
        ensure!(seen == ["5"], "the guest sees {seen:?} namespaces");
        let bad = machine.run(TRY_DRIVES)?;
        ensure!(
            bad == ["0"],
            "{bad:?} drives did not return what was written"
        );
        let lines = machine.run("grep nvme /proc/interrupts | grep -v IO-APIC | wc -l")?;
        ensure!(
            lines == ["0"],
            "{lines:?} interrupts of drives are not pins"
        );
        machine.reboot()?;
        machine.ready()?;
    }
    machine.end()
}
