//! Traces of made-up reports, read back as JSON and checked as a viewer would have them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;

const MS: u64 = 1_000_000;

/// Number `number` of a machine with two drives behind a port: a and b at once, then the port.
fn report(number: u64, at_ns: u64) -> TeardownReport {
    let device = |id: &str, parent: Option<&str>, from: u64, to: u64| {
        json!({
            "id": id, "class": if parent.is_some() { "nvme" } else { "root-port" }, "parent": parent,
            "address": format!("0000:0{}:00.0", id.len() + usize::from(id == "b")), "suppliers": [], "async": true,
            "position": 0, "ready_ns": from, "start_ns": from, "end_ns": to, "waited_on": [],
            "held_up_by": if parent.is_none() { Some("b") } else { None }, "critical": id != "a",
            "outcome": { "result": "done" },
            "phases": [
                { "name": "quiesce", "start_ns": from, "end_ns": from + 1 },
                { "name": "reset", "start_ns": from + 1, "end_ns": to },
            ],
        })
    };
    let drive = |id: &str, from: i64, to: Option<i64>| {
        let ms = |ms: i64| ms * MS as i64;
        let event = |act: &str, from: i64, to: i64, count: u64| json!({ "act": act, "first_ns": ms(from), "last_ns": ms(to), "count": count });
        json!({
            "id": id, "class": "nvme", "address": null,
            "events": [
                event("enable", -9000, -9000, 1),
                event("delete-submission-queue", from - 20, from - 15, 4),
                event("delete-completion-queue", from - 15, from - 10, 4),
                event("shutdown-normal", from, from, 1),
                event("poll", from, to.unwrap_or(from + 5), 7),
                event("bus-master-off", -1, -1, 1),
            ],
            "handshake": {
                "requested_ns": ms(from), "completed_ns": to.map(ms), "seen_ns": to.map(ms), "polls": 7,
            },
        })
    };
    serde_json::from_value(json!({
        "number": number, "boot": number, "cause": "acpi-reset", "policy": "completion", "workers": 64,
        "workers_used": 2, "at_ns": at_ns, "vcpu_pause_ns": 500_001, "teardown_ns": 12 * MS + 7,
        "teardown_start_ns": 600_003, "reset_rest_ns": 5 * MS, "reset_ns": 18 * MS + 1,
        "reset_to_ready_ns": 900 * MS, "serial_sum_ns": 20 * MS, "critical_path_ns": 12 * MS, "efficiency": 0.99,
        "warnings": [],
        "devices": [
            device("b", Some("port"), 600_003, 11 * MS + 333),
            device("a", Some("port"), 600_005, 8 * MS + 999),
            device("port", None, 11 * MS + 400, 12 * MS + 600_010),
        ],
        "guest": {
            "order": "serial", "handshake_sum_ns": 200 * MS, "span_ns": 210 * MS, "overlap": 0.952,
            "devices": [drive("a", -400, Some(-300)), drive("b", -290, Some(-190))],
        },
    }))
    .unwrap()
}

/// What a viewer reads.
fn events(reports: &[TeardownReport]) -> Vec<Value> {
    let text = serde_json::to_string(&trace(reports)).unwrap();
    let read: Value = serde_json::from_str(&text).unwrap();
    read["traceEvents"].as_array().unwrap().clone()
}

/// Nanoseconds of a field, as a reader has them that cuts off.
fn ns(event: &Value, field: &str) -> u64 {
    (event[field].as_f64().unwrap() * 1000.0) as u64
}

fn of_kind<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["ph"] == kind)
}

type TrackKey = (u64, u64);

fn track(event: &Value) -> TrackKey {
    (
        event["pid"].as_u64().unwrap(),
        event["tid"].as_u64().unwrap(),
    )
}

/// The stretches of every track: begin, end, name.
fn stretches(events: &[Value]) -> BTreeMap<TrackKey, Vec<(u64, u64, String)>> {
    let mut tracks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in of_kind(events, "X") {
        let (from, length) = (ns(event, "ts"), ns(event, "dur"));
        let name = event["name"].as_str().unwrap().to_owned();
        tracks
            .entry(track(event))
            .or_default()
            .push((from, from + length, name));
    }
    tracks
}

/// Stretches of a track lie apart or inside each other, and an outer one comes first.
fn assert_nested(events: &[Value]) {
    for (track, mut stretches) in stretches(events) {
        // Stable: of two that begin together the first drawn stays first.
        stretches.sort_by_key(|(from, ..)| *from);
        let mut open: Vec<(u64, String)> = Vec::new();
        for (from, to, name) in stretches {
            while open.last().is_some_and(|(end, _)| *end <= from) {
                open.pop();
            }
            if let Some((end, outer)) = open.last() {
                assert!(to <= *end, "{name} ends behind {outer} on {track:?}");
            }
            open.push((to, name));
        }
    }
}

/// Every arrow has a begin and an end, each inside a stretch of its track, and leads forward.
fn assert_arrows(events: &[Value]) -> usize {
    let stretches = stretches(events);
    let ends = |kind: &str| -> BTreeMap<u64, (TrackKey, u64)> {
        of_kind(events, kind)
            .map(|event| {
                (
                    event["id"].as_u64().unwrap(),
                    (track(event), ns(event, "ts")),
                )
            })
            .collect()
    };
    let (starts, finishes) = (ends("s"), ends("f"));
    let ids = |ends: &BTreeMap<u64, _>| ends.keys().copied().collect::<BTreeSet<_>>();
    assert_eq!(ids(&starts), ids(&finishes));
    for (id, (_, from)) in &starts {
        assert!(*from <= finishes[id].1, "arrow {id} leads backwards");
    }
    for (track, at) in starts.values().chain(finishes.values()) {
        let inside = |(from, to, _): &&(u64, u64, String)| from <= at && at < to;
        assert!(stretches[track].iter().any(|one| inside(&one)), "{at}");
    }
    assert!(of_kind(events, "f").all(|event| event["bp"] == "e"));
    starts.len()
}

#[test]
fn everything_of_two_reboots_nests_and_lies_behind_each_other() {
    let first = report(1, 77_000_000_000_123);
    let second = report(2, 99_000_000_000_001);
    let events = events(&[second.clone(), first.clone()]);
    assert_nested(&events);
    assert_eq!(assert_arrows(&events), 2, "the port waited for b in both");
    let resets: Vec<_> = of_kind(&events, "X")
        .filter(|event| event["name"].as_str().unwrap().starts_with("reset "))
        .map(|event| (event["name"].clone(), ns(event, "ts")))
        .collect();
    assert_eq!(
        resets,
        [
            (json!("reset 1"), first.at_ns),
            (json!("reset 2"), second.at_ns)
        ]
    );
}

#[test]
fn phases_lie_inside_their_device_and_say_what_the_report_says() {
    let report = report(1, 5_000_000_000);
    let events = events(std::slice::from_ref(&report));
    for device in &report.devices {
        let drawn = of_kind(&events, "X")
            .find(|event| event["cat"] == "teardown" && event["name"] == device.id.as_str())
            .unwrap();
        assert_eq!(ns(drawn, "ts"), report.at_ns + device.start_ns);
        assert_eq!(ns(drawn, "dur"), device.end_ns - device.start_ns);
        assert_eq!(drawn["args"]["critical"], device.critical);
        assert_eq!(drawn["args"]["outcome"]["result"], "done");
        assert_eq!(drawn["args"]["policy"], "completion");
        let phases: Vec<_> = of_kind(&events, "X")
            .filter(|event| event["cat"] == "phase" && track(event) == track(drawn))
            .map(|event| (event["name"].as_str().unwrap(), ns(event, "ts")))
            .collect();
        let expected: Vec<_> = device
            .phases
            .iter()
            .map(|phase| (phase.name.as_str(), report.at_ns + phase.start_ns))
            .collect();
        assert_eq!(phases, expected);
    }
}

#[test]
fn tracks_have_names_in_the_order_of_the_tree() {
    let events = events(&[report(1, MS)]);
    let mut names: Vec<_> = of_kind(&events, "M")
        .filter(|event| event["name"] == "thread_name")
        .map(|event| (track(event), event["args"]["name"].as_str().unwrap()))
        .collect();
    names.sort();
    let names: Vec<_> = names
        .into_iter()
        .map(|((pid, _), name)| (pid, name))
        .collect();
    assert_eq!(
        names,
        [
            (1, "shutdown"),
            (1, "a"),
            (1, "b"),
            (2, "reset"),
            (2, "port"),
            (2, "a"),
            (2, "b"),
        ]
    );
    let named: BTreeSet<_> = of_kind(&events, "M").map(track).collect();
    let used = events.iter().filter(|event| event["ph"] != "M");
    assert!(used.map(track).all(|track| named.contains(&track)));
    let tids: Vec<_> = named.iter().filter(|(_, tid)| *tid > 0).collect();
    let distinct: BTreeSet<_> = tids.iter().map(|(_, tid)| tid).collect();
    assert_eq!(distinct.len(), tids.len(), "a track number is used twice");
}

#[test]
fn the_guests_handshakes_and_acts_are_drawn_where_they_were() {
    let report = report(1, 60_000_000_000);
    let events = events(std::slice::from_ref(&report));
    let at = |ms: i64| report.at_ns.saturating_add_signed(ms * MS as i64);
    let find = |name: &str| -> Vec<(u64, u64)> {
        events
            .iter()
            .filter(|event| event["pid"] == 1 && event["name"] == name)
            .map(|event| {
                (
                    ns(event, "ts"),
                    event["dur"].as_f64().map_or(0, |_| ns(event, "dur")),
                )
            })
            .collect()
    };
    assert_eq!(
        find("shutdown handshake"),
        [(at(-400), 100 * MS), (at(-290), 100 * MS)]
    );
    assert_eq!(
        find("queues deleted"),
        [(at(-420), 10 * MS), (at(-310), 10 * MS)]
    );
    assert_eq!(find("first poll"), [(at(-400), 0), (at(-290), 0)]);
    assert_eq!(find("last poll"), [(at(-300), 0), (at(-190), 0)]);
    assert_eq!(find("handshakes"), [(at(-400), 210 * MS)]);
    assert_eq!(find("bus master off").len(), 2);
    assert!(find("normal shutdown").is_empty(), "the handshake shows it");
}

#[test]
fn a_guest_that_keeps_no_order_and_a_report_that_keeps_no_rule_still_nest() {
    let mut report = report(1, MS);
    let guest = &mut report.guest.devices;
    // Queues deleted while the handshake runs, which never ends.
    guest[0].events[1].last_ns = -350 * MS as i64;
    guest[1].handshake.as_mut().unwrap().completed_ns = None;
    // Phases that overlap, and one behind the device's end.
    let device = &mut report.devices[0];
    device.phases[1].start_ns = 0;
    device.phases[1].end_ns = u64::MAX;
    report.devices[2].held_up_by = Some("nobody".to_owned());
    report.reset_to_ready_ns = Some(1);
    let events = events(&[report]);
    assert_nested(&events);
    assert_eq!(assert_arrows(&events), 0);
    let names: BTreeSet<_> = events
        .iter()
        .filter_map(|event| event["name"].as_str())
        .collect();
    assert!(names.contains("first submission queue deleted"));
    assert!(names.contains("shutdown handshake, never completed"));
}

#[test]
fn reports_of_two_machines_at_one_time_and_whatever_figures_are_drawn_without_a_panic() {
    let one = report(1, 77_000_000_000_123);
    let drawn = events(std::slice::from_ref(&one)).len();
    // One number, times that overlap, the later one first.
    let later = report(1, one.at_ns + 5 * MS);
    let both = events(&[later, one.clone()]);
    let names = events(&[]).len();
    let tracks = of_kind(&events(std::slice::from_ref(&one)), "M").count();
    assert_eq!(both.len(), 2 * (drawn - tracks) + tracks);
    assert!(tracks > names);

    for (from, to) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (0, 0)] {
        let mut wild = one.clone();
        (wild.at_ns, wild.teardown_start_ns, wild.teardown_ns) = (to, from, to);
        (wild.reset_ns, wild.reset_to_ready_ns) = (Some(from), Some(to));
        for device in &mut wild.devices {
            (device.start_ns, device.end_ns) = (from, to);
        }
        for device in &mut wild.guest.devices {
            for event in &mut device.events {
                (event.first_ns, event.last_ns) = (i64::MAX, i64::MIN);
            }
            let handshake = device.handshake.as_mut().unwrap();
            handshake.requested_ns = i64::MIN;
            handshake.completed_ns = Some(i64::MAX);
        }
        assert!(events(&[wild, one.clone()]).len() > drawn);
    }
}

#[test]
fn no_reports_are_an_empty_trace() {
    assert!(events(&[]).iter().all(|event| event["ph"] == "M"));
}

proptest::proptest! {
    #[test]
    fn readers_that_cut_off_and_readers_that_round_find_the_same_nanosecond(
        ns in 0_u64..2_000_000_000_000_000
    ) {
        let text = serde_json::to_string(&Micros(ns)).unwrap();
        let read: f64 = text.parse().unwrap();
        proptest::prop_assert_eq!((read * 1000.0) as u64, ns);
        proptest::prop_assert_eq!((read * 1000.0).round() as u64, ns);
    }
}
