//! Devices that the host takes back, and that are given back.

use std::fs;

use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};

use super::*;
use crate::client::{Client, ClientError, IrqType, region};

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

#[test]
fn a_device_that_no_thread_can_close_is_closed_by_its_last_user() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    device.write(region::CONFIG, 4, &[0x06, 0x04]).unwrap();
    let mapping = device.map(0, device.region(0).areas[0]).unwrap();
    let is_blank = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let start = format!("{:x}-", mapping.as_ptr() as usize);
        let line = maps.lines().find(|line| line.starts_with(&start)).unwrap();
        line.contains("sundown-gone")
    };
    let release = scene.script.hang("Reset");
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| device.reset(soon()));
        scene.script.wait_for("Reset");
        scene.script.fail("Thread", &[libc::EAGAIN]);
        scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
        wait_until("quiet", || device.is_quiet(false));
        assert!(is_blank());
        // The reset has the device's file still, and it is not opened anew meanwhile.
        assert_eq!(scene.script.open_devices(), 1);
        let early = Deadline::after(Duration::from_millis(20));
        let error = device.revive(early).unwrap_err().to_string();
        assert!(error.contains("still in use"), "{error}");
        drop(release);
        let _ = reset.join();
    });
    assert_eq!(scene.script.count("Thread"), 1);
    wait_until("closed", || scene.script.open_devices() == 0);
    assert!(device.is_quiet(false));
    let file = fs::read(scene.script.registers_of("0000:01:00.0")).unwrap();
    assert_eq!(file[4..6], [0x02, 0x04]);
    device.revive(soon()).unwrap();
}
