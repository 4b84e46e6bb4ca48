//! Sysfs as it is made here, in a folder.

use std::os::unix::fs::symlink;

use super::*;
use crate::vfio::tests::host::Host;

#[test]
fn a_device_is_found_with_all_that_the_host_says_of_it() {
    let host = Host::new();
    host.device("0000:01:00.0", 7, Some("vfio-pci"));
    host.node("0000:01:00.0", "vfio3");
    let found = host.roots().look_up(path("0000:01:00.0")).unwrap();
    assert_eq!(
        found,
        HostDevice {
            path: path("0000:01:00.0"),
            vendor: 0x1B36,
            device: 0x0010,
            class: 0x01_0802,
            driver: Some("vfio-pci".to_owned()),
            group: Some(7),
            node: Some(host.roots().dev.join("vfio/devices/vfio3")),
        }
    );
    assert_eq!(host.roots().check(&found).unwrap(), 7);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let error = Host::new().roots().look_up(path("0000:09:00.0"));
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with("0000:09:00.0: "), "{text}");
    assert!(text.contains("`lspci -D`"), "{text}");
}

#[test]
fn a_device_of_another_driver_comes_with_the_commands_that_bind_it() {
    let host = Host::new();
    host.device("0000:01:00.0", 7, Some("nvme"));
    let text = refused(&host, "0000:01:00.0");
    assert!(text.contains("bound to the driver nvme"), "{text}");
    assert!(
        text.contains(
            "`modprobe vfio-pci; \
             echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override; \
             echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind; \
             echo 0000:01:00.0 > /sys/bus/pci/drivers_probe`"
        ),
        "{text}"
    );
}

#[test]
fn a_device_without_a_driver_is_not_unbound_and_a_driver_that_is_there_is_not_loaded() {
    let host = Host::new();
    host.device("0000:01:00.0", 7, None);
    host.device("0000:02:00.0", 8, Some("vfio-pci"));
    let text = refused(&host, "0000:01:00.0");
    assert!(text.contains("bound to no driver"), "{text}");
    assert!(
        !text.contains("unbind") && !text.contains("modprobe"),
        "{text}"
    );
}

#[test]
fn without_an_iommu_the_kernel_parameters_are_named() {
    let host = Host::new();
    host.device("0000:01:00.0", 7, Some("vfio-pci"));
    let folder = host.roots().sys.join("bus/pci/devices/0000:01:00.0");
    fs::remove_file(folder.join("iommu_group")).unwrap();
    let text = refused(&host, "0000:01:00.0");
    assert!(text.contains("intel_iommu=on"), "{text}");

    // A group that only stands for one counts as little.
    let group = host.roots().sys.join("kernel/iommu_groups/7");
    symlink(&group, folder.join("iommu_group")).unwrap();
    fs::write(group.join("name"), "vfio-noiommu\n").unwrap();
    let text = refused(&host, "0000:01:00.0");
    assert!(text.contains("intel_iommu=on"), "{text}");
}

#[test]
fn others_of_the_group_that_the_host_uses_are_listed_and_no_others() {
    let host = Host::new();
    host.device("0000:01:00.0", 7, Some("vfio-pci"));
    host.device("0000:01:00.1", 7, Some("snd_hda_intel"));
    host.device("0000:01:00.2", 7, None);
    host.device("0000:01:00.3", 7, Some("mlx5_vfio_pci"));
    host.device("0000:00:04.0", 7, Some("pcieport"));
    host.device("0000:02:00.0", 8, Some("nvme"));
    let text = refused(&host, "0000:01:00.0");
    assert!(
        text.contains("the host uses 0000:01:00.1 (snd_hda_intel) of it"),
        "{text}"
    );
    assert!(
        text.contains("echo vfio-pci > /sys/bus/pci/devices/0000:01:00.1/driver_override"),
        "{text}"
    );
    assert!(
        !text.contains("0000:01:00.2") && !text.contains("01:00.3"),
        "{text}"
    );
}

fn path(address: &str) -> HostPath {
    HostPath::parse(address).unwrap()
}

fn refused(host: &Host, address: &str) -> String {
    let found = host.roots().look_up(path(address)).unwrap();
    let text = host.roots().check(&found).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{address}: ")), "{text}");
    text
}
