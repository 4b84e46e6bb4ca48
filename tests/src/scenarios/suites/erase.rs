//! nvme-cli formats and sanitizes a drive: the data is gone, and the kernel knows the new blocks.

use anyhow::{Result, ensure};

use super::{Kernel, end_without_complaint, field, guest, refused};
use crate::scenarios::design::{drive, root_port};
use crate::scenarios::machine::Machine;
use crate::scenarios::{Scenario, Stage};

pub(in crate::scenarios) const SCENARIOS: &[Scenario] = &[
    Scenario::new("nvme_cli_formats_and_sanitizes", 180, |stage| {
        erase(stage, Kernel::Stock)
    }),
    Scenario::new(
        "nvme_cli_of_the_newest_kernel_formats_and_sanitizes",
        180,
        |stage| erase(stage, Kernel::Newest),
    ),
];

const MIB: u64 = 8;

fn erase(stage: &mut Stage, kernel: Kernel) -> Result<()> {
    let devices = [root_port("rp0", [drive("a", stage.raw_file("a", MIB)?)])];
    let mut machine = guest(stage, kernel, 1, devices)?;
    // To the other block size, to the same again, and back.
    for (format, bytes) in [(1, 4096), (1, 4096), (0, 512)] {
        fill(&mut machine)?;
        machine.run(&format!(
            "nvme format /dev/nvme0n1 --lbaf={format} --ses=1 --force"
        ))?;
        let size = machine.run("cat /sys/block/nvme0n1/queue/logical_block_size")?;
        ensure!(
            size == [bytes.to_string()],
            "formatted with blocks of {bytes} bytes, the kernel sees {size:?}"
        );
        let sectors = machine.run("cat /sys/block/nvme0n1/size")?;
        ensure!(
            sectors == [(MIB * 2048).to_string()],
            "formatted, the kernel sees {sectors:?} sectors"
        );
        holds(&mut machine, "\\0")?;
    }
    refused(
        &mut machine,
        "nvme format /dev/nvme0n1 --lbaf=0 --ses=2 --force",
        "Invalid Field",
    )?;
    refused(
        &mut machine,
        "nvme admin-passthru /dev/nvme0 --opcode=0x80 --namespace-id=1 --cdw10=5",
        "Invalid Format",
    )?;

    fill(&mut machine)?;
    machine.run("nvme sanitize /dev/nvme0 --sanact=2")?;
    sanitized(&mut machine)?;
    holds(&mut machine, "\\0")?;
    fill(&mut machine)?;
    machine.run("nvme sanitize /dev/nvme0 --sanact=3 --ovrpat=0x5a5a5a5a --owpass=2")?;
    sanitized(&mut machine)?;
    holds(&mut machine, "\\132")?;
    refused(
        &mut machine,
        "nvme sanitize /dev/nvme0 --sanact=4",
        "Invalid Field",
    )?;
    end_without_complaint(machine, &["rescanning namespaces"])
}

/// Data that no erasing leaves.
fn fill(machine: &mut Machine) -> Result<()> {
    machine
        .run(&format!(
            "dd if=/dev/urandom of=/dev/nvme0n1 bs=1M count={MIB} oflag=direct conv=fsync 2>/dev/null"
        ))
        .map(drop)
}

/// Every byte of the drive is this one, as `tr` writes it.
fn holds(machine: &mut Machine, byte: &str) -> Result<()> {
    let others = machine.run(&format!(
        "dd if=/dev/nvme0n1 bs=1M iflag=direct 2>/dev/null | tr -d '{byte}' | wc -c; \
         dd if=/dev/nvme0n1 bs=1M iflag=direct 2>/dev/null | wc -c"
    ))?;
    ensure!(
        others == ["0".to_owned(), (MIB << 20).to_string()],
        "bytes other than {byte}, and bytes in all: {others:?}"
    );
    Ok(())
}

/// Waits for the end of the operation, which is a success.
fn sanitized(machine: &mut Machine) -> Result<()> {
    const LOG: &str = "nvme sanitize-log /dev/nvme0";
    const PROGRESS: &str = "Sanitize Progress";
    machine.run(&format!(
        "i=0; until {LOG} | grep -q '{PROGRESS}.*: *65535'; do i=$((i + 1)); [ $i -lt 300 ] || break; \
         sleep 0.1; done"
    ))?;
    let progress = field(machine, LOG, PROGRESS)?;
    ensure!(progress == "65535", "the progress stays at {progress}");
    let status = field(machine, LOG, "Sanitize Status")?;
    // Bits 2:0: the last operation completed.
    let value = u16::from_str_radix(status.trim_start_matches("0x"), 16);
    ensure!(
        value.as_ref().is_ok_and(|value| value & 0b111 == 1),
        "the operation ended with status {status}"
    );
    Ok(())
}
