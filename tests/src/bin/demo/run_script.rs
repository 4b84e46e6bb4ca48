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
    let mut text = format!(
        "#!/bin/sh\n\
         # Makes the drives and measures the reboots of {CONFIG}. Results go to the folder given.\n\
         cd \"${{0%/*}}\" || exit\n\
         rm -f {console} {drives}\n\
         truncate -s {DRIVE_SIZE} {drives}\n\
         # The guest's job verifies its data, says so with boot marker 2, and reboots by itself.\n\
         sundownctl measure --config {CONFIG} --out \"$1\" --force \\\n  \
         --trigger guest --ready-marker 2 --time-limit {QUIET_SECONDS} \\\n  \
         --reboots {} --policy {POLICIES}",
        options.reboots
    );
    for (side, bound) in bounds(vm_folder::drives(config).count(), options.latency) {
        // Writing to a string does not fail.
        let _ = write!(text, " \\\n  --{side} {bound}");
    }
    let _ = write!(
        text,
        "\ncode=$?\ncp {console} \"$1/{CONSOLE}\"\nexit $code\n"
    );
    text
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
