//! nvme-cli sends single commands: those of the NVM command set, features, self-tests, resets of the subsystem;
//! and what the drive's logs then say.

use anyhow::{Context, Result, ensure};

use super::{Kernel, end_without_complaint, field, guest, refused};
use crate::scenarios::design::{drive, root_port};
use crate::scenarios::machine::Machine;
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("nvme_cli_sends_every_command", 180, |stage| {
        commands(stage, Kernel::Stock)
    }),
    Scenario::new(
        "nvme_cli_of_the_newest_kernel_sends_every_command",
        180,
        |stage| commands(stage, Kernel::Newest),
    ),
    Scenario::new(
        "a_driver_recovers_from_a_reset_of_the_subsystem",
        180,
        |stage| subsystem(stage, Kernel::Stock),
    ),
    Scenario::new(
        "the_newest_driver_recovers_from_a_reset_of_the_subsystem",
        180,
        |stage| subsystem(stage, Kernel::Newest),
    ),
];

const DRIVE: &str = "/dev/nvme0n1";
/// Eight blocks from this one on.
const EIGHT: &str = "--block-count=7 --data-size=4096";

fn commands(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let devices = [root_port("rp0", [drive("a", stage.raw_file("a", 8)?)])];
    let mut machine = guest(stage, kernel, 1, devices)?;
    blocks(&mut machine)?;
    counters(&mut machine)?;
    errors(&mut machine)?;
    features(&mut machine)?;
    self_test(&mut machine)?;
    let effects = machine.run("nvme effects-log /dev/nvme0")?;
    for name in ["Format", "Sanitize", "Copy", "Verify", "Dataset Management"] {
        ensure!(
            effects.iter().any(|line| line.contains(name)),
            "the effects of {name} are not in {effects:#?}"
        );
    }
    end_without_complaint(
        machine,
        &[
            "resetting controller",
            "critical medium error",
            "Unrecovered Read Error",
        ],
    )
}

/// Each command does its work, and the next ones see it.
fn blocks(machine: &mut Machine) -> Result<()> {
    machine.run("head -c 4096 /dev/urandom >/run/a; head -c 4096 /dev/urandom >/run/b")?;
    machine.run(&format!(
        "nvme write {DRIVE} --start-block=0 {EIGHT} --data=/run/a"
    ))?;
    reads(machine, 0, "/run/a")?;
    machine.run(&format!(
        "nvme compare {DRIVE} --start-block=0 {EIGHT} --data=/run/a"
    ))?;
    refused(
        machine,
        &format!("nvme compare {DRIVE} --start-block=0 {EIGHT} --data=/run/b"),
        "Compare Failure",
    )?;
    machine.run(&format!(
        "nvme verify {DRIVE} --start-block=0 --block-count=7"
    ))?;

    machine.run(&format!(
        "nvme copy {DRIVE} --sdlba=64 --slbs=4,0 --blocks=3,3"
    ))?;
    machine.run("{ tail -c 2048 /run/a; head -c 2048 /run/a; } >/run/turned")?;
    reads(machine, 64, "/run/turned")?;

    machine.run(&format!(
        "nvme write-zeroes {DRIVE} --start-block=64 --block-count=7"
    ))?;
    reads(machine, 64, "/dev/zero")?;
    machine.run(&format!("nvme dsm {DRIVE} --ad --slbs=0 --blocks=8"))?;
    reads(machine, 0, "/dev/zero")?;
    machine.run(&format!("nvme flush {DRIVE}")).map(drop)
}

fn reads(machine: &mut Machine, block: u32, expected: &str) -> Result<()> {
    machine
        .run(&format!(
            "nvme read {DRIVE} --start-block={block} {EIGHT} --data=/run/read && \
             cmp -n 4096 /run/read {expected}"
        ))
        .map(drop)
}

fn smart(machine: &mut Machine, key: &str) -> Result<u64> {
    let value = field(machine, "nvme smart-log /dev/nvme0", key)?;
    let number = value.split_whitespace().next().unwrap_or_default();
    number
        .replace(',', "")
        .parse()
        .with_context(|| format!("{key} is `{value}`"))
}

/// Exactly what was sent is counted.
fn counters(machine: &mut Machine) -> Result<()> {
    const KEYS: [(&str, u64); 2] = [("host_read_commands", 10), ("host_write_commands", 20)];
    let mut before = Vec::new();
    for (key, _) in KEYS {
        before.push(smart(machine, key)?);
    }
    machine.run(&format!(
        "dd if={DRIVE} of=/dev/null bs=64k count=10 iflag=direct 2>/dev/null && \
         dd if=/dev/zero of={DRIVE} bs=64k count=20 oflag=direct 2>/dev/null"
    ))?;
    for ((key, more), before) in KEYS.into_iter().zip(before) {
        let after = smart(machine, key)?;
        ensure!(
            after == before + more,
            "{more} commands changed {key} from {before} to {after}"
        );
    }
    Ok(())
}

/// A block that cannot be read is an error of the medium, with an entry in the log.
fn errors(machine: &mut Machine) -> Result<()> {
    let before = (
        smart(machine, "media_errors")?,
        smart(machine, "num_err_log_entries")?,
    );
    machine.run(&format!(
        "nvme write-uncor {DRIVE} --start-block=40 --block-count=0"
    ))?;
    for command in [
        format!("nvme verify {DRIVE} --start-block=40 --block-count=0"),
        format!("nvme read {DRIVE} --start-block=36 {EIGHT} --data=/run/read"),
    ] {
        refused(machine, &command, "Unrecovered Read Error")?;
    }
    let after = (
        smart(machine, "media_errors")?,
        smart(machine, "num_err_log_entries")?,
    );
    ensure!(
        after == (before.0 + 2, before.1 + 2),
        "two failed reads changed media errors and error entries from {before:?} to {after:?}"
    );
    let log = "nvme error-log /dev/nvme0 --log-entries=1";
    let status = field(machine, log, "status_field")?;
    ensure!(
        status.contains("Unrecovered Read Error"),
        "the last error is {status}"
    );
    let block = field(machine, log, "lba")?;
    ensure!(
        block == "0x28" || block == "0x24",
        "it was at block {block}"
    );
    // Written, it can be read.
    machine.run(&format!(
        "nvme write {DRIVE} --start-block=36 {EIGHT} --data=/run/b"
    ))?;
    reads(machine, 36, "/run/b")
}

/// What is set is there until a reset.
fn features(machine: &mut Machine) -> Result<()> {
    const VALUES: [(u8, u32); 6] = [
        (0x01, 0x0102_0304),
        (0x04, 0x0150),
        (0x06, 0),
        (0x08, 0x0203),
        (0x0A, 1),
        (0x10, 0x0130_0140),
    ];
    let value = |machine: &mut Machine, id: u8| {
        let said = machine.run(&format!("nvme get-feature /dev/nvme0 --feature-id={id}"))?;
        let value = said.iter().find_map(|line| line.rsplit_once(':'));
        let digits = value.map_or("", |(_, value)| value.trim());
        u32::from_str_radix(digits.trim_start_matches("0x"), 16)
            .with_context(|| format!("feature {id:#04x}: {said:?}"))
    };
    let mut defaults = Vec::new();
    for (id, new) in VALUES {
        defaults.push(value(machine, id)?);
        machine.run(&format!(
            "nvme set-feature /dev/nvme0 --feature-id={id} --value={new:#x}"
        ))?;
        let now = value(machine, id)?;
        ensure!(
            now == new,
            "feature {id:#04x} was set to {new:#x} and is {now:#x}"
        );
    }
    machine.run("nvme reset /dev/nvme0")?;
    for ((id, _), default) in VALUES.into_iter().zip(defaults) {
        let now = value(machine, id)?;
        ensure!(
            now == default,
            "after a reset feature {id:#04x} is {now:#x}, not {default:#x}"
        );
    }
    Ok(())
}

fn self_test(machine: &mut Machine) -> Result<()> {
    for code in [1, 2] {
        machine.run(&format!(
            "nvme device-self-test /dev/nvme0 --namespace-id=1 --self-test-code={code}"
        ))?;
        machine.run(
            "i=0; until nvme self-test-log /dev/nvme0 | grep -q 'Current operation *: 0'; do \
             i=$((i + 1)); [ $i -lt 300 ] || break; sleep 0.1; done",
        )?;
        let log = "nvme self-test-log /dev/nvme0 --dst-entries=1";
        let result = field(machine, log, "Operation Result")?;
        ensure!(result.starts_with('0'), "the test's result is {result}");
        let kind = field(machine, log, "Self Test Code")?;
        ensure!(
            kind.starts_with(&code.to_string()),
            "test {code} is in the log as {kind}"
        );
    }
    Ok(())
}

/// NSSR takes all registers back to power-on behind the driver's back. The driver takes the controller for
/// well until it is told otherwise, or until a command is not answered: then CSTS.NSSRO has it reset.
fn subsystem(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let devices = [root_port("rp0", [drive("a", stage.raw_file("a", 8)?)])];
    let mut machine = super::guest_with(
        stage,
        kernel,
        1,
        devices,
        "nvme_core.io_timeout=3 nvme_core.admin_timeout=3",
    )?;
    machine.run(&format!(
        "head -c 1048576 /dev/urandom >/run/a; dd if=/run/a of={DRIVE} bs=64k oflag=direct 2>/dev/null"
    ))?;
    let read = format!("dd if={DRIVE} bs=64k count=16 iflag=direct 2>/dev/null | cmp - /run/a");
    for told in [true, false] {
        machine.run("nvme subsystem-reset /dev/nvme0")?;
        let status = status(&mut machine)?;
        ensure!(
            status & 0x1F == 0x10,
            "after a reset of the subsystem, neither ready nor failed but NSSRO: {status:#x}"
        );
        if told {
            machine.run("nvme reset /dev/nvme0")?;
        }
        machine.run(&read)?;
        let state = machine.run("cat /sys/class/nvme/nvme0/state")?;
        ensure!(state == ["live"], "the controller is {state:?}");
        let status = self::status(&mut machine)?;
        ensure!(
            status & 0x1F == 0x01,
            "ready, and the driver has noted NSSRO: {status:#x}"
        );
    }
    end_without_complaint(
        machine,
        &["resetting controller", "will reset: CSTS=0x10", "timeout, "],
    )
}

/// CSTS, read beside the driver.
fn status(machine: &mut Machine) -> Result<u32> {
    let value = field(machine, "nvme show-regs /dev/nvme0", "csts")?;
    u32::from_str_radix(value.trim_start_matches("0x"), 16)
        .with_context(|| format!("CSTS is `{value}`"))
}
