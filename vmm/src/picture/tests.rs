//! Pictures of teardowns run under the virtual clock. With `SUNDOWN_PICTURES` naming a folder they are
//! left there to be looked at.

use api::report::{PhaseReport, TeardownReport};

use super::*;
use api::report::{DeviceReport, GuestReport, Outcome};

const MS: u64 = 1_000_000;

fn device(id: &str, class: &str, parent: Option<&str>, span: (u64, u64)) -> DeviceReport {
    let (start_ns, end_ns) = (span.0, span.1);
    DeviceReport {
        id: id.into(),
        address: None,
        class: class.into(),
        parent: parent.map(str::to_owned),
        suppliers: Vec::new(),
        asynchronous: true,
        position: 0,
        parent_lock: false,
        cookie: None,
        waited_for_cookie: None,
        ready_ns: start_ns,
        start_ns,
        end_ns,
        phases: vec![PhaseReport {
            name: "reset".into(),
            start_ns,
            end_ns,
        }],
        modelled_ns: None,
        waited_on: Vec::new(),
        held_up_by: None,
        critical: false,
        reset_set: None,
        outcome: Outcome::Done,
    }
}

/// Drives of 500 ms behind ports, and the legacy devices, as each policy runs them.
fn teardown(policy: TeardownPolicy, drives: u64) -> TeardownReport {
    let serial = policy == TeardownPolicy::Serial;
    let mut devices = Vec::new();
    let mut now = 3 * MS;
    for number in (0..drives).rev() {
        let port = format!("port{number}");
        let start = if serial {
            now
        } else {
            3 * MS + number * 40_000
        };
        let end = start + 500 * MS;
        let mut drive = device(&format!("drive{number}"), "nvme", Some(&port), (start, end));
        drive.critical = number == drives - 1;
        drive.phases = vec![
            PhaseReport {
                name: "quiesce".into(),
                start_ns: start,
                end_ns: start + 30 * MS,
            },
            PhaseReport {
                name: "flush".into(),
                start_ns: start + 30 * MS,
                end_ns: start + 80 * MS,
            },
            PhaseReport {
                name: "latency".into(),
                start_ns: start + 80 * MS,
                end_ns: end,
            },
        ];
        drive.asynchronous = !serial;
        let mut bridge = device(&port, "root-port", None, (end + 20_000, end + 60_000));
        bridge.critical = drive.critical;
        bridge.asynchronous = !serial;
        now = end + 80_000;
        devices.extend([drive, bridge]);
    }
    for id in ["com1", "rtc", "i8042"] {
        let mut legacy = device(id, "legacy", None, (2 * MS, 2 * MS + 4000));
        legacy.asynchronous = false;
        devices.push(legacy);
    }
    let end = devices.iter().map(|device| device.end_ns).max().unwrap();
    devices.sort_by_key(|device| device.end_ns);
    let teardown_ns = end - 2 * MS;
    TeardownReport {
        number: if serial { 1 } else { 2 },
        boot: 1,
        cause: Cause::I8042,
        policy,
        workers: 64,
        workers_used: 8,
        at_ns: 1,
        vcpu_pause_ns: 2 * MS,
        teardown_ns,
        teardown_start_ns: 2 * MS,
        reset_rest_ns: Some(24 * MS),
        reset_ns: Some(teardown_ns + 26 * MS),
        reset_to_ready_ns: Some(2_000 * MS),
        serial_sum_ns: drives * 500 * MS,
        critical_path_ns: 500 * MS + 40_000,
        efficiency: (500 * MS) as f64 / teardown_ns as f64,
        devices,
        warnings: Vec::new(),
        guest: GuestReport::default(),
    }
}

/// A nested hierarchy where much goes wrong.
fn troubled() -> TeardownReport {
    let mut report = teardown(TeardownPolicy::Completion, 3);
    report.devices.push(device(
        "switch-up",
        "upstream-port",
        Some("port0"),
        (440 * MS, 441 * MS),
    ));
    for number in 0..4 {
        let down = format!("switch-down{number}");
        report.devices.push(device(
            &down,
            "downstream-port",
            Some("switch-up"),
            (430 * MS, 431 * MS),
        ));
        let mut drive = device(
            &format!("deep{number}"),
            "nvme",
            Some(&down),
            (10 * MS, (100 + 100 * number) * MS),
        );
        drive.ready_ns = 3 * MS;
        report.devices.push(drive);
    }
    report.devices[0].outcome = Outcome::TimedOut;
    report.devices[1].outcome = Outcome::Failed {
        error: "reset: Input/output error (os error 5) & <more>".into(),
    };
    report.devices.push(device(
        "<script>\"&'",
        "a&b",
        Some("not there"),
        (5 * MS, 60 * MS),
    ));
    report
        .warnings
        .push("ordering forced to sync: a, b wait for each other in a circle".into());
    report
}

/// Every element closed, nothing unescaped: enough of XML to know that a picture is well-formed.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        assert!(
            !rest[..at].contains('>'),
            "a stray > before {}",
            &rest[at..rest.len().min(at + 40)]
        );
        let end = rest[at..].find('>').unwrap() + at;
        let tag = &rest[at + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap().to_owned());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf\""));
}

fn keep(name: &str, svg: &str) {
    if let Some(folder) = std::env::var_os("SUNDOWN_PICTURES") {
        std::fs::write(std::path::Path::new(&folder).join(name), svg).unwrap();
    }
}

#[test]
fn a_picture_has_a_bar_for_every_device() {
    for drives in [8, 64] {
        let report = teardown(TeardownPolicy::Completion, drives);
        let svg = svg(&report);
        assert_well_formed(&svg);
        for device in &report.devices {
            assert!(
                svg.contains(&format!(">{}</text>", device.id)),
                "{} has no row",
                device.id
            );
        }
        assert!(svg.contains("critical path 500.0 ms"));
        keep(&format!("completion-{drives}.svg"), &svg);
    }
}

#[test]
fn a_comparison_has_one_scale() {
    let reports = [
        teardown(TeardownPolicy::Serial, 8),
        teardown(TeardownPolicy::Completion, 8),
    ];
    let svg = svg_comparison(&reports);
    assert_well_formed(&svg);
    assert!(svg.contains("Teardown 1: serial, by i8042, boot 1"));
    assert!(svg.contains("Teardown 2: completion, by i8042, boot 1"));
    assert!(svg.contains("× as fast as the slowest"));
    assert!(svg.contains(">3 devices on no bus</text>") && !svg.contains(">rtc</text>"));
    keep("comparison.svg", &svg);
}

#[test]
fn whatever_a_report_holds_the_picture_is_well_formed() {
    let report = troubled();
    let picture = svg(&report);
    assert_well_formed(&picture);
    assert!(picture.contains("&lt;script&gt;") && !picture.contains("<script"));
    assert!(picture.contains("timed out") && picture.contains("failed: reset"));
    keep("troubled.svg", &picture);

    let empty = TeardownReport {
        devices: Vec::new(),
        teardown_ns: 0,
        reset_ns: None,
        ..report
    };
    assert_well_formed(&svg(&empty));
    assert_well_formed(&svg_comparison(&[]));
}

#[test]
fn a_circle_of_parents_hangs_nobody() {
    let mut report = teardown(TeardownPolicy::Completion, 1);
    report.devices = vec![
        device("a", "x", Some("b"), (0, MS)),
        device("b", "x", Some("a"), (0, MS)),
    ];
    let picture = svg(&report);
    assert_well_formed(&picture);
    assert!(picture.contains(">a</text>") && picture.contains(">b</text>"));
}

#[test]
fn figures_are_readable() {
    assert_eq!(milliseconds(0), "0.0 µs");
    assert_eq!(milliseconds(999_949), "999.9 µs");
    assert_eq!(milliseconds(4_012_340_000), "4,012.3 ms");
    assert_eq!(milliseconds(1_234_567_850_000), "1,234,567.9 ms");
}
