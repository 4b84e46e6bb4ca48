//! PCI hierarchies as a stock kernel sees them: drives behind switches, a bridge, and 64 ports.

use anyhow::{Context, Result, ensure};
use std::time::Instant;

use super::design::{Design, pci_bridge, root_port, switch};
use super::machine::Machine;
use super::teardown::drives_behind_ports;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("sixteen_drives_behind_a_tree_of_switches", 180, switches),
    Scenario::new("sixty_four_drives_behind_sixty_four_ports", 300, ports),
];

/// Words of kernel messages that are about the hierarchy.
const OURS: [&str; 6] = ["pci", "nvme", "acpi:", "bar ", "msi", "irq"];
/// What a kernel says of a hierarchy that it does not like, at whatever level.
const COMPLAINTS: [&str; 9] = [
    "can't assign",
    "no space",
    "failed",
    "invalid",
    "conflict",
    "bogus",
    "not claimed",
    "timeout",
    "disabling",
];

/// Fails on any warning of the kernel about the hierarchy, and on any message that complains of it.
fn check_kernel_log(machine: &mut Machine) -> Result<()> {
    let ours = |line: &&String| {
        let line = line.to_lowercase();
        OURS.iter().any(|word| line.contains(word))
    };
    let warnings = machine.run("dmesg -r | sed -n 's/^<[0-4]>//p'")?;
    let warnings: Vec<_> = warnings.iter().filter(ours).collect();
    ensure!(
        warnings.is_empty(),
        "the guest's kernel warns: {warnings:#?}"
    );
    let words = COMPLAINTS.join("|");
    let lines = machine.run(&format!("dmesg | grep -iE \"{words}\"; true"))?;
    let complaints: Vec<_> = lines.iter().filter(ours).collect();
    ensure!(
        complaints.is_empty(),
        "the guest's kernel complains: {complaints:#?}"
    );
    Ok(())
}

/// The number that a command prints.
fn count(machine: &mut Machine, command: &str) -> Result<usize> {
    let said = machine.run(command)?;
    let last = said.last().map(|line| line.trim()).unwrap_or_default();
    last.parse()
        .with_context(|| format!("`{command}` printed {said:?}, not a number"))
}

fn switches(stage: &mut Stage) -> Result<()> {
    let mut lower = Vec::new();
    for outer in 0..4 {
        let drives = (0..4).map(|inner| stage.drive(&format!("d{outer}{inner}")));
        lower.push(switch(
            &format!("s{outer}"),
            drives.collect::<Result<Vec<_>>>()?,
        ));
    }
    let config = stage.linux().cpus(2).words("sundown.drives=17").with([
        root_port("rp0", [switch("s", lower)]),
        root_port("rp1", [pci_bridge("bridge", [stage.drive("behind")?])]),
    ]);
    let mut machine = stage.launch_ready(config)?;

    let namespaces = count(&mut machine, "list_namespaces; echo $namespace_count")?;
    ensure!(namespaces == 17, "the guest sees {namespaces} namespaces");
    // Host bridge, 2 root ports, 5 upstream and 20 downstream ports, bridge, 17 drives.
    let functions = count(&mut machine, "ls /sys/bus/pci/devices | wc -l")?;
    ensure!(functions == 46, "the guest sees {functions} functions");
    let ports = count(
        &mut machine,
        "ls /sys/bus/pci/drivers/pcieport | grep -c ^0000",
    )?;
    ensure!(ports == 27, "{ports} ports have their driver");
    check_lspci(&mut machine)?;
    check_kernel_log(&mut machine)?;

    let addresses = addresses(&machine)?;
    let seen = machine.run("ls -1 /sys/bus/pci/devices")?;
    for (id, address) in &addresses {
        ensure!(
            seen.contains(address),
            "the guest has no function at {address} ({id})"
        );
    }
    machine.reboot()?;
    machine.end()
}

/// The drives by name and address, as vm.topology shows them.
fn addresses(machine: &Machine) -> Result<Vec<(String, String)>> {
    let topology = machine.client().topology().context("vm.topology failed")?;
    let mut left: Vec<_> = topology.pci.iter().collect();
    let mut found = Vec::new();
    while let Some(node) = left.pop() {
        let address = node.address.clone();
        let address = address.with_context(|| format!("{} has no address", node.id))?;
        found.push((node.id.clone(), address));
        left.extend(&node.children);
    }
    Ok(found)
}

fn check_lspci(machine: &mut Machine) -> Result<()> {
    let tree = machine.run("lspci -tv 2>/dev/null")?;
    let drives = tree
        .iter()
        .filter(|line| line.contains("]----00.0  Red Hat"));
    ensure!(drives.count() == 17, "lspci -tv shows: {tree:#?}");
    let drives = count(machine, "lspci -nn 2>/dev/null | grep -c '\\[0108\\]'")?;
    ensure!(drives == 17, "lspci shows {drives} NVMe controllers");
    ensure!(
        tree.first()
            .is_some_and(|line| line.starts_with("-[0000:00]-+-00.0")),
        "lspci -tv begins with {:?}",
        tree.first()
    );
    machine.run("lspci -vv -nn >/run/vv 2>/dev/null")?;
    let used = count(machine, "grep -c 'Kernel driver in use: nvme' /run/vv")?;
    ensure!(used == 17, "{used} drives have their driver");
    let up = count(machine, "grep -c 'LnkSta:.*Speed .*GT/s, Width x' /run/vv")?;
    // All but the host bridge, and what is behind the PCI bridge.
    ensure!(up >= 44, "{up} functions have a link with speed and width");
    let msix = count(machine, "grep -c 'MSI-X: Enable+' /run/vv")?;
    ensure!(msix == 17, "{msix} drives have MSI-X on");
    // What lspci writes where registers make no sense.
    let odd = "'!!!|Unknown header|unassigned|<ignored>|virtual|Region.*disabled|>TAbort\\+|<PERR\\+|Chain broken'";
    let odd = machine.run(&format!("grep -E {odd} /run/vv; true"))?;
    ensure!(odd.is_empty(), "lspci -vv has odd lines: {odd:#?}");
    Ok(())
}

fn ports(stage: &mut Stage) -> Result<()> {
    let ports = drives_behind_ports(stage, 64, 0)?;
    let config = stage
        .linux()
        .cpus(2)
        .memory_mib(768)
        .words("sundown.drives=64 sundown.wait=120")
        .with(ports);
    let begin = Instant::now();
    let mut machine = stage.launch_ready(config)?;
    stage.note(format!(
        "64 drives: ready {} s after vm.boot",
        begin.elapsed().as_secs()
    ));
    let namespaces = count(&mut machine, "list_namespaces; echo $namespace_count")?;
    ensure!(namespaces == 64, "the guest sees {namespaces} namespaces");
    let functions = count(&mut machine, "ls /sys/bus/pci/devices | wc -l")?;
    ensure!(functions == 129, "the guest sees {functions} functions");
    check_kernel_log(&mut machine)?;
    // Live controllers, all with their queues, go down in one reset.
    machine.run("for disk in $namespaces; do dd if=/dev/$disk of=/dev/null bs=64k count=1 2>/dev/null; done")?;
    let report = machine.reboot()?;
    stage.note(format!(
        "64 live drives torn down in {} µs",
        report.teardown_ns / 1000
    ));
    machine.end()
}
