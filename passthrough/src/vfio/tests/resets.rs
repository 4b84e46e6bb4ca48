//! Resets that the kernel puts off, refuses, never ends, or does for several functions at once.

use std::sync::atomic::Ordering;
use std::thread;

use devices::lifecycle::Deadline;

use super::*;
use crate::client::{Client, ClientError, region};

fn soon() -> Deadline {
    Deadline::after(LONG)
}

/// Two functions of one slot that cannot be reset by themselves, in these groups.
fn sharing(groups: [u32; 2]) -> Scene {
    let addresses = ["0000:03:00.0", "0000:03:00.1"];
    let scene = Scene::with(&[(addresses[0], groups[0]), (addresses[1], groups[1])]);
    scene.script.reset_flag.store(0, Ordering::Relaxed);
    let members = groups.into_iter().zip(addresses);
    let members = members.map(|(group, address)| (group, HostPath::parse(address).unwrap()));
    *scene.script.dependents.lock().unwrap() = members.collect();
    scene
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

#[test]
fn functions_of_one_slot_are_reset_once_by_whichever_comes_last() {
    for (groups, given) in [([7, 7], 1), ([7, 8], 2)] {
        let scene = sharing(groups);
        let first = scene.open("0000:03:00.0").unwrap();
        let second = scene.open("0000:03:00.1").unwrap();
        scene.vfio.check_reset_sets().unwrap();
        let set = second.reset_set().unwrap();
        assert_eq!(set.name, "slot 0000:03:00");
        assert_eq!(set.members, ["0000:03:00.0", "0000:03:00.1"]);
        assert!(!first.can_reset());
        for round in 1..3 {
            second.reset(soon()).unwrap();
            assert_eq!(scene.script.hot_resets().len(), round - 1);
            first.reset(soon()).unwrap();
            assert_eq!(scene.script.hot_resets(), vec![given; round]);
        }
        assert_eq!(scene.script.count("Reset"), 0);
    }
}

#[test]
fn a_hot_reset_is_retried_and_its_failure_names_the_set() {
    let scene = sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    scene.script.fail("HotReset(", &[libc::EAGAIN, libc::EIO]);
    first.reset(soon()).unwrap();
    let text = second.reset(soon()).unwrap_err().to_string();
    assert!(
        text.contains("hot reset of slot 0000:03:00, 2 tries"),
        "{text}"
    );
}

#[test]
fn a_function_that_went_on_without_its_reset_does_not_count_for_the_next_one() {
    let scene = sharing([7, 7]);
    let notes = Arc::default();
    let first = scene.open_for("0000:03:00.0", &notes).unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    assert_eq!(scene.vfio.unfinished_resets(), []);
    first.reset(soon()).unwrap();
    assert_eq!(scene.vfio.unfinished_resets(), [first.reset_set().unwrap()]);
    // Its guest turns bus mastering on.
    first.write(region::CONFIG, 4, &[0x06, 0]).unwrap();
    assert!(
        notes.all()[0].contains("goes on without its reset"),
        "{:?}",
        notes.all()
    );
    second.reset(soon()).unwrap();
    assert!(scene.script.hot_resets().is_empty());
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_function_that_was_released_is_not_waited_for() {
    let scene = sharing([7, 7]);
    let first = scene.open("0000:03:00.0").unwrap();
    let second = scene.open("0000:03:00.1").unwrap();
    second.release();
    first.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_set_of_one_is_a_device_that_is_reset_by_itself() {
    let scene = sharing([7, 7]);
    scene.script.dependents.lock().unwrap().pop_last();
    let device = scene.open("0000:03:00.0").unwrap();
    assert!(device.can_reset());
    device.reset(soon()).unwrap();
    assert_eq!(scene.script.hot_resets(), [1]);
}

#[test]
fn a_set_that_the_host_uses_is_refused_when_a_device_is_opened() {
    let scene = sharing([7, 8]);
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
    let scene = sharing([7, 8]);
    let _first = scene.open("0000:03:00.0").unwrap();
    let text = scene.vfio.check_reset_sets().unwrap_err().to_string();
    assert!(
        text.contains("0000:03:00.0: it can only be reset together with 0000:03:00.1"),
        "{text}"
    );
    // In one group, the other function is the machine's, though it does not use it.
    let scene = sharing([7, 7]);
    let _first = scene.open("0000:03:00.0").unwrap();
    scene.vfio.check_reset_sets().unwrap();
}

#[test]
fn functions_of_several_slots_share_their_bus() {
    let scene = sharing([7, 7]);
    scene.host.device("0000:03:05.0", 9, Some("vfio-pci"));
    let third = HostPath::parse("0000:03:05.0").unwrap();
    scene.script.dependents.lock().unwrap().insert((9, third));
    let device = scene.open("0000:03:00.0").unwrap();
    assert_eq!(device.reset_set().unwrap().name, "bus 0000:03");
}

#[test]
fn a_device_that_cannot_be_reset_at_all_is_refused() {
    let scene = sharing([7, 7]);
    scene.script.fail("HotResetInfo", &[libc::ENODEV]);
    let text = scene.refusal("0000:03:00.0");
    assert!(text.contains("since it cannot be reset"), "{text}");
}
