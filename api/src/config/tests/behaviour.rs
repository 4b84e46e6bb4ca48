//! Latencies and faults: what is read, what is refused, and what a change makes of a device.

use super::*;

fn one(field: &str, value: Value) -> Value {
    machine(json!([with(drive("d"), field, value)]), json!([]))
}

fn latency(latency: Value) -> Value {
    json!({ "latency": latency })
}

#[track_caller]
fn out_of_range(field: &str, value: Value, place: &str, says: &str) {
    let place = format!("pci[0].{place}");
    let message = refused_for(&one(field, value), ErrorCode::OutOfRange, &place, Some("d"));
    assert!(message.contains(says), "{message}");
}

#[test]
fn every_kind_of_latency_is_read_and_written_the_same() {
    for kind in [
        json!({ "kind": "fixed", "ms": 86_400_000 }),
        json!({ "kind": "uniform", "min_ms": 5, "max_ms": 5 }),
        json!({ "kind": "log-normal", "median_ms": 500, "sigma": 0.4 }),
        json!({ "kind": "written", "base_ms": 10, "ms_per_mib": 2.5, "cap_ms": 8000 }),
    ] {
        for field in ["shutdown", "teardown"] {
            let config = read(&one(field, latency(kind.clone()))).unwrap();
            let written = serde_json::to_value(&config).unwrap();
            assert_eq!(written["pci"][0][field]["latency"], kind);
            assert_eq!(read(&written).unwrap(), config);
        }
    }
}

#[test]
fn latencies_that_are_none_are_refused() {
    let day = json!({ "kind": "fixed", "ms": 86_400_001 });
    let at = "teardown.latency";
    out_of_range("teardown", latency(day.clone()), at, "up to a day");
    out_of_range("shutdown", latency(day), "shutdown.latency", "up to a day");
    let uniform = json!({ "kind": "uniform", "min_ms": 6, "max_ms": 5 });
    out_of_range("teardown", latency(uniform), at, "from 6 to 5 ms");
    for sigma in [-0.1, 5.1] {
        let wide = json!({ "kind": "log-normal", "median_ms": 5, "sigma": sigma });
        out_of_range("teardown", latency(wide), at, "0 to 5 is allowed");
    }
    let written = |base: u64, rate: f64| {
        latency(json!({ "kind": "written", "base_ms": base, "ms_per_mib": rate, "cap_ms": 5 }))
    };
    out_of_range("teardown", written(6, 1.0), at, "above `cap_ms`");
    out_of_range("teardown", written(1, -1.0), at, "`ms_per_mib` is -1");
    let abrupt = json!({ "abrupt_latency": { "kind": "uniform", "min_ms": 2, "max_ms": 1 } });
    out_of_range("shutdown", abrupt, "shutdown.abrupt_latency", "from 2 to 1");
    let told = json!({ "rtd3e_ms": 4_294_968 });
    out_of_range("shutdown", told, "shutdown.rtd3e_ms", "4294967 ms");
}

#[test]
fn numbers_that_are_none_are_refused() {
    for sigma in [f64::NAN, f64::INFINITY] {
        let median_ms = 1;
        assert!(Latency::LogNormal { median_ms, sigma }.check(true).is_err());
        let written = Latency::Written {
            base_ms: 0,
            ms_per_mib: sigma,
            cap_ms: 1,
        };
        assert!(written.check(true).is_err());
    }
}

#[test]
fn nothing_is_written_to_a_bridge() {
    let written = json!({ "kind": "written", "ms_per_mib": 1, "cap_ms": 5 });
    let port = bridge("root-port", "p", json!([]));
    let message = refused_for(
        &machine(json!([with(port, "teardown", latency(written))]), json!([])),
        ErrorCode::OutOfRange,
        "pci[0].teardown.latency",
        Some("p"),
    );
    assert!(message.contains("nothing is written to it"), "{message}");
}

fn all_faults() -> Value {
    json!({
        "removed": true,
        "shutdown": "fatal",
        "flush": "stuck",
        "media": [{ "namespace": 1, "first_block": 8, "blocks": 1 }],
        "commands": [
            { "queue": "io", "opcode": 2, "nth": 3, "repeat": false,
              "effect": { "kind": "status", "type": 2, "code": 129, "do_not_retry": true } },
            { "nth": 1, "repeat": true,
              "effect": { "kind": "slow", "latency": { "kind": "fixed", "ms": 5 } } },
            { "queue": "admin", "nth": 1, "repeat": true, "effect": { "kind": "stuck" } },
        ],
    })
}

#[test]
fn faults_are_read_and_written_the_same_and_none_are_not_written() {
    let config = read(&one("faults", all_faults())).unwrap();
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(written["pci"][0]["faults"], all_faults());
    let none = read(&one("faults", json!({}))).unwrap();
    let written = serde_json::to_value(&none).unwrap();
    assert_eq!(written["pci"][0].get("faults"), None);
}

#[test]
fn what_a_command_fault_leaves_out_is_every_command() {
    let fault = json!({ "commands": [{ "effect": { "kind": "stuck" } }] });
    let config = read(&one("faults", fault)).unwrap();
    let Some(DeviceConfig::Nvme(nvme)) = config.device("d") else {
        panic!("no drive");
    };
    let fault = &nvme.faults.commands[0];
    assert_eq!((fault.queue, fault.opcode), (None, None));
    assert_eq!((fault.nth, fault.repeat), (1, true));
}

#[test]
fn faults_that_are_none_are_refused() {
    let command = |changed: Value| {
        let mut fault = json!({ "effect": { "kind": "stuck" } });
        for (field, value) in changed.as_object().into_iter().flatten() {
            fault[field] = value.clone();
        }
        json!({ "commands": [{ "effect": { "kind": "stuck" } }, fault] })
    };
    let status = |kind: u8, code: u8| {
        command(json!({ "effect": { "kind": "status", "type": kind, "code": code } }))
    };
    let at = |field: &str| format!("faults.commands[1].{field}");
    out_of_range("faults", command(json!({ "nth": 0 })), &at("nth"), "from 1");
    out_of_range("faults", status(8, 1), &at("effect.type"), "0 to 7");
    out_of_range("faults", status(0, 0), &at("effect.code"), "is success");
    let slow =
        json!({ "kind": "slow", "latency": { "kind": "uniform", "min_ms": 2, "max_ms": 1 } });
    let slow = command(json!({ "effect": slow }));
    out_of_range("faults", slow, &at("effect.latency"), "from 2 to 1");
    let media = |namespace: u32, blocks: u64| json!({ "media": [{ "namespace": namespace, "first_block": 0, "blocks": blocks }] });
    let namespace = "faults.media[0].namespace";
    out_of_range("faults", media(2, 1), namespace, "has 1 to 1");
    out_of_range("faults", media(0, 1), namespace, "has 1 to 1");
    out_of_range("faults", media(1, 0), "faults.media[0].blocks", "1 or more");
    let many: Vec<_> = (0..65)
        .map(|_| json!({ "effect": { "kind": "stuck" } }))
        .collect();
    let many = json!({ "commands": many });
    out_of_range("faults", many, "faults.commands", "at most 64");
    // Shapes.
    for bad in [
        json!({ "shutdown": "slow" }),
        json!({ "commands": [{}] }),
        json!({ "commands": [{ "effect": { "kind": "stuck", "ms": 1 } }] }),
        json!({ "media": [{ "first_block": 0 }] }),
        json!({ "remove": true }),
    ] {
        assert_eq!(refused(&one("faults", bad)).code, ErrorCode::Malformed);
    }
}

#[test]
fn a_bridge_has_no_faults() {
    let port = bridge("root-port", "p", json!([]));
    let config = machine(json!([with(port, "faults", json!({}))]), json!([]));
    assert!(refused(&config).message.contains("unknown field `faults`"));
}

#[test]
fn an_update_changes_what_it_gives_and_nothing_when_it_is_refused() {
    let config = read(&one(
        "shutdown",
        latency(json!({ "kind": "fixed", "ms": 7 })),
    ))
    .unwrap();
    let mut device = config.device("d").unwrap().clone();
    let read = |update: Value| serde_json::from_value::<BehaviourUpdate>(update).unwrap();
    let update = read(json!({
        "teardown": { "latency": { "kind": "fixed", "ms": 9 } },
        "faults": { "flush": "fail" },
    }));
    assert_eq!(update.given(), ["teardown", "faults"]);
    update.validate().unwrap();
    update.apply(&mut device).unwrap();
    let behaviour = device.behaviour(77);
    assert_eq!(behaviour.seed, 77);
    assert_eq!(
        behaviour.teardown.unwrap().latency,
        Latency::Fixed { ms: 9 }
    );
    assert_eq!(
        behaviour.shutdown.unwrap().latency,
        Latency::Fixed { ms: 7 }
    );
    assert_eq!(behaviour.faults.unwrap().flush, Some(FlushFault::Fail));

    let before = device.clone();
    let refused = read(json!({
        "shutdown": { "latency": { "kind": "fixed", "ms": 1 } },
        "faults": { "commands": [{ "nth": 0, "effect": { "kind": "stuck" } }] },
    }));
    let error = refused.apply(&mut device).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("faults.commands[0].nth"));
    assert_eq!(device, before);
    read(json!({ "faults": {} })).apply(&mut device).unwrap();
    assert!(device.behaviour(0).faults.unwrap().is_empty());
    assert!(BehaviourUpdate::default().validate().is_err());
}

#[test]
fn an_update_of_a_bridge_is_of_its_teardown_only() {
    let config = machine(json!([bridge("root-port", "p", json!([]))]), json!([]));
    let mut port = read(&config).unwrap().device("p").unwrap().clone();
    let update = |update: Value| serde_json::from_value::<BehaviourUpdate>(update).unwrap();
    let error = update(json!({ "faults": {} }))
        .apply(&mut port)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::UnexpectedField);
    assert!(error.message.contains("`p` is a root-port"), "{error}");
    let teardown = json!({ "teardown": { "latency": { "kind": "fixed", "ms": 3 } } });
    update(teardown).apply(&mut port).unwrap();
    let behaviour = port.behaviour(1);
    assert_eq!(
        behaviour.teardown.unwrap().latency,
        Latency::Fixed { ms: 3 }
    );
    assert_eq!((behaviour.shutdown, behaviour.faults), (None, None));
}
