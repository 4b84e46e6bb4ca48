//! Devices that are not there any more, without a word of the host: their files answer ENODEV.

use std::sync::atomic::Ordering;

use super::*;
use crate::client::{Client, ClientError, IrqType, region};

#[test]
fn a_device_that_is_not_there_is_refused_when_it_is_opened() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    for (call, doing) in [
        ("Device", "opening /dev/vfio/7: No such device"),
        ("DeviceInfo", "asking what it is: No such device"),
    ] {
        scene.script.fail(call, &[libc::ENODEV]);
        let text = scene.refusal("0000:01:00.0");
        assert!(text.contains(doing), "{text}");
    }
    assert_eq!(scene.script.open_devices(), 0);
    scene.open("0000:01:00.0").unwrap();
}

#[test]
fn a_device_that_an_access_or_a_reset_does_not_find_is_gone() {
    type Ask = fn(&VfioDevice) -> Result<(), ClientError>;
    let calls: [(&str, Ask); 3] = [
        ("reading region 7 at 0x0", |device| {
            device.read(region::CONFIG, 0, &mut [0; 4])
        }),
        ("writing region 7 at 0x4", |device| {
            device.write(region::CONFIG, 4, &[0; 2])
        }),
        ("reset", |device| device.reset(soon())),
    ];
    for (doing, ask) in calls {
        let scene = Scene::with(&[("0000:01:00.0", 7)]);
        let notes = Arc::default();
        let device = scene.open_for("0000:01:00.0", &notes).unwrap();
        scene.script.vanished.store(true, Ordering::Relaxed);
        let Err(ClientError::Gone { reason, .. }) = ask(&device) else {
            panic!("not gone: {doing}");
        };
        let told = format!("it is not there any more: {doing}: No such device (os error 19)");
        assert_eq!(reason, told);
        assert_eq!(notes.all(), [format!("gone: {told}")]);
        // What is closed cannot write to memory, though nobody could turn its bus mastering off.
        wait_until("quiet", || device.is_quiet(false));
        assert_eq!(scene.script.open_devices(), 0);
        // Its file says so once.
        assert!(device.read(0, 0, &mut [0; 4]).is_err());
        assert_eq!(notes.all().len(), 1);

        let text = device.revive(soon()).unwrap_err().to_string();
        assert!(text.contains("No such device"), "{text}");
        scene.script.vanished.store(false, Ordering::Relaxed);
        device.revive(soon()).unwrap();
        device.reset(soon()).unwrap();
    }
}

#[test]
fn a_pin_that_leads_nowhere_does_not_make_the_device_gone() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    scene.script.fail("SetIrqs", &[libc::ENODEV]);
    assert!(matches!(
        device.connect(IrqType::Intx, 0, &[None]),
        Err(ClientError::Refused { .. })
    ));
    assert_eq!(device.gone(), None);
}

#[test]
fn a_member_of_a_set_that_vanishes_before_its_reset_leaves_the_set_unfinished() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    first.reset(soon()).unwrap();
    scene.script.fail("Read", &[libc::ENODEV]);
    second.read(region::CONFIG, 4, &mut [0; 2]).unwrap_err();
    second.reset(soon()).unwrap_err();
    let unfinished = scene.vfio.unfinished_resets();
    assert_eq!(unfinished[0].members, ["0000:03:00.0"]);
    let reason = &unfinished[0].reason;
    assert!(
        reason.contains("0000:03:00.1 is gone (it is not there"),
        "{reason}"
    );
}

#[test]
fn a_member_that_came_and_vanished_does_not_keep_the_set_unfinished() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    second.reset(soon()).unwrap();
    second.leave("it was unplugged");
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
    assert_eq!(scene.vfio.unfinished_resets(), []);
}

#[test]
fn a_bus_that_the_kernel_cannot_reset_does_not_make_the_device_gone() {
    let scene = Scene::sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    scene.script.fail("HotReset(", &[libc::ENODEV]);
    first.reset(soon()).unwrap();
    assert!(matches!(
        second.reset(soon()),
        Err(ClientError::Refused { .. })
    ));
    assert_eq!(second.gone(), None);
}
