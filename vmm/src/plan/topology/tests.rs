//! What a file makes, what it is refused for, and the files of resources/topologies.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Topology {
    Topology::parse(text).unwrap()
}

fn ids(topology: &Topology) -> Vec<&str> {
    let nodes = topology.model.listing.nodes.iter();
    nodes.map(|node| node.id.as_str()).collect()
}

fn listed(topology: &Topology) -> Vec<String> {
    let graph = topology.model.listing.graph().unwrap();
    let order = graph.order().iter();
    order.map(|&device| graph.node(device).id.clone()).collect()
}

/// The line that is wrong, and why.
fn refused(text: &str) -> (usize, String) {
    let error = Topology::parse(text).unwrap_err();
    (error.line, error.message)
}

#[test]
fn indentation_is_the_tree_and_repeats_go_instance_by_instance() {
    let topology = parse(
        "root sync\n  p{0..1} async 4.5s # a drive\n      c{} sync\n\n      n{}-{0..1} async\n  x sync 1ms\ny sync\n",
    );
    let expected = [
        "root", "p0", "c0", "n0-0", "n0-1", "p1", "c1", "n1-0", "n1-1", "x", "y",
    ];
    assert_eq!(ids(&topology), expected);
    let parents: Vec<_> = topology
        .model
        .listing
        .nodes
        .iter()
        .map(|node| node.parent)
        .collect();
    let expected = [
        None,
        Some(0),
        Some(1),
        Some(1),
        Some(1),
        Some(0),
        Some(5),
        Some(5),
        Some(5),
        Some(0),
        None,
    ];
    assert_eq!(parents, expected);
    assert_eq!(topology.model.workers, 64);
}

#[test]
fn a_device_has_what_its_line_says() {
    let topology = parse("workers 3\np async 2s work deadline 1min\n  c sync 5ms lock deferred\n");
    let Model {
        listing,
        costs,
        workers,
        assumptions: _,
    } = &topology.model;
    let [parent, child] = &listing.nodes[..] else {
        panic!("two devices")
    };
    assert!(parent.asynchronous && parent.blocking && !parent.parent_lock);
    assert_eq!(parent.deadline.as_secs(), 60);
    assert!(!child.asynchronous && !child.blocking && child.parent_lock);
    assert_eq!(
        (costs[0].work.as_secs(), costs[0].latency.as_secs()),
        (2, 0)
    );
    assert_eq!(
        (costs[1].work.as_millis(), costs[1].latency.as_millis()),
        (0, 5)
    );
    assert_eq!((*workers, &listing.deferred[..]), (3, &[1][..]));
}

#[test]
fn links_name_one_every_pair_or_each_its_own() {
    let pairs = |link: &str| {
        let topology = parse(&format!("s{{0..1}} sync\nc{{0..1}} sync\n{link}\n"));
        let ids = ids(&topology);
        let links = topology.model.listing.links.iter();
        links
            .map(|link| {
                format!(
                    "{}{}{}",
                    ids[link.consumer],
                    if link.sync_state_only { "~" } else { ">" },
                    ids[link.supplier]
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(pairs("link c0 -> s1"), ["c0>s1"]);
    assert_eq!(pairs("link c{} -> s{0..1}"), ["c0>s0", "c1>s1"]);
    assert_eq!(
        pairs("link c{0..1} -> s{} sync-state-only"),
        ["c0~s0", "c1~s1"]
    );
    assert_eq!(
        pairs("link c{0..1} -> s{0..1}"),
        ["c0>s0", "c0>s1", "c1>s0", "c1>s1"]
    );
}

#[test]
fn the_list_is_that_of_registration_and_links_unless_it_is_given() {
    let devices = "p{0..1} async\n  c{} sync\n";
    assert_eq!(listed(&parse(devices)), ["p0", "c0", "p1", "c1"]);
    let linked = format!("{devices}link p0 -> p1\n");
    assert_eq!(listed(&parse(&linked)), ["p1", "c1", "p0", "c0"]);
    let given = format!("{linked}list p{{0..1}}\nlist c1 c0\n");
    assert_eq!(listed(&parse(&given)), ["p0", "p1", "c1", "c0"]);
}

#[test]
fn a_wrong_line_is_told_with_its_number_and_what_is_allowed() {
    let cases = [
        ("a sync\n\tb sync", 2, "a tab"),
        ("# c\n  a sync", 2, "lead to no device"),
        ("a sync\n    b sync\n  c sync", 3, "lead to no device"),
        ("a sync\n  workers 3", 2, "begin of its line"),
        ("workers 0", 1, "from 1 to 1024"),
        ("workers 1\nworkers 2", 2, "already"),
        ("a", 1, "`NAME async`"),
        ("a perhaps", 1, "`perhaps` in place of"),
        ("a async 5", 1, "has no unit"),
        ("a async 5s 5s", 1, "twice"),
        ("a async soon", 1, "`soon` is not known"),
        ("a async deadline", 1, "without a time"),
        ("a sync lock", 1, "behind none"),
        ("a{} sync", 1, "repeats around"),
        ("a{0..3 sync", 1, "is no name"),
        ("a sync\na sync", 2, "already"),
        ("a sync\nlink a b", 2, "CONSUMER -> SUPPLIER"),
        ("a sync\nlink a -> b", 2, "`b` is no device"),
        ("a sync\nlink a -> a", 2, "cycle"),
        ("a sync\n b sync\nlink a -> b", 3, "a → b"),
        ("a sync\nb sync\nlink a -> b\nlink b -> a", 4, "cycle"),
        ("a sync\nlist", 2, "no device"),
        ("a sync\nb sync\nlist a", 3, "lacks `b`"),
        ("a sync\nlist a a", 2, "twice"),
        ("a sync\nlist b", 2, "`b` is no device"),
        ("expect serial", 1, "FIGURE TIME"),
        ("expect fast 1s", 1, "`lower-bound` are allowed"),
        ("expect serial 1s 5%", 1, "is no tolerance"),
    ];
    for (text, line, what) in cases {
        let (at, message) = refused(text);
        assert!(
            at == line && message.contains(what),
            "{text:?}: line {at}: {message}"
        );
    }
}

#[test]
fn what_grows_without_end_is_stopped() {
    let within = parse("p{1..100000} sync\n");
    assert_eq!(within.model.costs.len(), MOST_DEVICES);
    for text in [
        "p{0..4294967295} sync",
        "a{0..999} sync\n b{}-{0..999} sync",
    ] {
        assert!(refused(text).1.contains("100000 devices"));
    }
    let links = "a{0..200} sync\nb{0..200} sync\nlink a{0..200} -> b{0..200} sync-state-only";
    assert!(refused(links).1.contains("10000 links"));
    let moved = "a{0..50000} sync\ns sync\nlink a{0..5000} -> s";
    assert_eq!(refused(moved).0, 3);
    assert!(refused("p{0..20000} sync deferred").1.contains("deferred"));
    let deep: String = (0..300)
        .map(|at| format!("{}d{at} sync\n", " ".repeat(at)))
        .collect();
    assert_eq!(refused(&deep).0, DEEPEST + 1);
    assert!(
        refused("a sync\nlist a{0..4294967295}")
            .1
            .contains("`a0` is no device")
    );
}

#[test]
fn an_expectation_is_met_within_its_tolerance() {
    let topology = parse(
        "a async 100ms\nb async 50ms\nexpect serial 150ms\nexpect serial 151ms\nexpect completion 101ms ± 1%\n\
         expect completion 102ms +- 1 %\nexpect lower-bound 100ms\n",
    );
    let report = topology.model.report().unwrap();
    let checked = topology
        .expectations
        .iter()
        .map(|expectation| expectation.check(&report));
    let met: Vec<_> = checked
        .map(|checked| (checked.line, checked.figure, checked.met))
        .collect();
    let expected = [
        (3, "serial", true),
        (4, "serial", false),
        (5, "completion", true),
        (6, "completion", false),
        (7, "lower-bound", true),
    ];
    assert_eq!(met, expected);
}

/// The files that are shipped, by name.
fn shipped() -> BTreeMap<String, Topology> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/topologies");
    let files = std::fs::read_dir(folder).unwrap().map(|file| {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let topology = Topology::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, topology)
    });
    files.collect()
}

#[test]
fn every_shipped_topology_takes_what_it_says() {
    let shipped = shipped();
    assert!(shipped.len() >= 10, "{:?}", shipped.keys());
    for (name, topology) in shipped {
        assert!(!topology.expectations.is_empty(), "{name} expects nothing");
        let report = topology.model.report().unwrap();
        for expectation in &topology.expectations {
            let checked = expectation.check(&report);
            assert!(checked.met, "{name}: {checked:?}");
        }
    }
}

#[test]
fn the_example_of_the_description_takes_what_it_says() {
    let description = include_str!("../../../../docs/topology.md");
    let example = description.split("```").nth(1).unwrap();
    let topology = parse(example);
    let report = topology.model.report().unwrap();
    assert!(topology.expectations[0].check(&report).met);
    let completion = &report.policies[2];
    assert_eq!(completion.savings[0].total_ns, 9_520_000_000);
}

#[test]
fn the_herd_of_sync_devices_makes_no_thread() {
    let herd = &shipped()["v9-herd.topology"];
    let report = herd.model.report().unwrap();
    for plan in &report.policies {
        assert_eq!(plan.workers_used, 0, "{}", plan.policy);
    }
}

/// Lines that are nearly right.
fn lines() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("a".to_owned()),
        Just("b{0..3}".to_owned()),
        Just("c{}".to_owned()),
        Just("async".to_owned()),
        Just("sync".to_owned()),
        Just("4.5s".to_owned()),
        Just("work".to_owned()),
        Just("lock".to_owned()),
        Just("deferred".to_owned()),
        Just("deadline".to_owned()),
        Just("link".to_owned()),
        Just("->".to_owned()),
        Just("list".to_owned()),
        Just("expect".to_owned()),
        Just("serial".to_owned()),
        Just("±".to_owned()),
        Just("1%".to_owned()),
        Just("workers".to_owned()),
        Just("2".to_owned()),
        "[a-z0-9{}.µ%#\t-]{0,8}",
    ];
    let line = (0..4usize, prop::collection::vec(word, 0..6));
    prop::collection::vec(line, 0..12).prop_map(|lines| {
        let lines = lines
            .into_iter()
            .map(|(indent, words)| format!("{}{}", " ".repeat(indent * 2), words.join(" ")));
        lines.collect::<Vec<_>>().join("\n")
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Topology::parse(&text);
    }

    #[test]
    fn whatever_is_read_can_be_planned_for(text in lines()) {
        if let Ok(topology) = Topology::parse(&text) {
            let report = topology.model.report().unwrap();
            prop_assert_eq!(report.devices as usize, topology.model.costs.len());
        }
    }
}
