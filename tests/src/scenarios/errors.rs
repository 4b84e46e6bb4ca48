//! What a real process refuses, and how: the status, the code, the field or device that is named.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::client::{ClientError, Method};
use api::config::VmConfig;
use api::error::ErrorCode;
use serde_json::{Value, json};

use super::design::{self, Design, root_port};
use super::process::Sundown;
use super::tiny::READY;
use super::{Scenario, Stage};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("configurations_are_refused_by_name", 60, configurations),
    Scenario::new("a_drive_belongs_to_one_process", 60, locked),
    Scenario::new("calls_in_the_wrong_state_are_refused", 60, wrong_state),
    Scenario::new("a_wrong_command_line_ends_with_a_reason", 60, command_line),
];

/// How a call must be refused.
struct Refusal<'a> {
    status: u16,
    code: ErrorCode,
    field: Option<&'a str>,
    device: Option<&'a str>,
}

impl Refusal<'_> {
    fn check<T>(&self, call: &str, answer: Result<T, ClientError>) -> Result<()> {
        let error = match answer {
            Ok(_) => bail!("{call} was not refused"),
            Err(error) => error,
        };
        let api = error
            .api()
            .with_context(|| format!("{call}: no error of the API but {error}"))?;
        let found = (
            error.status(),
            api.code,
            api.field.as_deref(),
            api.device.as_deref(),
        );
        let wanted = (Some(self.status), self.code, self.field, self.device);
        ensure!(
            found == wanted,
            "{call}: refused with {found:?}, not {wanted:?}: {}",
            api.message
        );
        ensure!(!api.message.is_empty(), "{call}: refused without a reason");
        Ok(())
    }
}

fn bad<'a>(code: ErrorCode, field: &'a str, device: Option<&'a str>) -> Refusal<'a> {
    Refusal {
        status: 400,
        code,
        field: Some(field),
        device,
    }
}

fn conflict(code: ErrorCode) -> Refusal<'static> {
    Refusal {
        status: 409,
        code,
        field: None,
        device: None,
    }
}

fn create(process: &Sundown, config: &Value) -> Result<(), ClientError> {
    process
        .client
        .call(Method::PUT, "/vm.create", config.to_string())
        .map(drop)
}

fn configurations(stage: &mut Stage) -> Result<()> {
    let disk = stage.raw_file("disk", 4)?;
    let other = stage.raw_file("other", 4)?;
    let odd = stage.raw_file("odd", 0)?;
    fs::write(&odd, b"not whole sectors").context("could not write a file")?;
    let text = stage.folder().join("text");
    fs::write(&text, "no kernel").context("could not write a file")?;
    let good: VmConfig = stage.tiny(&[READY])?;
    let process = stage.process()?;

    let with_drive = |file: &Path| {
        let drive = design::drive("d0", file);
        serde_json::to_value(good.clone().with([root_port("rp0", [drive])]))
    };
    let changed = |pointer: &str, value: Value| -> Result<Value> {
        let mut config = with_drive(&disk)?;
        let (parent, name) = pointer.rsplit_once('/').context("no pointer")?;
        let parent = config.pointer_mut(parent).context("no such place")?;
        parent[name] = value;
        Ok(config)
    };
    let refuse = |what: &str, config: Value, refusal: Refusal| {
        refusal.check(&format!("vm.create with {what}"), create(&process, &config))
    };
    use ErrorCode::{
        BadFile, Cycle, DuplicateId, DuplicatePath, FileMissing, Malformed, OutOfRange, UnknownId,
    };
    const NAMESPACE: &str = "pci[0].children[0].namespaces[0].path";

    refuse(
        "a field that is none",
        changed("/memroy", json!(1))?,
        bad(Malformed, "memroy", None),
    )?;
    refuse(
        "a device's field that is none",
        changed("/pci/0/children/0/sreial", json!("x"))?,
        bad(Malformed, "pci[0].children[0].sreial", Some("d0")),
    )?;
    refuse(
        "too little memory",
        changed("/memory/size", json!(32 << 20))?,
        bad(OutOfRange, "memory.size", None),
    )?;
    refuse(
        "no such kernel",
        changed("/payload/kernel", json!("/nowhere/vmlinuz"))?,
        bad(FileMissing, "payload.kernel", None),
    )?;
    refuse(
        "a kernel that is none",
        changed("/payload/kernel", json!(text))?,
        bad(BadFile, "payload.kernel", None),
    )?;
    refuse(
        "no such drive",
        with_drive(Path::new("/nowhere/disk.raw"))?,
        bad(FileMissing, NAMESPACE, Some("d0")),
    )?;
    refuse(
        "a drive of half a sector",
        with_drive(&odd)?,
        bad(BadFile, NAMESPACE, Some("d0")),
    )?;
    let twice = good.clone().with([
        root_port("rp0", [design::drive("d0", &disk)]),
        root_port("rp1", [design::drive("d1", &disk)]),
    ]);
    refuse(
        "one file twice",
        serde_json::to_value(&twice)?,
        bad(
            DuplicatePath,
            "pci[1].children[0].namespaces[0].path",
            Some("d1"),
        ),
    )?;
    let named_twice = good.clone().with([
        root_port("rp0", [design::drive("d0", &disk)]),
        root_port("rp1", [design::drive("d0", &other)]),
    ]);
    refuse(
        "one name twice",
        serde_json::to_value(&named_twice)?,
        bad(DuplicateId, "pci[1].children[0].id", Some("d0")),
    )?;
    let linked = |links: Value| changed("/links", links);
    refuse(
        "a link to nobody",
        linked(json!([{ "consumer": "d0", "supplier": "nobody" }]))?,
        bad(UnknownId, "links[0].supplier", Some("nobody")),
    )?;
    let answer = create(
        &process,
        &linked(json!([{ "consumer": "rp0", "supplier": "d0" }]))?,
    );
    let code = answer.as_ref().err().and_then(ClientError::code);
    ensure!(
        code == Some(Cycle),
        "a port that needs its own drive: {answer:?}"
    );

    let long = vec![b' '; 3 << 20];
    let answer = process.client.call(Method::PUT, "/vm.create", long);
    let status = answer.as_ref().err().and_then(ClientError::status);
    ensure!(status == Some(413), "a body of 3 MiB: {answer:?}");
    let answer = process.client.call(Method::PUT, "/vm.nonsense", "");
    let status = answer.as_ref().err().and_then(ClientError::status);
    ensure!(status == Some(404), "a route that is none: {answer:?}");

    // None of it has left anything behind.
    create(&process, &with_drive(&disk)?).context("a good configuration was refused")?;
    Ok(())
}

fn locked(stage: &mut Stage) -> Result<()> {
    let disk = stage.raw_file("disk", 4)?;
    let config = stage
        .tiny(&[READY])?
        .with([root_port("rp0", [design::drive("d0", &disk)])]);
    let first = stage.create(config.clone())?;
    let second = stage.process()?;
    let refusal = Refusal {
        status: 409,
        code: ErrorCode::FileLocked,
        field: Some("pci[0].children[0].namespaces[0].path"),
        device: Some("d0"),
    };
    refusal.check(
        "vm.create with another's drive",
        second.client.create(&config),
    )?;
    first.client().delete().context("vm.delete failed")?;
    second
        .client
        .create(&config)
        .context("the drive is free again, but was refused")?;
    refusal.check(
        "vm.create with another's drive",
        first.client().create(&config),
    )
}

fn wrong_state(stage: &mut Stage) -> Result<()> {
    let config = stage.tiny(&[READY])?;
    let process = stage.process()?;
    let client = &process.client;
    let refused = conflict(ErrorCode::WrongState);
    // No machine yet.
    refused.check("vm.info", client.info())?;
    refused.check("vm.boot", client.boot())?;
    refused.check("vm.pause", client.pause())?;
    refused.check("vm.reboot", client.reboot())?;
    refused.check("vm.shutdown", client.shutdown())?;
    refused.check("vm.delete", client.delete())?;
    refused.check("vm.teardowns", client.teardowns())?;
    // Not booted yet.
    client.create(&config).context("vm.create failed")?;
    refused.check("a second vm.create", client.create(&config))?;
    refused.check("vm.pause", client.pause())?;
    refused.check("vm.resume", client.resume())?;
    refused.check("vm.reboot", client.reboot())?;
    refused.check("vm.shutdown", client.shutdown())?;
    refused.check("vm.power-button", client.power_button())?;
    // Running.
    client.boot().context("vm.boot failed")?;
    refused.check("a second vm.boot", client.boot())?;
    refused.check("vm.resume", client.resume())?;
    let none = client.teardown(1);
    ensure!(
        none.as_ref().err().and_then(ClientError::status) == Some(404),
        "a teardown that was never run: {none:?}"
    );
    // Paused.
    client.pause().context("vm.pause failed")?;
    refused.check("a second vm.pause", client.pause())?;
    refused.check("vm.power-button", client.power_button())?;
    client
        .reboot()
        .context("vm.reboot of a paused machine failed")?;
    Ok(())
}

fn command_line(stage: &mut Stage) -> Result<()> {
    let missing = stage.folder().join("missing.json");
    let wrong = stage.folder().join("wrong.json");
    fs::write(&wrong, r#"{ "payload": { "kernel": "/k" }, "cpsu": 1 }"#)
        .context("could not write a file")?;
    let nowhere = Path::new("/nowhere/api.sock");
    let config = OsStr::new("--config");
    let socket = OsStr::new("--api-socket");
    let cases: [(&[&OsStr], i32, &str); 4] = [
        (&[], 2, "--api-socket"),
        (&[config, missing.as_os_str()], 1, "missing.json"),
        (&[config, wrong.as_os_str()], 1, "cpsu"),
        (&[socket, nowhere.as_os_str()], 1, "/nowhere"),
    ];
    for (arguments, wanted, named) in cases {
        let folder = stage.process_folder();
        let mut process = Sundown::with_arguments(&stage.files.sundown, &folder, arguments)?;
        let code = process.exit_code(Duration::from_secs(20))?;
        let said = process.said();
        ensure!(
            code == wanted && said.contains(named),
            "sundown {arguments:?} ended with {code}, not {wanted}, and said: {said}"
        );
    }
    // A client that says nothing does not keep others out.
    let process = stage.process()?;
    let _silent = UnixStream::connect(process.client.socket()).context("could not connect")?;
    process.client.ping().context("vmm.ping failed")?;
    Ok(())
}
