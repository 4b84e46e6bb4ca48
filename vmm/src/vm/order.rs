//! Warnings of what a policy cannot order, or orders otherwise than the tree and the links ask for, as
//! soon as it is known: at `vm.create` and when the policy is changed.

use api::config::TeardownPolicy;
use api::events::{EventKind, EventLog};

use super::Machine;
use crate::device_manager::teardown::{Graph, Rules};

impl Machine {
    /// Warns of the order that the next teardown would have. A teardown's report has the same warnings.
    pub(crate) fn warn_of_order(&self) {
        let policy = self.config.teardown.policy;
        warn_of_order(self.devices.list(), policy, &self.events);
    }
}

fn warn_of_order(list: &Graph, policy: TeardownPolicy, events: &EventLog) {
    for warning in Rules::new(list, policy).warnings {
        let message = format!("the policy {policy}: {warning}");
        tracing::warn!("{message}");
        events.push(EventKind::Warning { message });
    }
}

#[cfg(test)]
mod tests {
    use api::config::VmConfig;
    use serde_json::json;

    use super::*;
    use crate::device_manager::list::Listing;

    /// The warnings of a machine with a port and an asynchronous drive behind it.
    fn warnings(port_async: bool, order: &[&str], policy: TeardownPolicy) -> Vec<String> {
        let drive =
            json!({ "type": "nvme", "id": "drive", "namespaces": [{ "path": "/disk.raw" }] });
        let config = json!({
            "payload": { "kernel": "/boot/vmlinuz" },
            "pci": [{ "type": "root-port", "id": "port", "async": port_async, "children": [drive] }],
            "teardown": { "order": order },
        });
        let config = VmConfig::from_json(config.to_string().as_bytes()).unwrap();
        let list = Listing::of_config(&config).unwrap().graph().unwrap();
        let events = EventLog::new();
        warn_of_order(&list, policy, &events);
        let kept = events.after(0, usize::MAX);
        let kept = kept.into_iter().map(|event| match event.event {
            EventKind::Warning { message } => message,
            other => panic!("{other:?} is no warning"),
        });
        kept.collect()
    }

    #[test]
    fn a_cut_of_cookie_is_warned_of_by_name() {
        let expected = "the policy cookie: unsafe shutdown ordering, forcing sync order: port does not \
                        wait for drive, which the list has nearer to its head";
        let warnings = warnings(true, &["drive", "port"], TeardownPolicy::Cookie);
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn an_overlap_of_cookie_is_warned_of_by_name() {
        let expected = "the policy cookie: port does not wait for its child drive, which the list has \
                        nearer to its head: they may overlap";
        let warnings = warnings(false, &["drive", "port"], TeardownPolicy::Cookie);
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn an_inversion_is_warned_of_under_the_policies_that_keep_it() {
        let expected = "the policy serial: port goes before its child drive, as the list has them";
        let order = ["drive", "port"];
        assert_eq!(warnings(true, &order, TeardownPolicy::Serial), [expected]);
        assert!(warnings(true, &order, TeardownPolicy::Completion).is_empty());
    }

    #[test]
    fn a_list_that_can_be_kept_is_not_warned_of() {
        for policy in TeardownPolicy::ALL {
            assert!(warnings(true, &["port", "drive"], policy).is_empty());
        }
    }
}
