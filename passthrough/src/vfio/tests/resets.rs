//! Resets of a device by itself that the kernel puts off, refuses, or never ends.

use std::thread;

use devices::lifecycle::Deadline;

use super::*;
use crate::client::{Client, ClientError, region};

fn soon() -> Deadline {
    Deadline::after(LONG)
}

#[test]
fn a_reset_that_is_put_off_is_asked_for_again() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    assert!(device.can_reset() && device.reset_set().is_none());
    scene
        .script
        .fail("Reset", &[libc::EAGAIN, libc::EAGAIN, libc::EINTR]);
    device.reset(soon()).unwrap();
    assert_eq!(scene.script.count("Reset"), 4);
}

#[test]
fn a_reset_is_not_asked_for_again_past_its_deadline_but_once() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    scene.script.fail("Reset", &[libc::EAGAIN; 1000]);
    let error = device.reset(Deadline::after(Duration::ZERO)).unwrap_err();
    assert_eq!(scene.script.count("Reset"), 1);
    let ClientError::Refused { doing, source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::EAGAIN));
    assert!(doing.starts_with("reset, 1 tries in "), "{doing}");
    assert!(
        device
            .reset(Deadline::after(Duration::from_millis(20)))
            .is_err()
    );
    assert!(scene.script.count("Reset") > 2);
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
