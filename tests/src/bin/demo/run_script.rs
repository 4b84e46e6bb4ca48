//! The script that is the demo: it makes the drives and has `sundownctl measure` do the rest. The same on
//! this machine and in the lab host, and of use to whoever keeps the VM's folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use api::config::{DeviceConfig, VmConfig};

use crate::Options;
use crate::results::CONSOLE;
use crate::vm_folder::{self, CONFIG};

/// The script's name in the VM's folder. Its argument is the folder that results go to.
pub const SCRIPT: &str = "run";
/// The policies, each in every round.
pub const POLICIES: &str = "serial,cookie,completion";
/// How many they are.
pub const POLICY_COUNT: u64 = 3;
/// The variable that has the addresses of drives to pass through; the lab host sets it.
pub const DEVICES: &str = "LAB_VFIO";
/// Something in the lab host, which is emulated, always ends sooner than this.
const QUIET_SECONDS: u64 = 120;
const DRIVE_SIZE: u64 = 16 << 20;

/// Writes the script.
pub fn write(folder: &Path, config: &VmConfig, options: &Options) -> Result<()> {
    let path = folder.join(SCRIPT);
    let text = script(config, options);
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
}

fn script(config: &VmConfig, options: &Options) -> String {
    let drives = drives(config).join(" ");
    let console = config.serial.file.as_deref().unwrap_or(Path::new(CONSOLE));
    let console = console.display();
    let make_drives = if options.vfio {
        passed_through(config)
    } else {
        format!("rm -f {drives}\ntruncate -s {DRIVE_SIZE} {drives}\n")
    };
    let mut text = format!(
        "#!/bin/sh\n\
         # Makes the drives and measures the reboots of {CONFIG}. Results go to the folder given.\n\
         cd \"${{0%/*}}\" || exit\n\
         rm -f {console}\n\
         {make_drives}\
         # The guest's job verifies its data, says so with boot marker 2, and reboots by itself.\n\
         sundownctl measure --config {CONFIG} --out \"$1\" --force \\\n  \
         --trigger guest --ready-marker 2 --time-limit {QUIET_SECONDS} \\\n  \
         --reboots {} --policy {POLICIES}",
        options.reboots
    );
    let bounds = if options.vfio {
        passed_through_bounds().to_vec()
    } else {
        bounds(vm_folder::drives(config).count(), options.latency).to_vec()
    };
    for (side, bound) in bounds {
        // Writing to a string does not fail.
        let _ = write!(text, " \\\n  --{side} {bound}");
    }
    let _ = write!(
        text,
        "\ncode=$?\ncp {console} \"$1/{CONSOLE}\"\nexit $code\n"
    );
    text
}

/// Names the drives that are passed through, which only the machine knows that the script runs on.
fn passed_through(config: &VmConfig) -> String {
    let count = vm_folder::drives(config).count();
    let mut text = format!(
        "# The drives' addresses, in the order of the configuration.\nset -- \"$1\" ${DEVICES}\n"
    );
    text.push_str("sed -i");
    for number in 0..count {
        let address = vm_folder::placeholder(number);
        // Writing to a string does not fail.
        let _ = write!(text, " -e s/{address}/${{{}}}/", number + 2);
    }
    let _ = writeln!(text, " {CONFIG}");
    text
}

/// What is claimed of passed-through drives: a function-level reset takes 100 ms and some, however many there are.
fn passed_through_bounds() -> [(&'static str, String); 2] {
    [
        ("max", "completion.teardown=250ms".to_owned()),
        ("min", "completion.speedup=3".to_owned()),
    ]
}

/// What is claimed: under `serial` one drive after the other, under the others within a twentieth and 10 ms
/// of the critical path.
fn bounds(drives: usize, latency_ms: u64) -> [(&'static str, String); 4] {
    let serial = drives as u64 * latency_ms;
    let latency = latency_ms as f64;
    let efficiency = latency / (latency * 1.05 + 10.0);
    [
        ("min", format!("serial.teardown={}us", serial * 900)),
        ("max", format!("serial.teardown={}us", serial * 1100)),
        ("min", format!("cookie.efficiency={efficiency:.3}")),
        ("min", format!("completion.efficiency={efficiency:.3}")),
    ]
}

/// The files of all namespaces.
fn drives(config: &VmConfig) -> Vec<String> {
    let namespaces = vm_folder::drives(config).flat_map(|drive| match drive {
        DeviceConfig::Nvme(nvme) => nvme.namespaces.as_slice(),
        _ => &[],
    });
    namespaces
        .map(|namespace| namespace.path.display().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_follow_from_the_latency() {
        let bounds = bounds(8, 500).map(|(side, bound)| format!("{side} {bound}"));
        assert_eq!(
            bounds,
            [
                "min serial.teardown=3600000us",
                "max serial.teardown=4400000us",
                "min cookie.efficiency=0.935",
                "min completion.efficiency=0.935",
            ]
        );
    }
}
