//! Configurations as clients write them: what is read, and what is refused by name.

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorCode;

mod alone;
mod behaviour;
mod change;
mod document;
mod hierarchy;
mod machine;
mod order;
mod passthrough;

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
