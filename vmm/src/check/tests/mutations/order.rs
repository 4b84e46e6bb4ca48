//! Devices in an order that their policy does not allow.

use super::*;

#[test]
fn order_under_serial() {
    // The list from its tail: camera, stick, hub, c and d moved behind by their links, …
    let list = good(Serial);
    let mut list: Vec<_> = list
        .devices
        .iter()
        .map(|device| (device.position, &device.id))
        .collect();
    list.sort_unstable();
    for pair in list.windows(2) {
        let (then, first) = (pair[0].1, pair[1].1);
        broken(
            Serial,
            too_soon(then, first),
            Rule::OneByOne,
            &[first, then],
        );
    }
}

#[test]
fn order_under_completion() {
    use Rule::{ChildrenFirst, ConsumersFirst, OneByOne};
    broken(
        Completion,
        too_soon("switch", "a"),
        ChildrenFirst,
        &["a", "switch"],
    );
    broken(
        Completion,
        too_soon("switch", "slow"),
        ChildrenFirst,
        &["slow", "switch"],
    );
    broken(
        Completion,
        too_soon("bridge", "c"),
        ChildrenFirst,
        &["c", "bridge"],
    );
    broken(Completion, too_soon("a", "d"), ConsumersFirst, &["d", "a"]);
    broken(
        Completion,
        too_soon("serial", "c"),
        ConsumersFirst,
        &["c", "serial"],
    );
    broken(
        Completion,
        too_soon("bridge", "slow"),
        OneByOne,
        &["slow", "bridge"],
    );
}

#[test]
fn order_under_cookie() {
    broken(Cookie, too_soon("a", "d"), Rule::Barrier, &["a", "d"]);
    broken(
        Cookie,
        too_soon("hub", "stick"),
        Rule::Barrier,
        &["stick", "hub"],
    );
    let off = |report: &mut TeardownReport| {
        let a = at(report, "a");
        report.devices[a].cookie = report.devices[a].cookie.map(|cookie| cookie + 1);
    };
    broken(Cookie, off, Rule::Cookie, &["a"]);
    let off = |report: &mut TeardownReport| {
        let a = at(report, "a");
        report.devices[a].waited_for_cookie = None;
    };
    broken(Cookie, off, Rule::Cookie, &["a"]);
}
