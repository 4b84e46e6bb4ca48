//! Resets of a device by itself that the kernel puts off, refuses, or never ends; and those that it cannot have.

use std::thread;

use super::*;
use crate::client::{Client, ClientError, region};

#[test]
fn a_reset_that_is_put_off_is_asked_for_once_each_time() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    assert!(device.can_reset() && device.reset_set().is_none());
    scene.script.fail("Reset", &[libc::EAGAIN, libc::EAGAIN]);
    for tries in 1..3 {
        let error = device.reset(soon()).unwrap_err();
        assert_eq!(scene.script.count("Reset"), tries);
        let ClientError::Refused { source, .. } = error else {
            panic!("{error}");
        };
        // By which whoever asked knows that it may ask again.
        assert_eq!(source.raw_os_error(), Some(libc::EAGAIN));
    }
    device.reset(soon()).unwrap();
    assert_eq!(scene.script.count("Reset"), 3);
}

#[test]
fn a_reset_that_is_refused_keeps_its_errno() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    for errno in [libc::EBUSY, libc::EIO, libc::ENOTTY] {
        scene.script.fail("Reset", &[errno]);
        let before = scene.script.count("Reset");
        let Err(ClientError::Refused { source, .. }) = device.reset(soon()) else {
            panic!("not refused");
        };
        assert_eq!(source.raw_os_error(), Some(errno));
        assert_eq!(scene.script.count("Reset"), before + 1);
    }
}

#[test]
fn a_reset_that_hangs_keeps_nobody_else_waiting() {
    let scene = Scene::with(&[
        ("0000:01:00.0", 7),
        ("0000:02:00.0", 8),
        ("0000:04:00.0", 9),
    ]);
    let device = scene.open("0000:01:00.0").unwrap();
    let other = scene.open("0000:02:00.0").unwrap();
    let release = scene.script.hang("Reset");
    thread::scope(|scope| {
        let hung = scope.spawn(|| device.reset(soon()));
        scene.script.wait_for("Reset");
        other.reset(soon()).unwrap();
        device.read(region::CONFIG, 0, &mut [0; 4]).unwrap();
        device.write(region::CONFIG, 4, &[0; 2]).unwrap();
        assert!(!device.is_quiet(false));
        scene.open("0000:04:00.0").unwrap();
        assert!(!hung.is_finished());
        drop(release);
        hung.join().unwrap().unwrap();
    });
}

#[test]
fn a_set_that_the_host_uses_is_refused_when_a_device_is_opened() {
    let scene = Scene::sharing([7, 8]);
    scene.host.bind("0000:03:00.1", Some("snd_hda_intel"));
    let text = scene.refusal("0000:03:00.0");
    assert!(
        text.contains("only be reset together with 0000:03:00.1"),
        "{text}"
    );
    assert!(
        text.contains("echo vfio-pci > /sys/bus/pci/devices/0000:03:00.1/driver_override"),
        "{text}"
    );
}

#[test]
fn a_set_that_is_not_wholly_the_machines_is_refused_when_all_devices_are_open() {
    let scene = Scene::sharing([7, 8]);
    let _first = scene.open("0000:03:00.0").unwrap();
    let text = scene.vfio.check_reset_sets().unwrap_err().to_string();
    assert!(
        text.contains("0000:03:00.0: it can only be reset together with 0000:03:00.1"),
        "{text}"
    );
    // In one group, the other function is the machine's, though it does not use it.
    let scene = Scene::sharing([7, 7]);
    let _first = scene.open("0000:03:00.0").unwrap();
    scene.vfio.check_reset_sets().unwrap();
}

#[test]
fn functions_of_several_slots_share_their_bus() {
    let scene = Scene::sharing([7, 7]);
    scene.host.device("0000:03:05.0", 9, Some("vfio-pci"));
    let third = HostPath::parse("0000:03:05.0").unwrap();
    scene.script.dependents.lock().unwrap().insert((9, third));
    let device = scene.open("0000:03:00.0").unwrap();
    assert_eq!(device.reset_set().unwrap().name, "bus 0000:03");
}

#[test]
fn a_device_that_cannot_be_reset_at_all_is_refused() {
    let scene = Scene::sharing([7, 7]);
    scene.script.fail("HotResetInfo", &[libc::ENODEV]);
    let text = scene.refusal("0000:03:00.0");
    assert!(text.contains("since it cannot be reset"), "{text}");
}
