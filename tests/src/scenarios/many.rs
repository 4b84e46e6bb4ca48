//! Hundreds of controllers in one machine, behind switches and PCI bridges. A stock kernel sees them all, and a
//! reset takes them all down.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::config::DeviceConfig;

use super::design::{Design, Device, drive, pci_bridge, root_port, switch_of};
use super::usage::Usage;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "a_machine_of_64_controllers_boots_and_reboots",
        300,
        |stage| {
            let kernel = stage.files.kernel.clone();
            many(stage, 1, kernel)
        },
    ),
    Scenario::new(
        "a_machine_of_256_controllers_boots_and_reboots",
        600,
        |stage| {
            // The older kernel was seen to hang at 256, idle, before its init: as far as can be told each probe
            // holds one of the 256 places for asynchronous work and waits for a scan that needs another.
            let kernel = stage.files.newest_kernel.clone();
            many(stage, 4, kernel)
        },
    ),
];

/// Of each switch, a device of four functions behind every port; of each PCI bridge, a device in every slot.
const PORTS: u8 = 8;
const FUNCTIONS: u8 = 4;
const SLOTS: u8 = 32;
/// An emulated host takes its time to find so many.
const BOOT: Duration = Duration::from_secs(200);
/// The guest writes to and reads from each of them.
const TOUCH: &str = "for disk in $namespaces; do { echo $disk | dd of=/dev/$disk bs=512 conv=sync,fsync && \
     dd if=/dev/$disk bs=512 count=1 iflag=direct | grep -qx $disk || echo bad $disk; } 2>/dev/null; done";

/// So many switches and as many PCI bridges, with 32 controllers each.
fn many(stage: &mut Stage, switches: usize, kernel: PathBuf) -> Result<()> {
    let mut number = 0;
    let mut next = || -> Result<Device> {
        number += 1;
        let id = format!("d{number}");
        let mut drive = drive(&id, stage.raw_file(&id, 1)?);
        // x86 Linux has about 200 vectors a CPU, and takes one of every CPU for each queue that has its own.
        if let DeviceConfig::Nvme(nvme) = &mut drive.0 {
            (nvme.io_queues, nvme.interrupt_vectors) = (Some(1), Some(1));
        }
        Ok(drive)
    };
    let mut devices = Vec::new();
    for at in 0..switches {
        let mut ports = Vec::new();
        for _ in 0..PORTS {
            let functions = (0..FUNCTIONS).map(|function| Ok(next()?.at(0, function)));
            ports.push(functions.collect::<Result<Vec<_>>>()?);
        }
        let switch = switch_of(&format!("s{at}"), ports);
        devices.push(root_port(format!("rs{at}"), [switch]));
    }
    for at in 0..switches {
        let drives = (0..SLOTS).map(|device| Ok(next()?.at(device, 0)));
        let bridge = pci_bridge(format!("b{at}"), drives.collect::<Result<Vec<_>>>()?);
        devices.push(root_port(format!("rb{at}"), [bridge]));
    }
    let all = number;

    let mut config = stage
        .linux()
        .cpus(2)
        .memory_mib(2048)
        .words(&format!("sundown.drives={all} sundown.wait=100"))
        .with(devices);
    config.payload.kernel = kernel;
    let begin = Instant::now();
    let mut machine = stage.launch(config)?;
    machine.ready_within(BOOT)?;
    stage.note(format!("ready after {} s", begin.elapsed().as_secs()));
    for boot in 1..=2 {
        let seen = machine.run("list_namespaces; echo $namespace_count")?;
        ensure!(
            seen == [all.to_string()],
            "in boot {boot} the guest sees {seen:?} namespaces"
        );
        let bad = machine.run(TOUCH)?;
        ensure!(bad.is_empty(), "in boot {boot}: {bad:?}");
        let said = machine.run("dmesg | grep -E 'nvme.*(fail|error|time|reset|-28)' || true")?;
        ensure!(said.is_empty(), "in boot {boot} the kernel says {said:#?}");
        stage.note(format!(
            "boot {boot}: {}",
            Usage::of(machine.process.pid())?
        ));
        if boot == 1 {
            let report = machine.reboot()?;
            let drives = report
                .devices
                .iter()
                .filter(|device| device.class == "nvme");
            let count = drives.count();
            ensure!(count == all, "the report has {count} drives");
            stage.note(format!(
                "teardown {:.1} ms, of {} devices",
                report.teardown_ns as f64 / 1e6,
                report.devices.len()
            ));
            machine.ready_within(BOOT)?;
        }
    }
    machine.end()
}
