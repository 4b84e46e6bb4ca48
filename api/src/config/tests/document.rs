//! How a configuration is read: shapes, unknown and misplaced fields, types, the examples.

use super::*;

#[test]
fn a_tree_keeps_its_shape() {
    let switch = bridge(
        "upstream-port",
        "up",
        json!([bridge("downstream-port", "down0", json!([drive("d0")]))]),
    );
    let tree = json!([bridge("root-port", "rp0", json!([switch])), drive("d1")]);
    let config = read(&machine(
        tree,
        json!([{ "consumer": "d1", "supplier": "rp0" }]),
    ))
    .unwrap();
    let devices: Vec<_> = config
        .devices()
        .map(|(parent, device)| (parent, device.id(), device.class()))
        .collect();
    assert_eq!(
        devices,
        [
            (None, "rp0", "root-port"),
            (Some("rp0"), "up", "upstream-port"),
            (Some("up"), "down0", "downstream-port"),
            (Some("down0"), "d0", "nvme"),
            (None, "d1", "nvme"),
        ]
    );
    let place = "pci[0].children[0].children[0].children[0]";
    assert_eq!(config.place_of("d0").as_deref(), Some(place));
    assert_eq!(config.place_of("d2"), None);
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(read(&written).unwrap(), config);
}

#[test]
fn unknown_fields_are_named_wherever_they_are() {
    let mut top = machine(json!([]), json!([]));
    top["memroy"] = json!(1);
    assert_eq!(refused(&top).field.as_deref(), Some("memroy"));

    let inside = machine(
        json!([bridge(
            "root-port",
            "rp0",
            json!([with(drive("d0"), "sreial", json!("x"))])
        )]),
        json!([]),
    );
    let message = refused_for(
        &inside,
        ErrorCode::Malformed,
        "pci[0].children[0].sreial",
        Some("d0"),
    );
    assert!(message.contains("unknown field `sreial`"), "{message}");

    let namespace = json!({ "path": "/a", "readnoly": true });
    let namespace = machine(
        json!([with(drive("d0"), "namespaces", json!([namespace]))]),
        json!([]),
    );
    refused_for(
        &namespace,
        ErrorCode::Malformed,
        "pci[0].namespaces[0].readnoly",
        Some("d0"),
    );

    let model = json!({ "latency": { "kind": "fixed", "ms": 5, "s": 1 } });
    let model = machine(json!([with(drive("d0"), "teardown", model)]), json!([]));
    refused_for(
        &model,
        ErrorCode::Malformed,
        "pci[0].teardown.latency",
        Some("d0"),
    );

    let link = machine(
        json!([drive("d0")]),
        json!([{ "consumer": "d0", "supplier": "d0", "kind": 1 }]),
    );
    assert_eq!(refused(&link).field.as_deref(), Some("links[0].kind"));
}

#[test]
fn fields_of_another_type_of_device_are_refused() {
    let port = with(
        bridge("root-port", "rp0", json!([])),
        "namespaces",
        json!([]),
    );
    let message = refused_for(
        &machine(json!([port]), json!([])),
        ErrorCode::Malformed,
        "pci[0]",
        Some("rp0"),
    );
    assert!(message.contains("`namespaces`"), "{message}");
    let nested = with(drive("d0"), "children", json!([]));
    assert!(
        refused(&machine(json!([nested]), json!([])))
            .message
            .contains("`children`")
    );
    let bare = json!({ "type": "nvme", "id": "d0" });
    assert!(
        refused(&machine(json!([bare]), json!([])))
            .message
            .contains("missing field `namespaces`")
    );
}

#[test]
fn wrong_types_are_named() {
    let wrong = with(drive("d0"), "deadline_ms", json!("soon"));
    refused_for(
        &machine(json!([wrong]), json!([])),
        ErrorCode::Malformed,
        "pci[0].deadline_ms",
        Some("d0"),
    );
    let unknown = json!([{ "type": "floppy", "id": "a" }]);
    refused_for(
        &machine(unknown, json!([])),
        ErrorCode::Malformed,
        "pci[0].type",
        Some("a"),
    );
    let error = VmConfig::from_json(b"{ not json").unwrap_err();
    assert!(error.message.contains("line 1"), "{error}");
}

#[test]
fn the_examples_are_valid() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        VmConfig::from_json(&std::fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn a_drive_is_whom_the_configuration_says() {
    let namespace = json!({ "path": "/a", "block_size": 4096, "eui64": "0211000000000001",
        "uuid": "6ba7b810-9dad-41d1-80b4-00c04fd430c8" });
    let mut written = with(drive("d0"), "model", json!("A drive"));
    written["firmware"] = json!("7");
    written["volatile_write_cache"] = json!(false);
    written["io_queues"] = json!(3);
    written["interrupt_vectors"] = json!(2);
    written["state"] = json!("/d0.state");
    written["namespace_store"] = json!({ "path": "/store", "capacity": 1 << 30 });
    written["namespaces"] = json!([namespace]);
    let config = read(&machine(json!([written.clone()]), json!([]))).unwrap();
    let DeviceConfig::Nvme(nvme) = &config.pci[0] else {
        panic!("no drive");
    };
    assert_eq!(nvme.model.as_deref(), Some("A drive"));
    assert_eq!(nvme.volatile_write_cache, Some(false));
    assert_eq!((nvme.io_queues, nvme.interrupt_vectors), (Some(3), Some(2)));
    assert_eq!(
        nvme.namespaces[0].eui64.unwrap().0,
        [2, 17, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!(nvme.namespaces[0].uuid.unwrap().0[..2], [0x6B, 0xA7]);
    let again = serde_json::to_value(&config).unwrap();
    assert_eq!(read(&again).unwrap(), config);

    for (field, count, possible) in [
        ("io_queues", 0, "1 to 64"),
        ("io_queues", 65, "1 to 64"),
        ("interrupt_vectors", 0, "1 to 65"),
        ("interrupt_vectors", 66, "1 to 65"),
    ] {
        let refused = machine(json!([with(drive("d0"), field, json!(count))]), json!([]));
        let field = format!("pci[0].{field}");
        let message = refused_for(&refused, ErrorCode::OutOfRange, &field, Some("d0"));
        assert!(message.contains(possible), "{message}");
    }
    let with_namespace = |field: &str, value| {
        let mut changed = written.clone();
        changed["namespaces"][0][field] = value;
        machine(json!([changed]), json!([]))
    };
    let size = with_namespace("block_size", json!(520));
    let field = "pci[0].namespaces[0].block_size";
    let message = refused_for(&size, ErrorCode::OutOfRange, field, Some("d0"));
    assert!(message.contains("512 and 4096"), "{message}");
    let short = with_namespace("nguid", json!("12"));
    let field = "pci[0].namespaces[0].nguid";
    let message = refused_for(&short, ErrorCode::Malformed, field, Some("d0"));
    assert!(message.contains("32 hexadecimal digits"), "{message}");
    let mut empty = written.clone();
    empty["namespaces"] = json!([]);
    read(&machine(json!([empty]), json!([]))).unwrap();
    let store = json!({ "path": "/store", "capacity": 1000 });
    let store = machine(
        json!([with(drive("d0"), "namespace_store", store)]),
        json!([]),
    );
    let field = "pci[0].namespace_store.capacity";
    refused_for(&store, ErrorCode::OutOfRange, field, Some("d0"));
    let mut other = drive("d1");
    other["namespace_store"] = json!({ "path": "//store/.", "capacity": 4096 });
    let twice = machine(json!([written.clone(), other]), json!([]));
    let field = "pci[1].namespace_store.path";
    refused_for(&twice, ErrorCode::DuplicatePath, field, Some("d1"));
    let other = with(drive("d1"), "state", json!("/./d0.state"));
    let twice = machine(json!([written.clone(), other]), json!([]));
    refused_for(&twice, ErrorCode::DuplicatePath, "pci[1].state", Some("d1"));
    for (field, value) in [("model", "x".repeat(41)), ("firmware", "123456789".into())] {
        let long = machine(json!([with(drive("d0"), field, json!(value))]), json!([]));
        refused_for(
            &long,
            ErrorCode::OutOfRange,
            &format!("pci[0].{field}"),
            Some("d0"),
        );
    }
}
