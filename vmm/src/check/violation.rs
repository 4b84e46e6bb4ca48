//! What can be wrong with a report, and how it is said.

use std::fmt;

use api::report::DeviceReport;
use serde::Serialize;

/// A rule that a report has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Every device is in the report exactly once.
    DeviceOnce,
    /// Parents and suppliers are devices of the report.
    KnownDevice,
    /// The list positions are those of one list: 0 to the number of devices, each once.
    ListPosition,
    /// Under `serial` nothing is asynchronous; task numbers belong to `cookie`.
    Flags,
    /// vCPU pause ≤ ready ≤ start ≤ end, phases within, devices in the order of their ends.
    Stamps,
    /// A removed device is not called.
    Removed,
    /// A child ends before its parent begins, where the policy asks for it.
    ChildrenFirst,
    /// A consumer ends before its supplier begins, where the policy asks for it.
    ConsumersFirst,
    /// Synchronous devices go backwards in the list, one at a time.
    OneByOne,
    /// The task numbers are those that `cookie` gives on its way back through the list.
    Cookie,
    /// A task of `cookie` begins when every older one has ended, up to the one that it waits for.
    Barrier,
    /// Devices that are shut down with the same parent locked do not overlap, nor do they with the parent.
    ParentLock,
    /// A report names the devices that the policy has a device wait for.
    WaitedOn,
    /// The device that held another up is the one that ended last of those it had to wait for.
    HeldUpBy,
    /// Totals are those of the stamps.
    Sum,
    /// The critical path is the longest chain that the policy's rules make.
    CriticalPath,
    /// No more workers than allowed, and none where nothing is asynchronous.
    Workers,
    /// The guest's part agrees with itself.
    Guest,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// A device that a violation is about, with its times in nanoseconds since the reset request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Involved {
    /// Its name.
    pub id: String,
    /// When its teardown began.
    pub start_ns: u64,
    /// When its teardown ended.
    pub end_ns: u64,
}

/// A rule that a report does not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What is wrong.
    pub message: String,
    /// The devices, with their times.
    pub devices: Vec<Involved>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.rule, self.message)?;
        for (number, device) in self.devices.iter().enumerate() {
            let separator = if number == 0 { " (" } else { "; " };
            write!(
                formatter,
                "{separator}{} {} to {} ms",
                device.id,
                ms(device.start_ns),
                ms(device.end_ns)
            )?;
        }
        if !self.devices.is_empty() {
            formatter.write_str(")")?;
        }
        Ok(())
    }
}

/// Nanoseconds as milliseconds, to the nanosecond: that little breaks an order.
pub(super) fn ms(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000, ns % 1_000_000)
}

/// The violations so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) violations: Vec<Violation>,
}

impl Found {
    /// Notes a violation about these devices.
    pub(super) fn push(&mut self, rule: Rule, devices: &[&DeviceReport], message: String) {
        let devices = devices
            .iter()
            .map(|device| Involved {
                id: device.id.clone(),
                start_ns: device.start_ns,
                end_ns: device.end_ns,
            })
            .collect();
        self.violations.push(Violation {
            rule,
            message,
            devices,
        });
    }

    /// Notes a violation unless `holds`.
    pub(super) fn unless(
        &mut self,
        holds: bool,
        rule: Rule,
        devices: &[&DeviceReport],
        message: impl FnOnce() -> String,
    ) {
        if !holds {
            self.push(rule, devices, message());
        }
    }
}
