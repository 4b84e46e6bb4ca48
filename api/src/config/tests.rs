//! Configurations as clients write them: what is read, and what is refused by name.

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorCode;

/// A machine with the given devices and links.
fn machine(pci: Value, links: Value) -> Value {
    json!({ "payload": { "kernel": "/boot/vmlinuz" }, "pci": pci, "links": links })
}

fn read(config: &Value) -> Result<VmConfig, ConfigError> {
    VmConfig::from_json(config.to_string().as_bytes())
}

#[track_caller]
fn refused(config: &Value) -> ConfigError {
    let error = read(config).expect_err("the configuration should be refused");
    assert!(!error.message.is_empty());
    error
}

#[track_caller]
fn refused_for(config: &Value, code: ErrorCode, field: &str, device: Option<&str>) -> String {
    let error = refused(config);
    assert_eq!(
        (error.code, error.field.as_deref(), error.device.as_deref()),
        (code, Some(field), device),
        "{}",
        error.message
    );
    error.message
}

fn drive(id: &str) -> Value {
    json!({ "type": "nvme", "id": id, "namespaces": [{ "path": format!("/disks/{id}.raw") }] })
}

fn with(mut device: Value, field: &str, value: Value) -> Value {
    device[field] = value;
    device
}

fn bridge(class: &str, id: &str, children: Value) -> Value {
    json!({ "type": class, "id": id, "children": children })
}

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
fn the_machine_itself_is_checked() {
    let with = |path: &str, value: Value| {
        let mut config = machine(json!([]), json!([]));
        *config.pointer_mut(path).unwrap() = value;
        config
    };
    let set = |field: &str, value: Value| {
        let mut config = machine(json!([]), json!([]));
        config[field] = value;
        config
    };
    use ErrorCode::*;
    refused_for(
        &set("cpus", json!({ "boot_vcpus": 0 })),
        OutOfRange,
        "cpus.boot_vcpus",
        None,
    );
    refused_for(
        &set("cpus", json!({ "boot_vcpus": 65 })),
        OutOfRange,
        "cpus.boot_vcpus",
        None,
    );
    for size in [0, 63 << 20, (64 << 20) + 4096, 1u64 << 62] {
        refused_for(
            &set("memory", json!({ "size": size })),
            OutOfRange,
            "memory.size",
            None,
        );
    }
    refused_for(
        &with("/payload/kernel", json!("")),
        MissingField,
        "payload.kernel",
        None,
    );
    refused_for(
        &set("serial", json!({ "mode": "File" })),
        MissingField,
        "serial.file",
        None,
    );
    refused_for(
        &set("serial", json!({ "mode": "Socket" })),
        MissingField,
        "serial.socket",
        None,
    );
    refused_for(
        &set("serial", json!({ "mode": "Tty", "file": "/x" })),
        UnexpectedField,
        "serial.file",
        None,
    );
    refused_for(
        &set("teardown", json!({ "workers": 0 })),
        OutOfRange,
        "teardown.workers",
        None,
    );
    refused_for(
        &set("teardown", json!({ "workers": 1025 })),
        OutOfRange,
        "teardown.workers",
        None,
    );
    assert!(read(&set("memory", json!({ "size": 6u64 << 30 }))).is_ok());
    assert!(read(&set("serial", json!({ "mode": "File", "file": "/x" }))).is_ok());
}

#[test]
fn names_are_unique_and_plain() {
    let twice = json!([
        drive("d0"),
        bridge("root-port", "rp0", json!([drive("d0")]))
    ]);
    refused_for(
        &machine(twice, json!([])),
        ErrorCode::DuplicateId,
        "pci[1].children[0].id",
        Some("d0"),
    );
    for id in ["", "a b", "ä", "a/b", &"x".repeat(65), "i8042"] {
        assert_eq!(
            refused(&machine(json!([drive(id)]), json!([]))).code,
            ErrorCode::BadId,
            "{id}"
        );
    }
    assert!(read(&machine(json!([drive("A-z_0.9")]), json!([]))).is_ok());
}

#[test]
fn places_are_those_of_pci_express() {
    let at_root = |class: &str| machine(json!([bridge(class, "x", json!([]))]), json!([]));
    for class in ["upstream-port", "downstream-port", "pci-bridge"] {
        refused_for(
            &at_root(class),
            ErrorCode::BadPlacement,
            "pci[0].type",
            Some("x"),
        );
    }
    let behind = |outer: Vec<&str>, device: Value| {
        let nested = outer
            .iter()
            .enumerate()
            .rev()
            .fold(device, |device, (at, class)| {
                bridge(class, &format!("b{at}"), json!([device]))
            });
        read(&machine(json!([nested]), json!([]))).map_err(|error| error.code)
    };
    let bad = Err(ErrorCode::BadPlacement);
    let of = |class: &str| bridge(class, "x", json!([]));
    assert_eq!(behind(vec!["root-port"], of("root-port")).map(drop), bad);
    assert_eq!(
        behind(vec!["root-port"], of("downstream-port")).map(drop),
        bad
    );
    assert_eq!(
        behind(vec!["root-port", "upstream-port"], drive("d")).map(drop),
        bad
    );
    assert_eq!(
        behind(vec!["root-port", "upstream-port"], of("upstream-port")).map(drop),
        bad
    );
    assert_eq!(
        behind(vec!["root-port", "pci-bridge"], of("upstream-port")).map(drop),
        bad
    );
    assert!(behind(vec!["root-port", "pci-bridge", "pci-bridge"], drive("d")).is_ok());
    assert!(
        behind(
            vec![
                "root-port",
                "upstream-port",
                "downstream-port",
                "upstream-port"
            ],
            of("downstream-port")
        )
        .is_ok()
    );
}

#[test]
fn numbers_given_are_kept_and_the_others_filled_in() {
    let tree = json!([
        drive("a"),
        with(drive("b"), "device", json!(1)),
        with(with(drive("c"), "device", json!(1)), "function", json!(3)),
        drive("d"),
    ]);
    let config = read(&machine(tree, json!([]))).unwrap();
    let slots = assign_slots(None, &config.pci).unwrap();
    let slots: Vec<_> = slots
        .iter()
        .map(|slot| (slot.device, slot.function))
        .collect();
    assert_eq!(slots, [(2, 0), (1, 0), (1, 3), (3, 0)]);
}

#[test]
fn numbers_that_clash_or_do_not_exist_are_refused() {
    use ErrorCode::*;
    let root = |devices: Vec<Value>| machine(json!(devices), json!([]));
    let at = |id: &str, device: u8, function: u8| {
        with(
            with(drive(id), "device", json!(device)),
            "function",
            json!(function),
        )
    };
    refused_for(
        &root(vec![at("a", 4, 0), at("b", 4, 0)]),
        AddressInUse,
        "pci[1].function",
        Some("b"),
    );
    refused_for(
        &root(vec![at("a", 4, 1)]),
        BadAddress,
        "pci[0].function",
        Some("a"),
    );
    refused_for(
        &root(vec![at("a", 0, 0)]),
        BadAddress,
        "pci[0].device",
        Some("a"),
    );
    refused_for(
        &root(vec![at("a", 32, 0)]),
        BadAddress,
        "pci[0].device",
        Some("a"),
    );
    refused_for(
        &root(vec![at("a", 3, 8)]),
        BadAddress,
        "pci[0].function",
        Some("a"),
    );
    refused_for(
        &root(vec![with(drive("a"), "function", json!(1))]),
        BadAddress,
        "pci[0].device",
        Some("a"),
    );
    let many = (0..32).map(|n| drive(&format!("d{n}"))).collect();
    refused_for(&root(many), AddressInUse, "pci[31].device", Some("d31"));
    // A port leads to device 0 only, which may have several functions.
    let behind_port = |devices: Vec<Value>| root(vec![bridge("root-port", "rp", json!(devices))]);
    refused_for(
        &behind_port(vec![drive("a"), drive("b")]),
        AddressInUse,
        "pci[0].children[1].device",
        Some("b"),
    );
    refused_for(
        &behind_port(vec![at("a", 1, 0)]),
        BadAddress,
        "pci[0].children[0].device",
        Some("a"),
    );
    assert!(
        read(&behind_port(vec![
            drive("a"),
            with(drive("b"), "function", json!(1))
        ]))
        .is_ok()
    );
}

#[test]
fn bus_numbers_run_out_at_255_bridges() {
    let deep = |bridges: usize| {
        let mut tree = drive("d");
        for at in (1..bridges).rev() {
            tree = bridge("pci-bridge", &format!("b{at}"), json!([tree]));
        }
        machine(json!([bridge("root-port", "rp", json!([tree]))]), json!([]))
    };
    // Text is built and read on a stack to match: 255 levels are deeper than a test's is safe for.
    let check = move || {
        assert!(read(&deep(255)).is_ok());
        assert_eq!(refused(&deep(256)).code, ErrorCode::BusNumbersExhausted);
    };
    std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(check)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn links_name_devices_and_leave_an_order() {
    let link =
        |consumer: &str, supplier: &str| json!({ "consumer": consumer, "supplier": supplier });
    let tree = || {
        json!([
            bridge("root-port", "rp", json!([drive("a")])),
            drive("b"),
            drive("c")
        ])
    };
    refused_for(
        &machine(tree(), json!([link("a", "x")])),
        ErrorCode::UnknownId,
        "links[0].supplier",
        Some("x"),
    );
    refused_for(
        &machine(tree(), json!([link("y", "a")])),
        ErrorCode::UnknownId,
        "links[0].consumer",
        Some("y"),
    );
    refused_for(
        &machine(tree(), json!([link("a", "a")])),
        ErrorCode::SelfLink,
        "links[0]",
        Some("a"),
    );

    let cycle = refused(&machine(
        tree(),
        json!([link("a", "b"), link("b", "c"), link("c", "a")]),
    ));
    assert_eq!(cycle.code, ErrorCode::Cycle);
    assert!(
        cycle
            .message
            .contains("`a` before `b` before `c` before `a`"),
        "{cycle}"
    );
    // The port goes after the drive behind it, so the drive cannot need to go after the port's consumer.
    let with_tree = refused(&machine(tree(), json!([link("rp", "a")])));
    assert!(
        with_tree.message.contains("`rp` before `a` before `rp`"),
        "{with_tree}"
    );

    let mut state_only = link("rp", "a");
    state_only["sync_state_only"] = json!(true);
    assert!(
        read(&machine(
            tree(),
            json!([state_only, link("a", "b"), link("a", "c"), link("b", "c")])
        ))
        .is_ok()
    );
}

#[test]
fn a_list_order_names_every_device_once() {
    let order = |order: Value| {
        let mut config = machine(
            json!([bridge("root-port", "rp", json!([drive("a")])), drive("b")]),
            json!([]),
        );
        config["teardown"] = json!({ "order": order });
        config
    };
    assert!(read(&order(json!(["b", "a", "rp"]))).is_ok());
    let unknown = refused_for(
        &order(json!(["rp", "a", "c", "b"])),
        ErrorCode::UnknownId,
        "teardown.order[2]",
        Some("c"),
    );
    assert!(unknown.contains("`c` is no device of `pci`"), "{unknown}");
    let legacy = refused_for(
        &order(json!(["rp", "a", "b", "rtc"])),
        ErrorCode::UnknownId,
        "teardown.order[3]",
        Some("rtc"),
    );
    assert!(legacy.contains("follow the list by themselves"), "{legacy}");
    let twice = refused_for(
        &order(json!(["rp", "a", "b", "a"])),
        ErrorCode::BadOrder,
        "teardown.order[3]",
        Some("a"),
    );
    assert!(twice.contains("`a` stands at [1] already"), "{twice}");
    let missing = refused_for(
        &order(json!(["rp", "b"])),
        ErrorCode::BadOrder,
        "teardown.order",
        Some("a"),
    );
    assert!(missing.contains("`a` is missing"), "{missing}");
    refused_for(
        &order(json!([])),
        ErrorCode::BadOrder,
        "teardown.order",
        Some("rp"),
    );
}

#[test]
fn a_parent_can_be_locked_behind_a_bridge_only() {
    let locking = |id: &str| with(drive(id), "parent_lock", json!(true));
    let behind = machine(
        json!([bridge("root-port", "rp", json!([locking("a")]))]),
        json!([]),
    );
    assert!(
        read(&behind).unwrap().pci[0].children()[0]
            .options()
            .parent_lock
    );
    let message = refused_for(
        &machine(json!([drive("a"), locking("b")]), json!([])),
        ErrorCode::UnexpectedField,
        "pci[1].parent_lock",
        Some("b"),
    );
    assert!(
        message.contains("put the device behind a bridge"),
        "{message}"
    );
}

#[test]
fn drives_are_checked() {
    use ErrorCode::*;
    let one =
        |field: &str, value: Value| machine(json!([with(drive("d"), field, value)]), json!([]));
    let fixed = |ms: u64| json!({ "latency": { "kind": "fixed", "ms": ms } });
    refused_for(
        &one("namespaces", json!([])),
        OutOfRange,
        "pci[0].namespaces",
        Some("d"),
    );
    refused_for(
        &one("serial", json!("a\u{7}")),
        OutOfRange,
        "pci[0].serial",
        Some("d"),
    );
    refused_for(
        &one("serial", json!("123456789012345678901")),
        OutOfRange,
        "pci[0].serial",
        Some("d"),
    );
    refused_for(
        &one("shutdown", fixed(60_000)),
        OutOfRange,
        "pci[0].shutdown.latency",
        Some("d"),
    );
    refused_for(
        &one("teardown", fixed(3_600_001)),
        OutOfRange,
        "pci[0].teardown.latency",
        Some("d"),
    );
    refused_for(
        &one("deadline_ms", json!(0)),
        OutOfRange,
        "pci[0].deadline_ms",
        Some("d"),
    );
    refused_for(
        &one("deadline_ms", json!(3_600_001)),
        OutOfRange,
        "pci[0].deadline_ms",
        Some("d"),
    );
    refused_for(
        &one("namespaces", json!([{ "path": "" }])),
        MissingField,
        "pci[0].namespaces[0].path",
        Some("d"),
    );
    assert!(read(&one("shutdown", fixed(59_999))).is_ok());
}

#[test]
fn no_file_has_two_writers() {
    let two = |first: Value, second: Value| {
        let on = |id: &str, namespace: Value| with(drive(id), "namespaces", json!([namespace]));
        machine(json!([on("a", first), on("b", second)]), json!([]))
    };
    let written = || json!({ "path": "/x/disk" });
    let read_only = |path: &str| json!({ "path": path, "readonly": true });
    let field = "pci[1].namespaces[0].path";
    refused_for(
        &two(written(), json!({ "path": "/x/.//disk" })),
        ErrorCode::DuplicatePath,
        field,
        Some("b"),
    );
    refused_for(
        &two(written(), read_only("/x/disk")),
        ErrorCode::DuplicatePath,
        field,
        Some("b"),
    );
    refused_for(
        &two(read_only("/x/disk"), written()),
        ErrorCode::DuplicatePath,
        field,
        Some("b"),
    );
    assert!(read(&two(read_only("/x/disk"), read_only("/x/disk"))).is_ok());
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
