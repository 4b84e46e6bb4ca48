//! What a report says of the machine: tree, links, list. Names become numbers, places in the report.

use std::collections::HashMap;

use api::config::TeardownPolicy;
use api::report::{DeviceReport, Outcome, TeardownReport};

use super::violation::{Found, Rule};

/// The devices of a report and how they hang together.
pub(super) struct Facts<'a> {
    pub(super) report: &'a TeardownReport,
    pub(super) parents: Vec<Option<usize>>,
    pub(super) children: Vec<Vec<usize>>,
    pub(super) suppliers: Vec<Vec<usize>>,
    pub(super) consumers: Vec<Vec<usize>>,
    /// The list from its tail to its head: the synchronous order.
    pub(super) backwards: Vec<usize>,
    numbers: HashMap<&'a str, usize>,
}

impl<'a> Facts<'a> {
    /// Reads a report; none if its devices make no tree and no list.
    pub(super) fn read(report: &'a TeardownReport, found: &mut Found) -> Option<Self> {
        let before = found.violations.len();
        let devices = &report.devices;
        let mut numbers = HashMap::new();
        for (number, device) in devices.iter().enumerate() {
            let first = numbers.insert(device.id.as_str(), number);
            if let Some(first) = first {
                let both = [&devices[first], device];
                let message = format!("{} was shut down twice", device.id);
                found.push(Rule::DeviceOnce, &both, message);
            }
        }
        let mut facts = Self {
            report,
            parents: vec![None; devices.len()],
            children: vec![Vec::new(); devices.len()],
            suppliers: vec![Vec::new(); devices.len()],
            consumers: vec![Vec::new(); devices.len()],
            backwards: Vec::new(),
            numbers,
        };
        facts.read_edges(found);
        facts.read_list(found);
        (found.violations.len() == before).then_some(facts)
    }

    fn read_edges(&mut self, found: &mut Found) {
        for (number, device) in self.report.devices.iter().enumerate() {
            let mut known = |kind: &str, id: &str| {
                let other = self.find(id).filter(|&other| other != number);
                found.unless(other.is_some(), Rule::KnownDevice, &[device], || {
                    let what = if id == device.id {
                        "itself"
                    } else {
                        "which is not in the report"
                    };
                    format!("{} has the {kind} {id}, {what}", device.id)
                });
                other
            };
            let parent = device.parent.as_deref().and_then(|id| known("parent", id));
            let suppliers = device.suppliers.iter();
            let mut suppliers: Vec<_> = suppliers.filter_map(|id| known("supplier", id)).collect();
            suppliers.sort_unstable();
            suppliers.dedup();
            self.parents[number] = parent;
            if let Some(parent) = parent {
                self.children[parent].push(number);
            }
            for &supplier in &suppliers {
                self.consumers[supplier].push(number);
            }
            self.suppliers[number] = suppliers;
        }
    }

    fn read_list(&mut self, found: &mut Found) {
        let devices = &self.report.devices;
        let mut list: Vec<Option<usize>> = vec![None; devices.len()];
        for (number, device) in devices.iter().enumerate() {
            let place = usize::try_from(device.position).ok();
            let Some(place) = place.and_then(|place| list.get_mut(place)) else {
                let message = format!(
                    "{} is at position {} of a list of {}",
                    device.id,
                    device.position,
                    devices.len()
                );
                found.push(Rule::ListPosition, &[device], message);
                continue;
            };
            if let Some(other) = place.replace(number) {
                let message = format!(
                    "{} and {} are both at position {} of the list",
                    devices[other].id, device.id, device.position
                );
                found.push(Rule::ListPosition, &[&devices[other], device], message);
            }
        }
        self.backwards = list.into_iter().rev().flatten().collect();
    }

    /// The number of the device named `id`.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    /// The device with this number.
    pub(super) fn device(&self, number: usize) -> &'a DeviceReport {
        &self.report.devices[number]
    }

    /// How many devices there are.
    pub(super) fn len(&self) -> usize {
        self.report.devices.len()
    }

    /// Whether the device was shut down asynchronously. Under `serial` none is, whatever is reported.
    pub(super) fn is_async(&self, number: usize) -> bool {
        self.report.policy != TeardownPolicy::Serial && self.device(number).asynchronous
    }

    /// Whether the device was called: not if it had been removed.
    pub(super) fn was_called(&self, number: usize) -> bool {
        self.device(number).outcome != Outcome::Removed
    }

    /// For every parent's lock those that were shut down with it held, the parent itself among them, in
    /// the order of their starts.
    pub(super) fn locks(&self) -> Vec<Vec<usize>> {
        let locks = self.children.iter().enumerate();
        locks
            .map(|(parent, children)| {
                let locking = children.iter().copied();
                let locking = locking.filter(|&child| self.device(child).parent_lock);
                let mut lockers: Vec<_> = locking.collect();
                if !lockers.is_empty() {
                    lockers.push(parent);
                }
                lockers.retain(|&device| self.was_called(device));
                lockers.sort_by_key(|&at| (self.device(at).start_ns, self.device(at).end_ns));
                lockers
            })
            .collect()
    }
}
