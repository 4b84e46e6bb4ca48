//! The order of a picture's rows: the tree, each device with what is behind it.

use std::collections::HashMap;

use api::report::{DeviceReport, TeardownReport};

/// A device and how deep in the tree it is.
pub(super) struct Row<'a> {
    pub(super) device: &'a DeviceReport,
    pub(super) depth: usize,
}

/// All devices of a report. Siblings by address, those without one last.
pub(super) fn rows(report: &TeardownReport) -> Vec<Row<'_>> {
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
        rows.push(Row { device, depth });
        let behind = children
            .remove(&Some(device.id.as_str()))
            .unwrap_or_default();
        stack.extend(behind.into_iter().rev().map(|child| (child, depth + 1)));
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
