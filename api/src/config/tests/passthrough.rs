//! Devices that are passed through.

use std::time::Duration;

use super::*;

fn vfio(id: &str, path: &str) -> Value {
    json!({ "type": "vfio", "id": id, "path": path })
}

fn vfio_user(id: &str, socket: &str) -> Value {
    json!({ "type": "vfio-user", "id": id, "socket": socket })
}

fn of(devices: &[Value]) -> Value {
    machine(json!(devices), json!([]))
}

#[test]
fn both_types_are_read_with_what_is_usual_where_nothing_is_given() {
    let config = read(&of(&[vfio("v", "01:00.0"), vfio_user("u", "/run/u.sock")])).unwrap();
    let (host, server) = (&config.pci[0], &config.pci[1]);
    assert_eq!((host.class(), server.class()), ("vfio", "vfio-user"));
    assert_eq!(host.expected_reset(), Some(Duration::from_millis(100)));
    assert_eq!(server.expected_reset(), Some(Duration::ZERO));
    assert!(host.teardown().is_none() && server.teardown().is_none());
    let DeviceConfig::VfioUser(server) = server else {
        unreachable!("it is a vfio-user device");
    };
    assert_eq!(server.request_timeout(), Duration::from_secs(5));
    assert!(!server.fence);
    assert_eq!(config.passthrough.iommu, IommuInterface::Auto);
}

#[test]
fn what_is_written_is_read_again() {
    let mut config = of(&[
        with(vfio("v", "0000:01:00.0"), "expected_reset_ms", json!(70)),
        with(
            with(vfio_user("u", "/run/u.sock"), "fence", json!(true)),
            "request_timeout_ms",
            json!(250),
        ),
    ]);
    config["passthrough"] = json!({ "iommu": "iommufd" });
    let config = read(&config).unwrap();
    let written = serde_json::to_vec(&config).unwrap();
    assert_eq!(VmConfig::from_json(&written).unwrap(), config);
}

#[test]
fn an_address_is_told_from_any_spelling() {
    let address = |path: &str| {
        let vfio = VfioConfig {
            path: path.to_owned(),
            ..VfioConfig::default()
        };
        vfio.address()
    };
    let same = Some("0000:0a:1f.7".to_owned());
    for path in [
        "0000:0a:1f.7",
        "0A:1F.7",
        "/sys/bus/pci/devices/0000:0a:1f.7",
        "/sys/devices/pci0000:00/0000:00:02.0/0000:0a:1f.7/",
    ] {
        assert_eq!(address(path), same, "{path}");
    }
    assert_eq!(address("10000:01:00.0").as_deref(), Some("10000:01:00.0"));
    for path in [
        "",
        "/",
        "01:00",
        "1:00.0",
        "01:20.0",
        "01:00.8",
        "000:01:00.0",
        "0:0000:01:00.0",
        "+1:00.0",
        "nvme0",
        "/sys/class/nvme/nvme0",
    ] {
        assert_eq!(address(path), None, "{path}");
        let message = refused_for(
            &of(&[vfio("v", path)]),
            ErrorCode::BadHostDevice,
            "pci[0].path",
            Some("v"),
        );
        assert!(message.contains("0000:01:00.0"), "{message}");
    }
}

#[test]
fn a_device_is_passed_through_once() {
    let port = bridge(
        "root-port",
        "rp",
        json!([vfio("b", "/sys/bus/pci/devices/0000:01:00.0")]),
    );
    let message = refused_for(
        &of(&[vfio("a", "01:00.0"), port]),
        ErrorCode::DuplicateHostDevice,
        "pci[1].children[0].path",
        Some("b"),
    );
    assert!(message.contains("`a` and `b`"), "{message}");
    refused_for(
        &of(&[vfio_user("a", "/run//x"), vfio_user("b", "/run/./x")]),
        ErrorCode::DuplicateHostDevice,
        "pci[1].socket",
        Some("b"),
    );
    assert!(read(&of(&[vfio("a", "01:00.0"), vfio("b", "01:00.1")])).is_ok());
}

#[test]
fn values_out_of_range_are_refused() {
    let server = |field, value| of(&[with(vfio_user("u", "/run/u"), field, value)]);
    for ms in [0, 60_001] {
        refused_for(
            &server("request_timeout_ms", json!(ms)),
            ErrorCode::OutOfRange,
            "pci[0].request_timeout_ms",
            Some("u"),
        );
    }
    refused_for(
        &server("expected_reset_ms", json!(3_600_001)),
        ErrorCode::OutOfRange,
        "pci[0].expected_reset_ms",
        Some("u"),
    );
    refused_for(
        &of(&[vfio_user("u", "")]),
        ErrorCode::MissingField,
        "pci[0].socket",
        Some("u"),
    );
}

#[test]
fn a_field_of_another_type_is_refused_by_name() {
    let told = |device: Value| refused(&of(&[device])).message;
    for (device, field, kind) in [
        (vfio("d", "01:00.0"), "teardown", "vfio"),
        (vfio("d", "01:00.0"), "seed", "vfio"),
        (vfio("d", "01:00.0"), "fence", "vfio"),
        (vfio_user("d", "/x"), "path", "vfio-user"),
        (vfio_user("d", "/x"), "children", "vfio-user"),
        (drive("d"), "expected_reset_ms", "nvme"),
        (bridge("root-port", "d", json!([])), "socket", "bridge"),
    ] {
        let value = match field {
            "seed" | "expected_reset_ms" => json!(1),
            "fence" => json!(true),
            "teardown" => json!({}),
            "children" => json!([]),
            _ => json!("x"),
        };
        let message = told(with(device, field, value));
        let expected = format!("unknown field `{field}` for `d`: a {kind} has none");
        assert!(message.contains(&expected), "{message}");
    }
    assert!(told(json!({ "type": "vfio", "id": "d" })).contains("missing field `path` for `d`"));
    assert!(told(json!({ "type": "vfio-user", "id": "d" })).contains("missing field `socket`"));
}

#[test]
fn no_endpoint_stands_behind_an_upstream_port() {
    for device in [vfio("d", "01:00.0"), vfio_user("d", "/x")] {
        let upstream = bridge("upstream-port", "up", json!([device]));
        refused_for(
            &of(&[bridge("root-port", "rp", json!([upstream]))]),
            ErrorCode::BadPlacement,
            "pci[0].children[0].children[0].type",
            Some("d"),
        );
    }
}

#[test]
fn every_device_that_is_passed_through_has_a_worker_of_its_own() {
    let many = |count: usize| {
        let devices: Vec<_> = (0..count)
            .map(|n| {
                let device = vfio_user(&format!("d{n}"), &format!("/run/{n}"));
                bridge("root-port", &format!("p{n}"), json!([device]))
            })
            .map(|port| with(port, "function", json!(0)))
            .collect();
        // A bus has 31 device numbers, each with eight functions.
        let placed = devices.into_iter().enumerate().map(|(n, port)| {
            let port = with(port, "device", json!(1 + n / 8));
            with(port, "function", json!(n % 8))
        });
        machine(placed.collect(), json!([]))
    };
    assert_eq!(read(&many(1)).unwrap().workers(), 64);
    assert_eq!(read(&many(70)).unwrap().workers(), 70);
    let mut few = many(70);
    few["teardown"] = json!({ "workers": 4 });
    assert_eq!(read(&few).unwrap().workers(), 4);
}

#[test]
fn what_a_device_takes_is_no_behaviour_of_it_to_change() {
    let config = read(&of(&[vfio("v", "01:00.0")])).unwrap();
    let mut device = config.pci[0].clone();
    assert_eq!(device.behaviour(7).teardown, None);
    let update = BehaviourUpdate {
        teardown: Some(TeardownModel::default()),
        ..BehaviourUpdate::default()
    };
    let error = update.apply(&mut device).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnexpectedField);
    assert_eq!(error.field.as_deref(), Some("teardown"));
}
