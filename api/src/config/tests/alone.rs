//! A drive that is the whole document: for a device process.

use super::*;

fn alone(drive: &Value) -> Result<NvmeConfig, ConfigError> {
    NvmeConfig::from_json(drive.to_string().as_bytes())
}

#[test]
fn a_drive_is_read_as_one_of_a_machine_is() {
    let found = alone(&with(drive("d0"), "serial", json!("S1"))).unwrap();
    assert_eq!(found.options.id, "d0");
    assert_eq!(found.serial.as_deref(), Some("S1"));
    let in_machine = read(&machine(json!([drive("d0")]), json!([]))).unwrap();
    let DeviceConfig::Nvme(expected) = &in_machine.pci[0] else {
        unreachable!("it is a drive");
    };
    assert_eq!(alone(&drive("d0")).unwrap(), *expected);
}

#[test]
fn what_is_wrong_is_named_from_the_top_of_the_document() {
    let error = alone(&with(drive("d0"), "namespaces", json!([{ "path": "" }]))).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("namespaces[0].path"));
    assert!(!error.message.contains("pci"), "{}", error.message);
    let error = alone(&with(drive("d0"), "serial", json!("x".repeat(21)))).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("serial"));
    let error = alone(&with(drive("d0"), "colour", json!("red"))).unwrap_err();
    assert!(
        error.message.contains("unknown field `colour`"),
        "{}",
        error.message
    );
    assert!(alone(&json!([])).is_err());
}

#[test]
fn only_a_drive_can_stand_alone() {
    let error = alone(&bridge("root-port", "rp0", json!([drive("d0")]))).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("type"));
    assert!(error.message.contains("root-port"), "{}", error.message);
}
