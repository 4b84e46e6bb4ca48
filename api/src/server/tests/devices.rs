//! Calls that add devices and remove them.

use super::*;
use crate::config::{AddDevice, AddUserDevice};

#[test]
fn devices_that_come_and_go_become_requests() {
    let bench = Bench::new();
    let body = json!({ "type": "vfio", "id": "v", "path": "01:00.0", "parent": "rp" });
    let added = AddDevice::from_json(body.to_string().as_bytes()).unwrap();
    assert_eq!(bench.client.add_device(&added).unwrap().id, "v");
    let user = AddUserDevice {
        id: Some("u".to_owned()),
        socket: "/run/u".into(),
        ..AddUserDevice::default()
    };
    assert_eq!(bench.client.add_user_device(&user).unwrap().id, "u");
    bench.client.remove_device("v").unwrap();
    let expected = [
        Request::AddDevice(Box::new(added)),
        Request::AddUserDevice(Box::new(user)),
        Request::RemoveDevice("v".to_owned()),
    ];
    assert_eq!(bench.seen(), expected);
}

#[test]
fn a_short_form_as_other_monitors_have_it_is_taken() {
    let bench = Bench::new();
    let body = r#"{"socket": "/run/u", "id": "u", "pci_segment": 0}"#;
    let answer = bench.client.call(Method::PUT, "/vm.add-user-device", body);
    let answer: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    assert_eq!(answer, json!({ "id": "u" }));
}

#[test]
fn a_device_of_no_shape_does_not_reach_the_machine() {
    let bench = Bench::new();
    let refused = |path: &str, body: &str| {
        let (status, error) = bench.refused(Method::PUT, path, body);
        assert_eq!((status, error.code), (400, ErrorCode::Malformed), "{error}");
        error.message
    };
    let told = refused("/vm.add-device", r#"{"type": "vfio", "id": "v"}"#);
    assert!(told.contains("missing field `path`"), "{told}");
    let told = refused("/vm.add-device", r#"{"type": "toaster", "id": "v"}"#);
    assert!(told.contains("toaster"), "{told}");
    let told = refused("/vm.add-user-device", r#"{"id": "u"}"#);
    assert!(told.contains("socket"), "{told}");
    let told = refused(
        "/vm.add-user-device",
        r#"{"socket": "/s", "colour": "red"}"#,
    );
    assert!(told.contains("colour"), "{told}");
    refused("/vm.remove-device", "{}");
    refused("/vm.remove-device", "");
    assert!(bench.seen().is_empty());
}
