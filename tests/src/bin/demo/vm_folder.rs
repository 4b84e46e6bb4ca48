//! The folder that sundown runs the VM in: configuration, kernel, initramfs, and the script that makes the
//! drives. The paths in the configuration are relative to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use api::config::{DeviceConfig, Latency, VfioConfig, VmConfig};
use lab::guest::initramfs;
use lab::parts::Parts;
use lab::{GuestImage, workspace};

use crate::{Options, run_script};

/// The configuration's name, in the folder as in `resources/examples`.
pub const CONFIG: &str = "demo.json";
/// Its drives.
pub const DRIVES: usize = 8;

/// Makes the folder: all but the drives, which the script makes. Returns the VM's configuration.
pub fn prepare(folder: &Path, options: &Options) -> Result<VmConfig> {
    remove(folder);
    fs::create_dir_all(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let mut config = read(&workspace::resource("examples").join(CONFIG))?;
    if options.vfio {
        let count = match options.devices.len() {
            0 => DRIVES,
            given => given,
        };
        let mut paths = (0..count).map(placeholder);
        pass_through(&mut config.pci, &mut paths);
        set_option(&mut config, "sundown.drives", &count.to_string());
    }
    for device in &mut config.pci {
        set_latency(device, options.latency);
    }
    let boots = options.all_reboots() + 1;
    set_option(&mut config, "sundown.boots", &boots.to_string());
    write(&folder.join(CONFIG), &config)?;
    run_script::write(folder, &config, options)?;

    let kernel = folder.join(&config.payload.kernel);
    symlink(Parts::ready()?.vmlinuz(), &kernel)
        .with_context(|| format!("could not make the link {}", kernel.display()))?;
    if let Some(path) = &config.payload.initramfs {
        initramfs(&folder.join(path), &GuestImage::default())?;
    }
    Ok(config)
}

/// The NVMe drives of a VM, emulated or passed through.
pub fn drives(config: &VmConfig) -> impl Iterator<Item = &DeviceConfig> {
    let devices = config.devices().map(|(_, device)| device);
    devices.filter(|device| matches!(device, DeviceConfig::Nvme(_) | DeviceConfig::Vfio(_)))
}

/// The address that stands for drive `number` until the script knows where it is.
pub fn placeholder(number: usize) -> String {
    format!("ffff:00:{number:02x}.0")
}

/// Makes the drives of `devices` and behind them passed-through ones, as long as there are paths; those left over go.
fn pass_through(devices: &mut Vec<DeviceConfig>, paths: &mut impl Iterator<Item = String>) {
    devices.retain_mut(|device| match device {
        DeviceConfig::Nvme(nvme) => {
            let Some(path) = paths.next() else {
                return false;
            };
            *device = DeviceConfig::Vfio(VfioConfig {
                options: nvme.options.clone(),
                path,
                ..VfioConfig::default()
            });
            true
        }
        DeviceConfig::RootPort(bridge)
        | DeviceConfig::UpstreamPort(bridge)
        | DeviceConfig::DownstreamPort(bridge)
        | DeviceConfig::PciBridge(bridge) => {
            pass_through(&mut bridge.children, paths);
            true
        }
        DeviceConfig::Vfio(_) | DeviceConfig::VfioUser(_) => true,
    });
}

/// The namespaces of a VM.
pub fn namespaces(config: &VmConfig) -> usize {
    drives(config)
        .map(|drive| match drive {
            DeviceConfig::Nvme(nvme) => nvme.namespaces.len(),
            // A drive of the host is expected to have one.
            _ => 1,
        })
        .sum()
}

/// Reads a VM's configuration.
pub fn read(path: &Path) -> Result<VmConfig> {
    let text = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    api::json::from_slice(&text).with_context(|| format!("could not read {}", path.display()))
}

/// Removes the folder.
pub fn remove(folder: &Path) {
    // Where it cannot be removed, making it anew says why.
    let _ = fs::remove_dir_all(folder);
}

fn write(path: &Path, config: &VmConfig) -> Result<()> {
    let text = serde_json::to_string_pretty(config).context("could not write the configuration")?;
    fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
}

/// Gives every drive from here down this teardown latency.
fn set_latency(device: &mut DeviceConfig, ms: u64) {
    match device {
        DeviceConfig::Nvme(nvme) => nvme.teardown.latency = Latency::Fixed { ms },
        DeviceConfig::RootPort(bridge)
        | DeviceConfig::UpstreamPort(bridge)
        | DeviceConfig::DownstreamPort(bridge)
        | DeviceConfig::PciBridge(bridge) => {
            for child in &mut bridge.children {
                set_latency(child, ms);
            }
        }
        DeviceConfig::Vfio(_) | DeviceConfig::VfioUser(_) => {}
    }
}

/// Gives an option of the guest's jobs a value.
fn set_option(config: &mut VmConfig, name: &str, value: &str) {
    if let Some(cmdline) = &mut config.payload.cmdline {
        *cmdline = with_option(cmdline, name, value);
    }
}

/// A kernel command line in which the option `name` has this value.
fn with_option(cmdline: &str, name: &str, value: &str) -> String {
    let others = cmdline.split_whitespace().filter(|word| {
        word.split_once('=')
            .is_none_or(|(option, _)| option != name)
    });
    let option = format!("{name}={value}");
    others
        .chain([option.as_str()])
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_machine_that_the_demo_speaks_of() {
        let mut config = read(&workspace::resource("examples").join(CONFIG)).unwrap();
        assert_eq!(config.cpus.boot_vcpus, 2);
        assert_eq!((drives(&config).count(), namespaces(&config)), (8, 8));
        let all_take = |config: &VmConfig, ms: u64| {
            let latencies =
                drives(config).map(|drive| drive.teardown().map(|model| &model.latency));
            latencies
                .into_iter()
                .all(|latency| latency == Some(&Latency::Fixed { ms }))
        };
        assert!(all_take(&config, 500));
        for device in &mut config.pci {
            set_latency(device, 70);
        }
        assert!(all_take(&config, 70));
    }

    #[test]
    fn drives_are_passed_through_in_their_places() {
        let original = read(&workspace::resource("examples").join(CONFIG)).unwrap();
        let mut config = original.clone();
        pass_through(&mut config.pci, &mut (0..DRIVES).map(placeholder));
        let ids = |config: &VmConfig| -> Vec<String> {
            let devices = config.devices();
            devices.map(|(_, device)| device.id().to_owned()).collect()
        };
        assert_eq!(ids(&config), ids(&original));
        assert_eq!(namespaces(&config), DRIVES);
        assert!(drives(&config).all(|drive| matches!(drive, DeviceConfig::Vfio(_))));
        let mut few = original;
        pass_through(&mut few.pci, &mut (0..2).map(placeholder));
        assert_eq!(drives(&few).count(), 2);
    }

    #[test]
    fn an_option_is_replaced_or_added() {
        assert_eq!(with_option("a x=1 b", "x", "2"), "a b x=2");
        assert_eq!(with_option("xx=1", "x", "2"), "xx=1 x=2");
    }
}
