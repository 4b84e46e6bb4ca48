//! What a plan assumes of latencies that vary, and what it leaves out.

use std::time::Duration;

use api::config::{DeviceConfig, FaultsConfig, Latency};

use crate::device_manager::behaviour;

/// So many devices are named; the rest is counted.
const NAMED: usize = 3;

/// What a device is planned with: its latency, or what to expect of one that varies.
pub(super) fn typical(latency: &Latency) -> Duration {
    behaviour::latency(latency).typical()
}

/// What is assumed of `latencies`, of devices in the order given; those that are alike in one line.
pub(super) fn of_latencies<'a>(
    latencies: impl Iterator<Item = (&'a DeviceConfig, &'a Latency)>,
) -> Vec<String> {
    together(latencies.filter_map(|(device, latency)| Some((device.id(), described(latency)?))))
}

/// What is assumed of devices that are passed through.
pub(super) fn of_resets<'a>(devices: impl Iterator<Item = &'a DeviceConfig>) -> Vec<String> {
    together(devices.filter_map(|device| {
        let expected = device.expected_reset()?;
        let text = format!("passed through; planned with the reset that is expected, {expected:?}");
        Some((device.id(), text))
    }))
}

/// The faults that are not planned for.
pub(super) fn of_faults<'a>(devices: impl Iterator<Item = &'a DeviceConfig>) -> Vec<String> {
    together(devices.filter_map(|device| match device {
        DeviceConfig::Nvme(nvme) => Some((device.id(), left_out(&nvme.faults)?)),
        _ => None,
    }))
}

fn described(latency: &Latency) -> Option<String> {
    match latency {
        Latency::Fixed { .. } => None,
        Latency::Uniform { min_ms, max_ms } => {
            let mean = typical(latency);
            Some(format!(
                "uniform, {min_ms} to {max_ms} ms; planned with the mean, {mean:?}"
            ))
        }
        Latency::LogNormal { median_ms, sigma } => Some(format!(
            "log-normal, median {median_ms} ms, σ {sigma}; planned with the median"
        )),
        Latency::Written {
            base_ms,
            ms_per_mib,
            cap_ms,
        } => Some(format!(
            "{base_ms} ms and {ms_per_mib} ms for each MiB written, at most {cap_ms} ms; planned with nothing written"
        )),
    }
}

fn left_out(faults: &FaultsConfig) -> Option<String> {
    let mut names = Vec::new();
    if faults.shutdown.is_some() {
        names.push("of its shutdown");
    }
    if faults.flush.is_some() {
        names.push("of its flushes");
    }
    if faults.removed {
        names.push("removed");
    }
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("a fault is set ({names}) that is not planned for")
    })
}

/// A line for every text, with the devices that it is about.
fn together<'a>(told: impl Iterator<Item = (&'a str, String)>) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (id, text) in told {
        match lines.iter_mut().find(|(known, _)| *known == text) {
            Some((_, ids)) => ids.push(id),
            None => lines.push((text, vec![id])),
        }
    }
    let lines = lines.into_iter().map(|(text, ids)| {
        let named = ids.iter().take(NAMED).copied().collect::<Vec<_>>();
        let more = match ids.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}: {text}", named.join(", "))
    });
    lines.collect()
}
