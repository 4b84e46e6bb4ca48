//! A stock Linux guest finds its drives; its data stays over reboots, and over the end of its machine; interrupts
//! come by MSI-X and by the pin.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lab::guest::{self, GuestImage};

use crate::drive::Drive;
use crate::machine::{Boot, Machine, built, folder};

#[test]
fn a_guest_of_qemu_keeps_its_data_over_reboots() {
    let drive = Drive::serve("reboots", "trapped");
    let words = "sundown.job=pattern sundown.then=reboot sundown.boots=3 sundown.kib=1024";
    let console = Machine::linux("reboots", &[&drive], words).run();
    // The first boot writes, the others verify and count.
    assert_eq!(console.said("data"), ["written", "intact", "intact"]);
    assert_eq!(console.said("boots"), ["1", "2", "3"]);
    console.assert_well();
    drive.stop();
}

/// QEMU takes the doorbells' page away while the pin is high, and gives it back later.
#[test]
fn a_guest_of_qemu_without_message_signalled_interrupts_uses_the_pin() {
    let drive = Drive::serve("pin", "mapped");
    let words = "pci=nomsi sundown.job=pattern sundown.then=reboot sundown.boots=2";
    let console = Machine::linux("pin", &[&drive], words).run();
    assert_eq!(console.said("data"), ["written", "intact"], "{console}");
    console.assert_well();
    drive.stop();
}

#[test]
fn two_drives_are_two_processes_and_the_next_machine_finds_their_data() {
    let drives = [("two-a", "trapped"), ("two-b", "mapped")]
        .map(|(name, doorbells)| Drive::serve(name, doorbells));
    for (name, expected) in [("two-first", "written"), ("two-next", "intact")] {
        let words = "sundown.job=pattern sundown.then=poweroff";
        let console = Machine::linux(name, &[&drives[0], &drives[1]], words).run();
        assert_eq!(console.said("data"), [expected], "{console}");
        console.assert_well();
    }
    drives.into_iter().for_each(Drive::stop);
}

/// One command under way to 32, blocks of 512 bytes to 128 KiB; the reboot is in the same QEMU.
#[test]
fn fio_verifies_three_drives_of_a_guest_and_again_after_its_reboot() {
    let initramfs = folder().join("suites.cpio");
    let image = GuestImage {
        files: vec![(built().parts.suites(), "".into())],
        ..GuestImage::default()
    };
    guest::initramfs(&initramfs, &image).unwrap();
    let drives = [
        ("fio-a", "trapped"),
        ("fio-b", "mapped"),
        ("fio-c", "trapped"),
    ]
    .map(|(name, doorbells)| Drive::serve(name, doorbells));
    let machine = Machine {
        name: "fio",
        drives: &[&drives[0], &drives[1], &drives[2]],
        boot: Boot::Kernel(
            &initramfs,
            "sundown.job=fio sundown.then=reboot sundown.boots=2",
        ),
    };
    let console = machine.run();
    assert_eq!(console.said("data"), ["written", "intact"], "{console}");
    assert_eq!(console.said("boots"), ["1", "2"], "{console}");
    assert_eq!(console.said("read").len(), 2, "{console}");
    console.assert_well();
    for drive in drives {
        // When QEMU resets the machine at its start, and at the guest's reboot.
        assert!(
            drive.log().matches("the client resets the drive").count() >= 2,
            "{}",
            drive.last_words()
        );
        drive.stop();
    }
}

/// What the guest has seen flushed is there, by the drive's next client.
#[test]
fn a_client_killed_amid_writes_loses_nothing_that_was_flushed() {
    let mut drives = [("killed-a", "trapped"), ("killed-b", "mapped")]
        .map(|(name, doorbells)| Drive::serve(name, doorbells));
    let words = "sundown.job=load sundown.load=600";
    let sockets = [&drives[0], &drives[1]];
    let mut running = Machine::linux("killed", &sockets, words).start();
    // More than once around the part of the drive that the guest writes.
    const BLOCKS: u64 = 96;
    running.wait_until("both drives' writers to go round", || {
        let flushed = sockets.map(|drive| flushed(drive.disk()));
        flushed
            .iter()
            .all(|blocks| blocks.is_some_and(|blocks| blocks >= BLOCKS))
            .then_some(())
    });
    let console = running.kill();
    assert_eq!(console.said("data"), ["written"], "{console}");
    console.assert_well();
    for drive in &mut drives {
        drive.wait_for_log("the client is gone", 1);
    }

    let sockets = [&drives[0], &drives[1]];
    let mut running = Machine::linux("killed-next", &sockets, words).start();
    running.wait_for("SUNDOWN: data ");
    running.wait_for("\n");
    let console = running.kill();
    assert_eq!(console.said("data"), ["intact"], "{console}");
    let found = console.said("drive");
    assert_eq!(found.len(), 2, "{console}");
    for said in found {
        let blocks = number(said, "flushed=").unwrap();
        assert!(blocks >= BLOCKS, "{said}\n{console}");
    }
    console.assert_well();
    drives.into_iter().for_each(Drive::stop);
}

/// How many blocks the guest has noted on the drive as flushed.
fn flushed(disk: &Path) -> Option<u64> {
    let mut label = [0; 512];
    File::open(disk)
        .unwrap()
        .read_exact_at(&mut label, 0)
        .unwrap();
    number(&String::from_utf8_lossy(&label), "flushed=")
}

fn number(text: &str, after: &str) -> Option<u64> {
    let (_, rest) = text.split_once(after)?;
    rest.split_whitespace().next()?.parse().ok()
}
