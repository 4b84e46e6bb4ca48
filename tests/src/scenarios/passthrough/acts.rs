//! What a guest does to a passed-through drive: resets it, takes it out and finds it again, has it interrupt by pin.

use anyhow::{Context, Result, ensure};

use super::super::design::{Design, root_port};
use super::super::machine::Machine;
use super::super::served::Served;
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{DEADLINE_MS, forget, host_drives};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a_guest_resets_a_passed_through_drive", 180, function_reset).with_vfio(),
    Scenario::new("a_guest_finds_passed_through_drives_anew", 180, found_anew).with_vfio(),
    Scenario::new("passed_through_drives_interrupt_by_pin", 180, pins).with_vfio(),
];

/// The address of the PCI function behind the first namespace.
const ADDRESS: &str = "basename $(readlink -f /sys/class/nvme/nvme0/device)";

fn function_reset(stage: &mut Stage) -> Result<()> {
    let served = Served::start(stage, "u0", 0)?;
    let mut drives = host_drives(stage, 1)?;
    drives.push(served.device(DEADLINE_MS, false));
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage.linux().cpus(2).words("sundown.drives=2").with(ports);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    pattern(&mut machine, 1)?;
    // By function level reset, then by the port above: what is behind it is reset with its bus.
    for method in ["flr", "bus"] {
        for controller in ["nvme0", "nvme1"] {
            let device = format!("/sys/class/nvme/{controller}/device");
            machine.run(&format!(
                "echo {method} >{device}/reset_method && echo 1 >{device}/reset"
            ))?;
        }
    }
    pattern(&mut machine, 2)?;
    let complaints = machine.run("dmesg | grep -cE 'nvme.*(timeout|failed|removing)' || true")?;
    ensure!(
        complaints == ["0"],
        "the guest complains {complaints:?} times"
    );
    machine.reboot()?;
    machine.ready()?;
    pattern(&mut machine, 3)?;
    machine.end()
}

/// Takes two ports with what is behind them out of the guest, and has it find them again and give them addresses.
fn found_anew(stage: &mut Stage) -> Result<()> {
    let drives = host_drives(stage, 2)?;
    let ports = drives.into_iter().enumerate();
    let ports = ports.map(|(number, drive)| root_port(format!("rp{number}"), [drive]));
    let config = stage.linux().cpus(2).words("sundown.drives=2").with(ports);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    pattern(&mut machine, 1)?;
    let before = bars(&mut machine)?;
    machine.run(
        "cd /sys/bus/pci/devices; ports=; for d in *; do \
           [ \"$(cat $d/class)\" = 0x060400 ] && ports=\"$d $ports\"; done; \
         for p in $ports; do echo 1 >$p/remove; done; echo 1 >/sys/bus/pci/rescan; cd /",
    )?;
    machine.run(
        "tries=0; list_namespaces; while [ $namespace_count -lt 2 ] && [ $tries -lt 200 ]; do \
         sleep 0.05; tries=$((tries + 1)); list_namespaces; done; [ $namespace_count = 2 ]",
    )?;
    let after = bars(&mut machine)?;
    stage.note(format!("BARs {before:?}, then {after:?}"));
    pattern(&mut machine, 2)?;
    machine.reboot()?;
    machine.ready()?;
    pattern(&mut machine, 3)?;
    machine.end()
}

/// The first BAR of each drive, by serial number.
fn bars(machine: &mut Machine) -> Result<Vec<String>> {
    machine.run(
        "for n in /sys/class/nvme/*; do read -r serial <$n/serial; \
         read -r bar rest <$n/device/resource; echo $serial $bar; done | sort",
    )
}

/// In a guest that uses no messages, beside an emulated drive, perhaps on the same line.
fn pins(stage: &mut Stage) -> Result<()> {
    let served = Served::start(stage, "u0", 0)?;
    let mut drives = host_drives(stage, 2)?;
    drives.push(served.device(DEADLINE_MS, false));
    drives.push(stage.drive("e0")?);
    // Functions of the root bus: four devices, four lines; ports share theirs with what is behind them.
    let config = stage
        .linux()
        .cpus(2)
        .words("pci=nomsi sundown.drives=4")
        .with(drives);
    let mut machine = stage.launch_ready(config)?;
    forget(&mut machine)?;
    for boot in 1..=2 {
        pattern(&mut machine, boot)?;
        let lines = machine.run("grep -c 'IO-APIC.*nvme' /proc/interrupts")?;
        let count: u32 = lines
            .first()
            .and_then(|line| line.parse().ok())
            .context("the guest counts no interrupts")?;
        ensure!(count > 0, "no drive interrupts by its pin");
        let address = machine.run(ADDRESS)?;
        ensure!(!address.is_empty(), "the first drive has no address");
        machine.reboot()?;
        machine.ready()?;
    }
    machine.end()
}
