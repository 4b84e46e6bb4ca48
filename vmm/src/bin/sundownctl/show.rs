//! Answers and events as people read them.

mod behaviour;
mod guest;
pub mod plan;
mod teardown;
mod topology;

use std::fmt::Write;

use anyhow::Context;
use api::config::DeviceAdded;
use api::json;
use api::state::{DmaInfo, TeardownPolicyInfo, VmInfo, VmmPing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer to a reading call.
pub fn answer(path: &str, answer: &[u8]) -> anyhow::Result<String> {
    Ok(match path {
        "/vmm.ping" => ping(&parse(answer)?),
        "/vm.info" => info(&parse(answer)?),
        "/vm.add-device" | "/vm.add-user-device" => added(&parse(answer)?),
        "/vm.topology" => topology::tree(&parse(answer)?),
        "/vm.plan" => plan::plans(&parse(answer)?, plan::Detail::Most),
        "/vm.teardown-policy" => policy(&parse(answer)?),
        "/vm.teardowns" => teardown::list(&parse::<Vec<_>>(answer)?),
        _ if path.starts_with("/vm.teardowns/") => teardown::report(&parse(answer)?),
        _ if path.starts_with("/vm.devices/") => behaviour::behaviour(&parse(answer)?),
        _ => String::from_utf8_lossy(answer).into_owned(),
    })
}

fn parse<T: DeserializeOwned + Send>(answer: &[u8]) -> anyhow::Result<T> {
    json::from_slice(answer)
        .context("reading the answer; is the server of another version? `--json` shows it as it is")
}

fn ping(ping: &VmmPing) -> String {
    let features = if ping.features.is_empty() {
        String::new()
    } else {
        format!(", with {}", ping.features.join(", "))
    };
    format!(
        "sundown {} ({}), process {}{features}\n",
        ping.version, ping.build_version, ping.pid
    )
}

fn added(added: &DeviceAdded) -> String {
    format!("{} is added\n", added.id)
}

fn policy(policy: &TeardownPolicyInfo) -> String {
    format!("{}, {} workers at most\n", policy.policy, policy.workers)
}

fn info(info: &VmInfo) -> String {
    let config = &info.config;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("state", format!("{:?}", info.state));
    line("boot", info.boot.to_string());
    line("vCPUs", config.cpus.boot_vcpus.to_string());
    line("memory", format!("{} MiB", info.memory_actual_size >> 20));
    line("kernel", config.payload.kernel.display().to_string());
    if let Some(initramfs) = &config.payload.initramfs {
        line("initramfs", initramfs.display().to_string());
    }
    if let Some(cmdline) = &config.payload.cmdline {
        line("command line", cmdline.clone());
    }
    line("PCI devices", config.devices().count().to_string());
    if let Some(dma) = &info.dma {
        let DmaInfo {
            bytes,
            ranges,
            took_ns,
            maps,
        } = *dma;
        let (mib, took) = (bytes >> 20, ms(took_ns));
        let mapped = format!("{mib} MiB in {ranges} ranges, mapped in {took} ms by {maps} calls");
        line("DMA", mapped);
    }
    line("links", config.links.len().to_string());
    line(
        "teardown",
        format!(
            "{}, {} workers at most",
            config.teardown.policy,
            config.workers()
        ),
    );
    line("on reset", name(config.on_reset));
    line("on power-off", name(config.on_poweroff));
    for marker in &info.boot_markers {
        let since = marker
            .since_reset_ns
            .map(|ns| format!(", {} ms after the reset request", ms(ns)));
        line(
            "boot marker",
            format!(
                "{:#04x} in boot {}{}",
                marker.value,
                marker.boot,
                since.unwrap_or_default()
            ),
        );
    }
    text
}

/// A line of the event stream.
pub fn event(line: &str) -> anyhow::Result<String> {
    let event: Value = json::from_slice(line.as_bytes()).context("reading an event")?;
    let at = event["at_ns"].as_u64().unwrap_or(0);
    let mut text = format!(
        "{:>6}  {:>8}.{:06}  {:<24}",
        event["seq"].as_u64().unwrap_or(0),
        at / 1_000_000_000,
        at % 1_000_000_000 / 1000,
        plain(&event["event"])
    );
    for (name, value) in event.as_object().into_iter().flatten() {
        if !["seq", "at_ns", "event"].contains(&name.as_str()) && !value.is_null() {
            match (name.strip_suffix("_ns"), value.as_u64()) {
                (Some(name), Some(ns)) => text += &format!(" {name}={} ms", ms(ns)),
                _ => text += &format!(" {name}={}", plain(value)),
            }
        }
    }
    Ok(text.trim_end().to_owned())
}

/// A value without the marks that JSON needs.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => fields.values().map(plain).collect::<Vec<_>>().join(": "),
        other => other.to_string(),
    }
}

/// The name that JSON has for a value of an enum.
pub(crate) fn name(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .map(|value| plain(&value))
        .unwrap_or_default()
}

/// Nanoseconds as milliseconds, to the microsecond.
pub(crate) fn ms(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns % 1_000_000 / 1000)
}

#[cfg(test)]
pub(crate) mod tests;
