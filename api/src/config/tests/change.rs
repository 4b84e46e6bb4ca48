//! Devices that come and go.

use super::*;

fn added(body: Value) -> Result<AddDevice, ConfigError> {
    AddDevice::from_json(body.to_string().as_bytes())
}

/// A port with a drive behind it, a drive beside it, a link and a list that is given.
fn config() -> VmConfig {
    let mut config = machine(
        json!([bridge("root-port", "rp", json!([drive("a")])), drive("b")]),
        json!([{ "consumer": "a", "supplier": "b" }]),
    );
    config["teardown"] = json!({ "order": ["rp", "b", "a"] });
    read(&config).unwrap()
}

fn ids(devices: &[DeviceConfig]) -> Vec<&str> {
    devices.iter().map(DeviceConfig::id).collect()
}

#[test]
fn a_device_comes_to_the_root_bus_or_behind_a_bridge() {
    let change = added(json!({ "type": "vfio", "id": "v", "path": "01:00.0" })).unwrap();
    let config = config().with_device(&change).unwrap();
    assert_eq!(ids(&config.pci), ["rp", "b", "v"]);
    assert_eq!(
        config.teardown.order.as_deref().unwrap(),
        ["rp", "b", "a", "v"]
    );

    let mut behind = with(drive("c"), "parent", json!("rp"));
    behind["function"] = json!(1);
    let config = config.with_device(&added(behind).unwrap()).unwrap();
    assert_eq!(ids(config.pci[0].children()), ["a", "c"]);
    config.validate().unwrap();
}

#[test]
fn what_is_wrong_with_an_added_device_is_named_from_its_body() {
    let refused = |body: Value| {
        let change = added(body)?;
        config().with_device(&change).map(drop)
    };
    let error = refused(with(drive("c"), "namespaces", json!([{ "path": "" }]))).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("namespaces[0].path"));
    assert!(!error.message.contains("pci["), "{}", error.message);
    let error = refused(drive("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::DuplicateId);
    let error = refused(with(drive("c"), "parent", json!("rp"))).unwrap_err();
    assert_eq!(error.code, ErrorCode::AddressInUse);
    for (parent, code) in [
        ("b", ErrorCode::BadPlacement),
        ("nobody", ErrorCode::UnknownId),
    ] {
        let error = refused(with(drive("c"), "parent", json!(parent))).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (code, Some("parent")));
    }
    let error = refused(with(drive("c"), "parent", json!(7))).unwrap_err();
    assert_eq!(error.code, ErrorCode::Malformed);
    let error = refused(with(drive("c"), "colour", json!("red"))).unwrap_err();
    assert!(error.message.contains("unknown field `colour`"));
    assert!(added(json!([])).is_err());
}

#[test]
fn a_device_leaves_with_its_links_and_its_place_in_the_list() {
    let without = config().without_device("a").unwrap();
    assert!(without.device("a").is_none() && without.links.is_empty());
    assert_eq!(without.teardown.order.as_deref().unwrap(), ["rp", "b"]);
    let without = without.without_device("rp").unwrap();
    assert_eq!(ids(&without.pci), ["b"]);
}

#[test]
fn what_cannot_be_removed_is_said_why() {
    for (id, code) in [
        ("rp", ErrorCode::BadPlacement),
        ("nobody", ErrorCode::NotFound),
        ("i8042", ErrorCode::BadId),
    ] {
        let error = config().without_device(id).unwrap_err();
        assert_eq!((error.code, error.device.as_deref()), (code, Some(id)));
    }
}

#[test]
fn a_user_device_is_named_where_it_has_no_name() {
    let short = |body: Value| serde_json::from_value::<AddUserDevice>(body).unwrap();
    let first = short(json!({ "socket": "/run/0", "pci_segment": 0 }));
    let first = first.into_device(&config()).unwrap();
    let config = config().with_device(&first).unwrap();
    let second = short(json!({ "socket": "/run/1", "parent": "rp", "fence": true }));
    let second = second.into_device(&config).unwrap();
    assert_eq!((first.device.id(), second.device.id()), ("user0", "user1"));
    assert_eq!(second.parent.as_deref(), Some("rp"));
    let DeviceConfig::VfioUser(device) = &second.device else {
        unreachable!("it is a vfio-user device");
    };
    assert!(device.fence);
    let named = short(json!({ "id": "net", "socket": "/run/2", "pci_segment": 1 }));
    let error = named.into_device(&config).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("pci_segment"));
}

#[test]
fn what_is_sent_is_what_is_read() {
    let body = json!({ "type": "vfio-user", "id": "u", "socket": "/run/u", "parent": "rp" });
    let change = added(body).unwrap();
    let sent = serde_json::to_vec(&change).unwrap();
    assert_eq!(AddDevice::from_json(&sent).unwrap(), change);
}
