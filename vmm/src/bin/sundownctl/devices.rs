//! `sundownctl add-device`, `add-user-device`, `remove-device`: devices of a machine that does not run.

use std::path::PathBuf;

use anyhow::{Context, bail};
use api::config::{AddDevice, AddUserDevice, RemoveDevice};
use clap::Args;
use serde::Serialize;

use crate::command::{Call, read};

/// A device as it stands in a configuration.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// The device as JSON, as it stands in a configuration; `-` reads standard input
    #[arg(value_name = "FILE")]
    device: PathBuf,
    /// The bridge that it is put behind; unless given, it comes to the root bus
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
}

impl AddArguments {
    /// The call that adds it.
    pub fn into_call(self) -> anyhow::Result<Call> {
        let mut added = AddDevice::from_json(&read(&self.device)?)?;
        if added.parent.is_some() && self.parent.is_some() {
            bail!("the parent is given twice: in the file and by --parent");
        }
        added.parent = added.parent.or(self.parent);
        put("/vm.add-device", &added)
    }
}

/// A device of a vfio-user server.
#[derive(Debug, Args)]
pub struct AddUserArguments {
    /// The Unix socket that the server listens on
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The device's name; unless given, the first of user0, user1, … that is free
    #[arg(long)]
    id: Option<String>,
    /// The bridge that it is put behind; unless given, it comes to the root bus
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// How long the server may take to answer a request
    #[arg(long, value_name = "MS")]
    request_timeout: Option<u64>,
    /// Kill a server that has not answered in time, so that the machine can boot again
    #[arg(long)]
    fence: bool,
    /// How long its teardown may take
    #[arg(long, value_name = "MS")]
    deadline: Option<u64>,
}

impl AddUserArguments {
    /// The call that adds it.
    pub fn into_call(self) -> anyhow::Result<Call> {
        let added = AddUserDevice {
            id: self.id,
            socket: self.socket,
            parent: self.parent,
            request_timeout_ms: self.request_timeout,
            fence: self.fence,
            deadline_ms: self.deadline,
            ..AddUserDevice::default()
        };
        put("/vm.add-user-device", &added)
    }
}

/// The call that removes a device.
pub fn remove(id: String) -> anyhow::Result<Call> {
    put("/vm.remove-device", &RemoveDevice { id })
}

fn put(path: &str, body: &impl Serialize) -> anyhow::Result<Call> {
    let body = serde_json::to_vec(body).context("writing the change")?;
    Ok(Call::put(path, body))
}
