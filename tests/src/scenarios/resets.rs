//! Every way in which a guest asks for a reset, on a stock kernel, and what is reported as the cause.

use anyhow::{Result, ensure};
use api::report::Cause;

use super::design::{Design, root_port};
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "every_reset_cause_on_stock_linux",
    300,
    every_cause,
)];

/// What Linux is told to reset by (`/sys/kernel/reboot/type`), how it goes down, and the cause.
const RESETS: [(&str, &str, Cause); 4] = [
    // Orderly: Linux shuts its devices down first.
    ("kbd", "reboot -f", Cause::I8042),
    // At once, as a watchdog would: the devices are left as they are.
    ("pci", "echo b >/proc/sysrq-trigger", Cause::PciReset),
    ("acpi", "reboot -f", Cause::AcpiReset),
    ("triple", "reboot -f", Cause::TripleFault),
];

fn every_cause(stage: &mut Stage) -> Result<()> {
    let drives = [stage.drive("d0")?, stage.drive("d1")?];
    let [first, second] = drives.map(|drive| drive.teardown_ms(30));
    let config = stage
        .linux()
        .cpus(2)
        .words("sundown.drives=2")
        .with([root_port("rp0", [first]), root_port("rp1", [second])]);
    let mut machine = stage.launch_ready(config)?;

    for (kind, command, cause) in RESETS {
        let boot = machine.boot;
        machine.run("echo 1 >/proc/sys/kernel/sysrq")?;
        machine.run(&format!("echo {kind} >/sys/kernel/reboot/type"))?;
        machine.order(command)?;
        let report = machine.reset_by(cause)?;
        // Linux asks again and by other means until it is gone: none of it may end the next boot.
        machine.ready()?;
        let report = machine.report(report.number)?;
        ensure!(
            report.reset_to_ready_ns.is_some(),
            "the guest is ready, but the report does not say since when"
        );
        ensure!(
            report.boot == boot && machine.boot == boot + 1,
            "the reset ended boot {}, and boot {} follows",
            report.boot,
            machine.boot
        );
        stage.note(format!(
            "{cause:?}: pause {} µs, teardown {} µs, rest {} µs",
            report.vcpu_pause_ns / 1000,
            report.teardown_ns / 1000,
            report.reset_rest_ns.unwrap_or(0) / 1000
        ));
    }

    machine.reboot()?;
    machine.ready()?;

    machine.order("poweroff -f")?;
    machine.stopped_by(Cause::PowerOff)?;
    let teardowns = machine.client().teardowns()?;
    ensure!(
        teardowns.len() == RESETS.len() + 2,
        "{} teardowns for {} resets and a power-off",
        teardowns.len(),
        RESETS.len() + 1
    );
    machine.end()
}
