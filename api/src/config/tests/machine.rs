//! The ranges of the machine and its drives.

use super::*;

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
fn drives_are_checked() {
    use ErrorCode::*;
    let one =
        |field: &str, value: Value| machine(json!([with(drive("d"), field, value)]), json!([]));
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
