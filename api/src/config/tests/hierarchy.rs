//! Names of devices, and their places on the buses.

use super::*;

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
