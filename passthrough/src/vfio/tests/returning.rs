//! Devices that were gone and come back.

use std::fs;
use std::sync::atomic::Ordering;

use vfio_bindings::bindings::vfio::VFIO_PCI_REQ_IRQ_INDEX;

use super::*;
use crate::client::{Client, IrqType};

#[test]
fn a_device_comes_back_once_it_is_bound_to_vfio_again() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    device.connect(IrqType::Msix, 0, &[None]).unwrap();
    device.revive(soon()).unwrap();
    assert_eq!((notes.all(), device.session()), (Vec::new(), 1));
    scene.script.ring(VFIO_PCI_REQ_IRQ_INDEX);
    wait_until("closed", || scene.script.open_devices() == 0);

    scene.host.bind("0000:01:00.0", None);
    let text = device.revive(soon()).unwrap_err().to_string();
    assert!(text.contains("its driver is being unbound"), "{text}");
    assert!(text.contains("drivers_probe"), "{text}");

    scene.host.bind("0000:01:00.0", Some("vfio-pci"));
    scene.script.irqs();
    device.revive(soon()).unwrap();
    assert_eq!((device.gone(), device.session()), (None, 2));
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
    device.leave("it was unplugged");
    let folder = scene.host.roots().sys.join("bus/pci/devices/0000:01:00.0");
    for (name, value, told) in [
        ("device", "0x0011", "1b36:0011 of class 010802"),
        ("class", "0x020000", "1b36:0011 of class 020000"),
    ] {
        fs::write(folder.join(name), format!("{value}\n")).unwrap();
        let text = device.revive(soon()).unwrap_err().to_string();
        assert!(text.contains("another device is in its place"), "{text}");
        assert!(text.contains(told), "{text}");
        assert!(
            text.contains("which was 1b36:0010 of class 010802"),
            "{text}"
        );
    }
    wait_until("closed", || scene.script.open_devices() == 0);
}

#[test]
fn a_device_that_came_back_with_other_interrupts_or_regions_is_refused_and_what_differs_is_named() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let notes = Arc::default();
    let device = scene.open_for("0000:01:00.0", &notes).unwrap();
    device.leave("it was unplugged");
    let refusal = || {
        let text = device.revive(soon()).unwrap_err().to_string();
        assert!(
            text.contains("it was unplugged; it came back as another"),
            "{text}"
        );
        assert!(device.gone().is_some());
        assert_eq!(scene.script.open_devices(), 0);
        text
    };
    for (index, told) in [
        (0, "it has 9 interrupts of INTx, and had 1"),
        (1, "it has 9 interrupts of MSI, and had 8"),
        (2, "it has 9 interrupts of MSI-X, and had 4"),
    ] {
        let had = std::mem::replace(&mut scene.script.interrupts.lock().unwrap()[index], 9);
        let text = refusal();
        assert!(text.contains(told), "{text}");
        scene.script.interrupts.lock().unwrap()[index] = had;
    }
    let bar_size = &scene.script.bar_size;
    bar_size.store(script::BAR_SIZE / 2, Ordering::Relaxed);
    let text = refusal();
    assert!(
        text.contains("its BAR 0 has 4096 bytes, and had 8192"),
        "{text}"
    );
    bar_size.store(script::BAR_SIZE, Ordering::Relaxed);
    scene.script.unmappable.store(true, Ordering::Relaxed);
    let text = refusal();
    assert!(
        text.contains("its BAR 0 is read, written or mapped otherwise"),
        "{text}"
    );
    scene.script.unmappable.store(false, Ordering::Relaxed);
    assert!(!notes.all().contains(&"back".to_owned()));
    device.revive(soon()).unwrap();
    assert_eq!(device.gone(), None);
}

#[test]
fn a_device_is_not_opened_anew_before_it_is_closed() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let release = scene.script.hang("Reset");
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| device.reset(soon()));
        scene.script.wait_for("Reset");
        device.leave("it was unplugged");
        let by = Deadline::after(Duration::from_millis(300));
        let text = device.revive(by).unwrap_err().to_string();
        assert!(text.contains("still in use"), "{text}");
        drop(release);
        let _ = reset.join();
    });
    device.revive(soon()).unwrap();
    // Whoever closed the old file has nothing to say of the new one.
    assert!(!device.is_quiet(false));
    assert_eq!(scene.script.open_devices(), 1);
}

#[test]
fn a_device_that_is_put_off_when_it_is_opened_anew_is_tried_no_longer_than_the_deadline() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    device.leave("it was unplugged");
    wait_until("closed", || scene.script.open_devices() == 0);
    scene.script.fail("Device", &[libc::EAGAIN; 1000]);
    let by = Deadline::after(Duration::from_millis(300));
    let text = device.revive(by).unwrap_err().to_string();
    assert!(text.contains("puts its opening off"), "{text}");
    assert!(scene.script.count("Device") < 1000);
}
