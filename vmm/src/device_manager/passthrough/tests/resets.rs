//! How devices are reset, and what becomes of those that were not.

use api::report::DeviceReport;
use passthrough::vfio::UnfinishedReset;

use super::*;

#[test]
#[ignore = "needs KVM"]
fn those_of_a_set_that_was_not_reset_fail() {
    let built = built(3, "quarantine");
    let report = |id: &str, outcome: Outcome| -> DeviceReport {
        let mut device = json!({
            "id": id, "class": "vfio", "suppliers": [], "async": true, "position": 0, "ready_ns": 0, "start_ns": 0,
            "end_ns": 0, "phases": [], "waited_on": [], "critical": false,
        });
        device["outcome"] = json!(outcome);
        serde_json::from_value(device).unwrap()
    };
    let mut devices = [
        report("d0", Outcome::Done),
        report("d1", Outcome::TimedOut),
        report("d2", Outcome::Done),
    ];
    let set = UnfinishedReset {
        name: "slot 0000:03:00".to_owned(),
        members: vec!["/0".to_owned(), "/1".to_owned()],
        reason: "slot 0000:03:00 was not reset: /1 did not get to its reset".to_owned(),
    };
    let unfinished = [set];
    let passthrough = &built.manager.passthrough;
    passthrough.fail_members(&unfinished, &mut devices);
    let Outcome::Failed { error } = &devices[0].outcome else {
        panic!("{:?}", devices[0]);
    };
    assert_eq!(*error, unfinished[0].reason);
    assert_eq!(devices[1].outcome, Outcome::TimedOut);
    assert_eq!(devices[2].outcome, Outcome::Done, "it is of no set");
}

#[test]
#[ignore = "needs KVM"]
fn how_devices_are_reset_is_known_of_all() {
    let built = built(3, "quarantine");
    *built.played[2].has_reset.lock().unwrap() = false;
    let resets = built.manager.resets(&built.config);
    let [set] = &resets.sets[..] else {
        panic!("{resets:?}");
    };
    assert_eq!(set.name, "slot 0000:03:00");
    assert_eq!(set.ids, ["d0", "d1"]);
    assert_eq!(resets.none, ["d2"]);
}

#[test]
#[ignore = "needs KVM"]
fn those_that_are_reset_together_are_named_once() {
    let built = built(3, "quarantine");
    let set = "slot 0000:03:00";
    assert_eq!(built.manager.reset_set("d1").as_deref(), Some(set));
    assert_eq!(built.manager.reset_set("d2"), None);
    let node = built.node(0).passthrough.unwrap();
    assert_eq!(node.reset_set.as_deref(), Some(set));
}
