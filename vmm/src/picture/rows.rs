//! The order of a picture's rows: the tree, each device with what is behind it.

use std::collections::HashMap;

use api::report::{DeviceReport, Outcome, TeardownReport};

use super::Detail;

/// A row.
pub(crate) enum Row<'a> {
    /// A device and how deep in the tree it is.
    Device {
        device: &'a DeviceReport,
        depth: usize,
    },
    /// Devices on no bus that took no time to speak of.
    Rest(Vec<&'a DeviceReport>),
}

impl Row<'_> {
    /// How deep in the tree the row is.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Device { depth, .. } => *depth,
            Self::Rest(_) => 0,
        }
    }
}

/// The rows of all devices of a report: siblings by address, those without one last. A comparison has
/// one row for all devices that nobody looks for.
pub(crate) fn rows(report: &TeardownReport, detail: Detail) -> Vec<Row<'_>> {
    let mut rows = tree(report);
    if detail == Detail::Comparison {
        let mut rest = Vec::new();
        rows.retain(|row| match row {
            Row::Device { device, .. } if is_rest(report, device) => {
                rest.push(*device);
                false
            }
            _ => true,
        });
        if !rest.is_empty() {
            rows.push(Row::Rest(rest));
        }
    }
    rows
}

/// Whether a device is one of those that every machine has, and was shut down at once.
fn is_rest(report: &TeardownReport, device: &DeviceReport) -> bool {
    let took = device.end_ns.saturating_sub(device.start_ns);
    let alone = device.address.is_none() && device.parent.is_none();
    let childless = || {
        !report
            .devices
            .iter()
            .any(|other| other.parent.as_deref() == Some(&device.id))
    };
    alone
        && !device.critical
        && device.outcome == Outcome::Done
        && took < report.teardown_ns / 100
        && childless()
}

/// The tree, each device with what is behind it.
fn tree(report: &TeardownReport) -> Vec<Row<'_>> {
    let known: HashMap<&str, &DeviceReport> = report
        .devices
        .iter()
        .map(|device| (device.id.as_str(), device))
        .collect();
    let mut children: HashMap<Option<&str>, Vec<&DeviceReport>> = HashMap::new();
    for device in &report.devices {
        // A parent that is not in the report is as good as none.
        let parent = device
            .parent
            .as_deref()
            .filter(|parent| known.contains_key(parent));
        children.entry(parent).or_default().push(device);
    }
    for siblings in children.values_mut() {
        siblings.sort_by(|a, b| {
            let key = |device: &DeviceReport| (device.address.is_none(), device.address.clone());
            key(a)
                .cmp(&key(b))
                .then_with(|| natural(&a.id).cmp(&natural(&b.id)))
        });
    }
    let mut rows = Vec::with_capacity(report.devices.len());
    let mut stack: Vec<(&DeviceReport, usize)> = Vec::new();
    stack.extend(
        children
            .remove(&None)
            .unwrap_or_default()
            .into_iter()
            .rev()
            .map(|device| (device, 0)),
    );
    while let Some((device, depth)) = stack.pop() {
        rows.push(Row::Device { device, depth });
        let behind = children
            .remove(&Some(device.id.as_str()))
            .unwrap_or_default();
        stack.extend(behind.into_iter().rev().map(|child| (child, depth + 1)));
    }
    // What is left are circles of parents, which have no top: they stand at the end, side by side.
    if rows.len() < report.devices.len() {
        let mut left: Vec<_> = children.into_values().flatten().collect();
        left.sort_by_key(|device| natural(&device.id));
        rows.extend(
            left.into_iter()
                .map(|device| Row::Device { device, depth: 0 }),
        );
    }
    rows
}

/// A key by which drive9 comes before drive10.
fn natural(id: &str) -> Vec<(bool, u64, String)> {
    let mut parts = Vec::new();
    let mut rest = id;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|character: char| character.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push((!digits, part.parse().unwrap_or(0), part.to_owned()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut ids = ["drive10", "drive9", "port", "drive9a", "drive"];
        ids.sort_by_key(|id| natural(id));
        assert_eq!(ids, ["drive", "drive9", "drive9a", "drive10", "port"]);
    }
}
