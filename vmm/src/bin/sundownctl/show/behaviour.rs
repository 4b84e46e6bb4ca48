//! How a device behaves.

use std::fmt::Write;

use api::config::{CommandFault, DeviceBehaviour, Effect, FaultsConfig, Latency, QueueKind};

use super::name;

/// A line for each thing that is modelled, and one for each fault.
pub fn behaviour(behaviour: &DeviceBehaviour) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<16} {value}");
    };
    line("device", behaviour.id.clone());
    line("seed", behaviour.seed.to_string());
    match &behaviour.teardown {
        Some(teardown) => line("teardown", latency(&teardown.latency)),
        None => line("teardown", "what the device takes".to_owned()),
    }
    if let Some(shutdown) = &behaviour.shutdown {
        line("shutdown", latency(&shutdown.latency));
        if let Some(abrupt) = &shutdown.abrupt_latency {
            line("abrupt shutdown", latency(abrupt));
        }
        if let Some(ms) = shutdown.rtd3e_ms {
            line("RTD3E", format!("{ms} ms"));
        }
    }
    if let Some(faults) = &behaviour.faults {
        let told = told(faults);
        if told.is_empty() {
            line("faults", "none".to_owned());
        }
        told.into_iter().for_each(|fault| line("fault", fault));
    }
    text
}

/// A latency in words.
pub fn latency(latency: &Latency) -> String {
    match latency {
        Latency::Fixed { ms } => format!("{ms} ms"),
        Latency::Uniform { min_ms, max_ms } => format!("uniform, {min_ms} to {max_ms} ms"),
        Latency::LogNormal { median_ms, sigma } => {
            format!("log-normal, median {median_ms} ms, σ {sigma}")
        }
        Latency::Written {
            base_ms,
            ms_per_mib,
            cap_ms,
        } => format!("{base_ms} ms and {ms_per_mib} ms for each MiB written, at most {cap_ms} ms"),
    }
}

fn told(faults: &FaultsConfig) -> Vec<String> {
    let mut told = Vec::new();
    if faults.removed {
        told.push("removed: reads as ones".to_owned());
    }
    if let Some(fault) = faults.shutdown {
        told.push(format!("shutdown: {}", name(fault)));
    }
    if let Some(fault) = faults.flush {
        told.push(format!("flush: {}", name(fault)));
    }
    for media in &faults.media {
        let last = media
            .first_block
            .saturating_add(media.blocks)
            .saturating_sub(1);
        told.push(format!(
            "namespace {}: blocks {} to {last} cannot be read",
            media.namespace, media.first_block
        ));
    }
    told.extend(faults.commands.iter().map(command));
    told
}

fn command(fault: &CommandFault) -> String {
    let queue = match fault.queue {
        Some(QueueKind::Admin) => "admin ",
        Some(QueueKind::Io) => "I/O ",
        None => "",
    };
    let opcode = match fault.opcode {
        Some(opcode) => format!(" {opcode:02x}h"),
        None => String::new(),
    };
    let which = match (fault.nth, fault.repeat) {
        (1, true) => format!("every {queue}command{opcode}"),
        (nth, true) => format!("every {nth}th {queue}command{opcode}"),
        (nth, false) => format!("the {queue}command{opcode} of number {nth}"),
    };
    let effect = match &fault.effect {
        Effect::Status {
            status_type,
            code,
            do_not_retry,
        } => {
            let retry = if *do_not_retry { ", do not retry" } else { "" };
            format!("ends with status type {status_type}, code {code:02x}h{retry}")
        }
        Effect::Slow { latency: slow } => format!("is slow: {}", latency(slow)),
        Effect::Stuck {} => "is stuck".to_owned(),
    };
    format!("{which} {effect}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_modelled_has_a_line() {
        let shown: DeviceBehaviour = serde_json::from_value(serde_json::json!({
            "id": "drive0",
            "seed": 7,
            "teardown": { "latency": { "kind": "uniform", "min_ms": 5, "max_ms": 9 } },
            "shutdown": { "latency": { "kind": "log-normal", "median_ms": 500, "sigma": 0.4 }, "rtd3e_ms": 900 },
            "faults": {
                "flush": "stuck",
                "media": [{ "first_block": 8, "blocks": 8 }],
                "commands": [
                    { "queue": "io", "opcode": 2, "nth": 100, "effect": { "kind": "stuck" } },
                    { "nth": 3, "repeat": false, "effect": { "kind": "status", "type": 2, "code": 129 } },
                    { "queue": "admin", "effect": { "kind": "slow", "latency": { "kind": "fixed", "ms": 5 } } },
                ],
            },
        }))
        .unwrap();
        let expected = "\
device           drive0
seed             7
teardown         uniform, 5 to 9 ms
shutdown         log-normal, median 500 ms, σ 0.4
RTD3E            900 ms
fault            flush: stuck
fault            namespace 1: blocks 8 to 15 cannot be read
fault            every 100th I/O command 02h is stuck
fault            the command of number 3 ends with status type 2, code 81h
fault            every admin command is slow: 5 ms
";
        assert_eq!(behaviour(&shown), expected);
        let healthy = DeviceBehaviour {
            faults: Some(FaultsConfig::default()),
            ..shown
        };
        assert!(behaviour(&healthy).ends_with("faults           none\n"));
    }
}
