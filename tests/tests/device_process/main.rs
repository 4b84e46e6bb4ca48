//! `sundown-nvme` under QEMU, whose vfio-user client nobody here wrote: a stock Linux guest finds the
//! drive, its data stays over reboots, and interrupts come by MSI-X and by the pin.

// A test may stop at the first surprise, and so may what it is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod machine;

use machine::{Drive, Machine};

#[test]
fn a_guest_of_qemu_keeps_its_data_over_reboots() {
    let drive = Drive::serve("reboots", "trapped");
    let machine = Machine {
        name: "reboots",
        sockets: &[&drive],
        kernel: "sundown.job=pattern sundown.then=reboot sundown.boots=3 sundown.kib=1024",
    };
    let console = machine.run();
    // The first boot writes, the others verify and count.
    assert_eq!(console.said("data"), ["written", "intact", "intact"]);
    assert_eq!(console.said("boots"), ["1", "2", "3"]);
    assert!(console.said("error").is_empty(), "{console}");
    assert!(console.complaints().is_empty(), "{console}");
    drive.stop();
}

/// QEMU takes the doorbells' page away while the pin is high, and gives it back later.
#[test]
fn a_guest_of_qemu_without_message_signalled_interrupts_uses_the_pin() {
    let drive = Drive::serve("pin", "mapped");
    let machine = Machine {
        name: "pin",
        sockets: &[&drive],
        kernel: "pci=nomsi sundown.job=pattern sundown.then=reboot sundown.boots=2",
    };
    let console = machine.run();
    assert_eq!(console.said("data"), ["written", "intact"]);
    assert!(console.said("error").is_empty(), "{console}");
    assert!(console.complaints().is_empty(), "{console}");
    drive.stop();
}

#[test]
fn two_drives_are_two_processes_and_the_next_machine_finds_their_data() {
    let drives = [("two-a", "trapped"), ("two-b", "mapped")]
        .map(|(name, doorbells)| Drive::serve(name, doorbells));
    for (name, expected) in [("two-first", "written"), ("two-next", "intact")] {
        let machine = Machine {
            name,
            sockets: &[&drives[0], &drives[1]],
            kernel: "sundown.job=pattern sundown.then=poweroff",
        };
        let console = machine.run();
        assert_eq!(console.said("data"), [expected], "{console}");
        assert!(console.complaints().is_empty(), "{console}");
    }
    drives.into_iter().for_each(Drive::stop);
}
