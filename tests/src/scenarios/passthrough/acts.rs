//! What a guest does to a passed-through drive: resets it, takes it out and finds it again at another address.

use anyhow::{Result, bail, ensure};

use super::super::design::{Design, root_port};
use super::super::machine::Machine;
use super::super::served::Served;
use super::super::{Scenario, Stage};
use super::drives::pattern;
use super::{DEADLINE_MS, forget, host_drives};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a_guest_resets_a_passed_through_drive", 180, function_reset).with_vfio(),
    Scenario::new("a_guest_finds_passed_through_drives_anew", 180, found_anew).with_vfio(),
];

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

/// Takes two ports with what is behind them out of the guest, and has it find them again. The last drive is to be
/// at a multiple of 8 MiB then, so that the guest gives it an address before the others.
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
        "cd /sys/bus/pci/devices; ports=; last=; for d in *; do case $(cat $d/class) in \
           0x060400) ports=\"$d $ports\" ;; 0x010802) last=$d ;; esac; done; \
         echo 23@$last >/sys/bus/pci/resource_alignment; \
         for p in $ports; do echo 1 >$p/remove; done; echo 1 >/sys/bus/pci/rescan; cd /",
    )?;
    machine.run(
        "tries=0; list_namespaces; while [ $namespace_count -lt 2 ] && [ $tries -lt 200 ]; do \
         sleep 0.05; tries=$((tries + 1)); list_namespaces; done; [ $namespace_count = 2 ]",
    )?;
    let after = bars(&mut machine)?;
    stage.note(format!("BARs {before:?}, then {after:?}"));
    let [first, second] = before.as_slice() else {
        bail!("there are not two drives: {before:?}");
    };
    ensure!(
        after.len() == 2 && !after.contains(first) && !after.contains(second),
        "a BAR did not move: {before:?}, then {after:?}"
    );
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
