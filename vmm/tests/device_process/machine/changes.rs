//! Devices that come and go, and those that keep others from it.

use api::config::{AddDevice, AddUserDevice};
use api::events::EventKind;
use api::state::VmState;

use super::*;

/// The low byte of the vendor's number that the drive has.
const VENDOR: u8 = 0x36;

#[test]
#[ignore = "needs KVM"]
fn a_drive_of_a_process_is_added_to_a_machine_that_was_created_and_its_guest_finds_it() {
    let process = Process::start("added");
    let mut vmm = Vmm::start();
    vmm.create(Guest::default().marker_of_register(1, 0), json!([]));
    drop(process.connect());
    let added = AddUserDevice {
        socket: process.socket(),
        ..AddUserDevice::default()
    };
    let answer = vmm.client.add_user_device(&added).unwrap();
    assert_eq!(answer.id, "user0");
    let [node] = &vmm.client.topology().unwrap().pci[..] else {
        panic!("one device");
    };
    assert_eq!(
        (node.id.as_str(), node.class.as_str()),
        ("user0", "vfio-user")
    );
    let host = node.passthrough.as_ref().unwrap().host.clone();
    assert_eq!(host, process.socket().display().to_string());
    assert_eq!(vmm.boot(), VENDOR);
    vmm.client.reboot().unwrap();
    assert_eq!(vmm.marker(), VENDOR, "after a reboot too");

    vmm.client.shutdown().unwrap();
    vmm.client.remove_device("user0").unwrap();
    assert!(vmm.client.topology().unwrap().pci.is_empty());
    assert_eq!(vmm.boot(), u8::MAX, "nobody is there");
}

#[test]
#[ignore = "needs KVM"]
fn devices_do_not_come_and_go_while_another_is_away() {
    let (mut away, other) = (Process::start("away"), Process::start("other"));
    let mut vmm = Vmm::start();
    vmm.create(
        Guest::default().marker(1),
        json!([served("away", &away, 1)]),
    );
    away.kill();
    vmm.event(|event| matches!(event, EventKind::DeviceGone { .. }).then_some(()));
    let added = served("other", &other, 2).to_string();
    let added = AddDevice::from_json(added.as_bytes()).unwrap();
    let told = refused(vmm.client.add_device(&added), ErrorCode::WrongState);
    assert!(told.contains("away could not be"), "{told}");
    assert!(told.contains("vm.remove-device"), "{told}");
    assert_eq!(vmm.client.info().unwrap().state, VmState::Created);

    vmm.client.remove_device("away").unwrap();
    vmm.client.add_device(&added).unwrap();
    let topology = vmm.client.topology().unwrap();
    assert_eq!(topology.pci.len(), 1);
    assert_eq!(vmm.boot(), 1);
}
