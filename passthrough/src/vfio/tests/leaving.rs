//! Devices that the host takes back, that come back, and that are given back.

use std::fs;
use std::thread::yield_now;
use std::time::Instant;

use devices::lifecycle::Deadline;
use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};

use super::*;
use crate::client::{Client, ClientError, IrqType, region};

fn soon() -> Deadline {
    Deadline::after(LONG)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "not {what}");
        yield_now();
    }
}

#[test]
fn a_device_that_is_wanted_back_is_quiesced_blanked_and_closed() {
    let scene = Scene::with(&[("0000:01:00.0", 7), ("0000:02:00.0", 8)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    notes.wait_for("gone: the host takes the device back: its driver is being unbound");
    wait_until("closed", || scene.script.open_devices() == 0);
    wait_until("forgotten", || scene.script.assigned() == ["+7", "-7"]);
    wait_until("quiet", || device.is_quiet(false));
    let Err(ClientError::Gone { reason, .. }) = device.read(0, 0, &mut [0; 4]) else {
        panic!("it can be read");
    };
    assert_eq!(Some(reason), device.gone());
    assert!(matches!(
        device.reset(soon()),
        Err(ClientError::Gone { .. })
    ));
    // What is off needs nobody to turn it off.
    device.disconnect(IrqType::Msix).unwrap();
}

#[test]
fn a_mapping_does_not_keep_a_device_that_is_wanted_back() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let mapping = device.map(0, device.region(0).areas[0]).unwrap();
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    wait_until("closed", || scene.script.open_devices() == 0);
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let start = format!("{:x}-", mapping.as_ptr() as usize);
        let line = maps.lines().find(|line| line.starts_with(&start));
        line.unwrap().to_owned()
    };
    assert!(mapped().contains("sundown-gone"), "{}", mapped());
    assert!(device.map(0, device.region(0).areas[0]).is_err());
}

#[test]
fn bus_mastering_is_off_before_the_device_is_closed() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    device.write(region::CONFIG, 4, &[0x06, 0x04]).unwrap();
    assert!(!device.is_quiet(false) && device.is_quiet(true));
    let release = scene.script.hang("Reset");
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| device.reset(soon()));
        scene.script.wait_for("Reset");
        scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
        // The reset has the device's file still.
        wait_until("quiet", || device.is_quiet(false));
        assert_eq!(scene.script.open_devices(), 1);
        drop(release);
        let _ = reset.join();
    });
    wait_until("closed", || scene.script.open_devices() == 0);
    let file = fs::read(scene.script.registers_of("0000:01:00.0")).unwrap();
    assert_eq!(file[4..6], [0x02, 0x04]);
}

#[test]
fn a_device_comes_back_once_it_is_bound_to_vfio_again() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    device.connect(IrqType::Msix, 0, &[None]).unwrap();
    device.revive(soon()).unwrap();
    assert_eq!(notes.all(), Vec::<String>::new());
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    wait_until("closed", || scene.script.open_devices() == 0);

    scene.host.bind("0000:01:00.0", None);
    let text = device.revive(soon()).unwrap_err().to_string();
    assert!(text.contains("its driver is being unbound"), "{text}");
    assert!(text.contains("drivers_probe"), "{text}");

    scene.host.bind("0000:01:00.0", Some("vfio-pci"));
    scene.script.irqs();
    device.revive(soon()).unwrap();
    assert_eq!(device.gone(), None);
    notes.wait_for("back");
    device.read(0, 0, &mut [0; 4]).unwrap();
    assert!(!device.is_quiet(false));
    // Its interrupts are off: MSI-X is turned on with all vectors again.
    device.connect(IrqType::Msix, 0, &[None]).unwrap();
    assert_eq!(scene.script.irqs()[0][2..4], [0, 4]);
    // And it can be taken again.
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    wait_until("gone", || device.gone().is_some());
}

#[test]
fn interrupts_that_were_connected_while_it_left_are_off_when_it_is_back() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let before = scene.script.count("SetIrqs");
    let release = scene.script.hang("SetIrqs");
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| device.connect(IrqType::Msix, 0, &[None]));
        wait_until("connecting", || scene.script.count("SetIrqs") > before);
        device.leave("it was unplugged");
        drop(release);
        let _ = connecting.join();
    });
    wait_until("closed", || scene.script.open_devices() == 0);
    device.revive(soon()).unwrap();
    scene.script.irqs();
    device.connect(IrqType::Msix, 1, &[None]).unwrap();
    assert_eq!(scene.script.irqs()[0][2..4], [0, 4]);
}

#[test]
fn another_device_in_its_place_does_not_come_back() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    wait_until("closed", || scene.script.open_devices() == 0);
    let folder = scene.host.roots().sys.join("bus/pci/devices/0000:01:00.0");
    fs::write(folder.join("device"), "0x0011\n").unwrap();
    let text = device.revive(soon()).unwrap_err().to_string();
    assert!(text.contains("another device is in its place"), "{text}");
    assert_eq!(scene.script.open_devices(), 0);
}

#[test]
fn a_device_that_was_given_back_stays_so() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    device.release();
    assert_eq!(scene.script.open_devices(), 0);
    assert!(device.is_quiet(false));
    assert!(device.revive(soon()).is_err());
    assert_eq!(notes.all(), Vec::<String>::new());
}

#[test]
fn an_error_of_the_device_is_told_and_changes_nothing() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    scene.script.ring(VFIO_PCI_ERR_IRQ_INDEX);
    notes.wait_for("warning: the host reports a PCIe error");
    device.read(0, 0, &mut [0; 4]).unwrap();
}
