//! What a machine knows of its devices' resets, for plans and reports. Pure.

use std::fmt;

use api::report::{DeviceReport, Outcome};

/// Devices of a machine that can only be reset together. Whichever comes last in a teardown resets them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedReset {
    /// What they share: `slot 0000:03:00`.
    pub name: String,
    /// The devices, in the order of the configuration; at least two.
    pub ids: Vec<String>,
}

impl fmt::Display for SharedReset {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ids } = self;
        let ids = ids.join(", ");
        write!(
            to,
            "{ids} share {name}: they are reset together, by whichever comes last"
        )
    }
}

/// What a machine knows of the resets of its devices, and a configuration does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resets {
    /// Those that are reset together.
    pub sets: Vec<SharedReset>,
    /// Those that nobody can reset.
    pub none: Vec<String>,
}

impl Resets {
    /// A line for every device that nobody can reset.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.none.iter().map(|id| {
            format!(
                "{id} has no reset: a reboot turns its bus mastering and interrupts off, and leaves the rest as the \
                 last driver left it; have its server offer one (DEVICE_RESET)"
            )
        })
    }

    /// A line for every set whose members went one after the other in a teardown of these `devices`: the reset of the
    /// first waited for the last to come.
    pub fn one_after_the_other(&self, devices: &[DeviceReport]) -> Vec<String> {
        let line = |set: &SharedReset| {
            let members = devices.iter().filter(|device| {
                matches!(device.outcome, Outcome::Done) && set.ids.contains(&device.id)
            });
            let first = members.clone().min_by_key(|device| device.end_ns)?;
            let last = members.max_by_key(|device| device.start_ns)?;
            let waited = last.start_ns.checked_sub(first.end_ns)?;
            Some(format!(
                "{} share {}, and went one after the other: {} was not reset before {} came, {} ms after it had ended",
                set.ids.join(", "),
                set.name,
                first.id,
                last.id,
                waited / 1_000_000
            ))
        };
        self.sets.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device(id: &str, start_ns: u64, end_ns: u64, outcome: Outcome) -> DeviceReport {
        let mut device = json!({
            "id": id, "class": "vfio", "suppliers": [], "async": true, "position": 0, "ready_ns": 0,
            "start_ns": start_ns, "end_ns": end_ns, "phases": [], "waited_on": [], "critical": false,
        });
        device["outcome"] = json!(outcome);
        serde_json::from_value(device).unwrap()
    }

    fn resets() -> Resets {
        let set = SharedReset {
            name: "slot 0000:03:00".to_owned(),
            ids: vec!["a".to_owned(), "b".to_owned()],
        };
        Resets {
            sets: vec![set],
            none: vec!["c".to_owned()],
        }
    }

    #[test]
    fn a_set_whose_members_were_shut_down_side_by_side_is_not_warned_of() {
        let devices = [
            device("a", 0, 100, Outcome::Done),
            device("b", 99, 400, Outcome::Done),
            device("c", 500, 600, Outcome::Done),
        ];
        assert_eq!(resets().one_after_the_other(&devices), [""; 0]);
    }

    #[test]
    fn one_whose_members_went_one_after_the_other_is_named_with_the_time_between() {
        let devices = [
            device("b", 0, 1_000_000, Outcome::Done),
            device("a", 13_000_000, 14_000_000, Outcome::Done),
        ];
        assert_eq!(
            resets().one_after_the_other(&devices),
            [
                "a, b share slot 0000:03:00, and went one after the other: b was not reset before a came, 12 ms after it \
              had ended"
            ]
        );
        let mut devices = devices;
        devices[1].outcome = Outcome::TimedOut;
        assert_eq!(resets().one_after_the_other(&devices), [""; 0]);
    }

    #[test]
    fn a_device_without_a_reset_is_warned_of() {
        let warnings: Vec<_> = resets().warnings().collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("c has no reset: "), "{warnings:?}");
        assert!(warnings[0].contains("DEVICE_RESET"), "{warnings:?}");
    }
}
