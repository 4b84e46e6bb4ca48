//! What orders the devices: links, the list, parents' locks.

use super::*;

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
