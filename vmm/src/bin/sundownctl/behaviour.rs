//! `sundownctl behaviour`: how a device behaves, shown and changed.

use anyhow::Context;
use api::config::{BehaviourUpdate, FaultsConfig, ShutdownModel, TeardownModel};
use api::json;
use clap::Args;
use serde::de::DeserializeOwned;

use crate::command::Call;

/// Which device, and what is changed.
#[derive(Debug, Args)]
pub struct BehaviourArguments {
    /// The device's name
    device: String,
    /// The guest-visible shutdown from now on, as in a configuration: '{"latency": {"kind": "fixed", "ms": 500}}'
    #[arg(long, value_name = "JSON", value_parser = parse::<ShutdownModel>)]
    shutdown: Option<ShutdownModel>,
    /// The host side of its teardowns from now on, as in a configuration
    #[arg(long, value_name = "JSON", value_parser = parse::<TeardownModel>)]
    teardown: Option<TeardownModel>,
    /// What is wrong with it from now on, in place of all before, as in a configuration: '{"flush": "stuck"}'
    #[arg(long, value_name = "JSON", value_parser = parse::<FaultsConfig>)]
    faults: Option<FaultsConfig>,
    /// Nothing is wrong with it from now on
    #[arg(long, conflicts_with = "faults")]
    clear_faults: bool,
}

impl BehaviourArguments {
    /// The call that shows or changes it.
    pub fn into_call(self) -> anyhow::Result<Call> {
        let path = format!("/vm.devices/{}/behaviour", self.device);
        let cleared = self.clear_faults.then(FaultsConfig::default);
        let update = BehaviourUpdate {
            teardown: self.teardown,
            shutdown: self.shutdown,
            faults: self.faults.or(cleared),
        };
        if update == BehaviourUpdate::default() {
            return Ok(Call::get(path));
        }
        let body = serde_json::to_vec(&update).context("writing the change")?;
        Ok(Call::put(&path, body))
    }
}

fn parse<T: DeserializeOwned + Send>(text: &str) -> Result<T, json::JsonError> {
    json::from_slice(text.as_bytes())
}
