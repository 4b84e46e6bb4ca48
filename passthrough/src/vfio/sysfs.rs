//! What the host says of its devices: sysfs, and the nodes of VFIO.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::host_path::HostPath;

/// Where the host keeps what it says of itself.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

/// A PCI function as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Where it is.
    pub path: HostPath,
    /// Who made it.
    pub vendor: u16,
    /// What its maker calls it.
    pub device: u16,
    /// Its class, subclass and programming interface.
    pub class: u32,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group; none where no IOMMU is before it.
    pub group: Option<u32>,
    /// Its own node for iommufd, where the kernel makes one.
    pub node: Option<PathBuf>,
}

impl HostDevice {
    /// Whether a driver has it that hands it out through VFIO.
    pub fn is_handed_out(&self) -> bool {
        // Some devices have a driver of their own for it, mlx5_vfio_pci for one.
        self.driver
            .as_ref()
            .is_some_and(|driver| driver.contains("vfio"))
    }

    /// Whether the host's drivers use it, so that nothing else of its group can be handed out.
    fn is_in_use(&self) -> bool {
        // These two do no DMA of their own.
        !self.is_handed_out()
            && !matches!(self.driver.as_deref(), None | Some("pci-stub" | "pcieport"))
    }
}

impl Roots {
    /// What there is to know of the device.
    ///
    /// # Errors
    /// There is no such device.
    pub fn look_up(&self, path: HostPath) -> Result<HostDevice, OpenError> {
        let folder = self.sys.join("bus/pci/devices").join(path.to_string());
        if !folder.exists() {
            return Err(OpenError::NoSuchDevice {
                device: path.to_string(),
            });
        }
        let number = |name| hexadecimal(&folder.join(name)).unwrap_or(0);
        Ok(HostDevice {
            path,
            vendor: number("vendor") as u16,
            device: number("device") as u16,
            class: number("class"),
            driver: link_name(&folder.join("driver")),
            group: self.group(&folder),
            node: self.node(&folder),
        })
    }

    /// The devices of an IOMMU group.
    pub fn group_members(&self, group: u32) -> Vec<HostDevice> {
        let folder = self.group_folder(group).join("devices");
        let mut members: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| HostPath::parse(entry.file_name().to_str()?).ok())
            .filter_map(|path| self.look_up(path).ok())
            .collect();
        members.sort_by_key(|member| member.path);
        members
    }

    /// Has the device's driver and its group checked before it is opened.
    ///
    /// # Errors
    /// It cannot be handed out as it is.
    pub(super) fn check(&self, device: &HostDevice) -> Result<u32, OpenError> {
        let name = device.path.to_string();
        let Some(group) = device.group else {
            return Err(OpenError::NoIommu { device: name });
        };
        if !device.is_handed_out() {
            return Err(OpenError::NotBound {
                bound: match &device.driver {
                    Some(driver) => format!("it is bound to the driver {driver}"),
                    None => "it is bound to no driver".to_owned(),
                },
                commands: self.hand_over(device),
                device: name,
            });
        }
        self.check_group(&name, group).map(|()| group)
    }

    /// # Errors
    /// The host uses another device of the group.
    pub(super) fn check_group(&self, device: &str, group: u32) -> Result<(), OpenError> {
        let others: Vec<_> = self
            .group_members(group)
            .into_iter()
            .filter(HostDevice::is_in_use)
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let named = |other: &HostDevice| match &other.driver {
            Some(driver) => format!("{} ({driver})", other.path),
            None => other.path.to_string(),
        };
        Err(OpenError::NotViable {
            device: device.to_owned(),
            group,
            others: joined(others.iter().map(named), ", "),
            commands: joined(others.iter().map(|other| self.hand_over(other)), "; "),
        })
    }

    /// The commands that bind a device to vfio-pci.
    pub(super) fn hand_over(&self, device: &HostDevice) -> String {
        let path = device.path;
        let folder = format!("/sys/bus/pci/devices/{path}");
        let mut commands = vec![format!("echo vfio-pci > {folder}/driver_override")];
        if !self.sys.join("bus/pci/drivers/vfio-pci").exists() {
            commands.insert(0, "modprobe vfio-pci".to_owned());
        }
        if device.driver.is_some() {
            commands.push(format!("echo {path} > {folder}/driver/unbind"));
        }
        commands.push(format!("echo {path} > /sys/bus/pci/drivers_probe"));
        commands.join("; ")
    }

    fn group_folder(&self, group: u32) -> PathBuf {
        self.sys.join("kernel/iommu_groups").join(group.to_string())
    }

    fn group(&self, folder: &Path) -> Option<u32> {
        let group = link_name(&folder.join("iommu_group"))?.parse().ok()?;
        // What stands for a group where VFIO is told to do without an IOMMU.
        let name = fs::read_to_string(self.group_folder(group).join("name")).unwrap_or_default();
        (name.trim() != "vfio-noiommu").then_some(group)
    }

    fn node(&self, folder: &Path) -> Option<PathBuf> {
        let entry = fs::read_dir(folder.join("vfio-dev"))
            .ok()?
            .flatten()
            .next()?;
        let node = self.dev.join("vfio/devices").join(entry.file_name());
        node.exists().then_some(node)
    }
}

pub(super) fn joined(parts: impl Iterator<Item = String>, by: &str) -> String {
    parts.collect::<Vec<_>>().join(by)
}

fn link_name(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn hexadecimal(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests;
