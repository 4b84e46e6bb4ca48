//! Sysfs and the nodes of VFIO, in a folder of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::vfio::Roots;

/// A host. Devices are there once they are made.
pub(in crate::vfio) struct Host {
    folder: TempDir,
}

impl Host {
    pub(in crate::vfio) fn new() -> Self {
        let host = Self {
            folder: TempDir::new().unwrap(),
        };
        let Roots { sys, dev } = host.roots();
        fs::create_dir_all(sys.join("bus/pci/devices")).unwrap();
        fs::create_dir_all(dev.join("vfio/devices")).unwrap();
        fs::write(dev.join("vfio/vfio"), "").unwrap();
        host
    }

    pub(in crate::vfio) fn roots(&self) -> Roots {
        Roots {
            sys: self.folder.path().join("sys"),
            dev: self.folder.path().join("dev"),
        }
    }

    /// An NVMe drive in an IOMMU group, with the group's node.
    pub(in crate::vfio) fn device(&self, address: &str, group: u32, driver: Option<&str>) {
        let Roots { sys, dev } = self.roots();
        let folder = sys.join("bus/pci/devices").join(address);
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in [
            ("vendor", "0x1b36"),
            ("device", "0x0010"),
            ("class", "0x010802"),
        ] {
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
        let members = sys.join(format!("kernel/iommu_groups/{group}/devices"));
        fs::create_dir_all(&members).unwrap();
        link(&folder, &members.join(address));
        link(members.parent().unwrap(), &folder.join("iommu_group"));
        fs::write(dev.join("vfio").join(group.to_string()), "").unwrap();
        self.bind(address, driver);
    }

    pub(in crate::vfio) fn bind(&self, address: &str, driver: Option<&str>) {
        let sys = self.roots().sys;
        let place = sys.join("bus/pci/devices").join(address).join("driver");
        let _ = fs::remove_file(&place);
        if let Some(driver) = driver {
            let driver = sys.join("bus/pci/drivers").join(driver);
            fs::create_dir_all(&driver).unwrap();
            link(&driver, &place);
        }
    }

    /// The device's own node, and iommufd.
    pub(in crate::vfio) fn node(&self, address: &str, name: &str) {
        let Roots { sys, dev } = self.roots();
        let folder = sys.join("bus/pci/devices").join(address).join("vfio-dev");
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(dev.join("vfio/devices").join(name), "").unwrap();
        fs::write(dev.join("iommu"), "").unwrap();
    }
}

fn link(target: &Path, place: &Path) {
    symlink(target, place).unwrap();
}
