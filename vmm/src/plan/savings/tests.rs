//! The best change is the one that is plainly best, and what is said of it is true.

use proptest::prelude::*;

use super::*;
use crate::device_manager::list::{ListedLink, Listing};
use crate::device_manager::teardown::Node;

/// A model of devices: name, parent, whether asynchronous, milliseconds.
fn model(devices: &[(&str, &str, bool, u64)], links: &[(usize, usize)]) -> Model {
    let mut listing = Listing::default();
    let mut costs = Vec::new();
    for &(id, parent, asynchronous, ms) in devices {
        let find = |node: &Node| node.id == parent;
        listing.nodes.push(Node {
            parent: listing.nodes.iter().position(find),
            asynchronous,
            deadline: Duration::MAX,
            ..Node::new(id, "test")
        });
        costs.push(Cost::latency(Duration::from_millis(ms)));
    }
    listing
        .links
        .extend(links.iter().map(|&(consumer, supplier)| ListedLink {
            consumer,
            supplier,
            sync_state_only: false,
        }));
    Model {
        assumptions: Vec::new(),
        listing,
        costs,
        workers: 4,
    }
}

fn savings(model: &Model, policy: TeardownPolicy) -> Vec<(Change, u64)> {
    let report = model.report_on(&[policy]).unwrap();
    let savings = report.policies[0].savings.iter();
    savings
        .map(|saving| (saving.change.clone(), saving.total_ns / 1_000_000))
        .collect()
}

fn make_async(device: &str) -> Change {
    Change::MakeAsync {
        device: device.to_owned(),
    }
}

#[test]
fn a_sync_device_between_two_that_would_overlap_is_best_made_async() {
    let model = model(
        &[
            ("bridge0", "", false, 0),
            ("drive0", "bridge0", false, 4000),
            ("bridge1", "", false, 0),
            ("drive1", "bridge1", true, 4000),
        ],
        &[],
    );
    let best = savings(&model, TeardownPolicy::Completion);
    assert_eq!(best[0].1, 4000);
    // Either of the two that hold the lane; the first in the list comes first.
    assert_eq!(best[0].0, make_async("drive0"));
    assert!(best.contains(&(make_async("bridge1"), 4000)));
}

#[test]
fn a_link_is_best_removed_where_it_alone_keeps_two_from_overlapping() {
    let model = model(&[("s", "", true, 5000), ("c", "", true, 5000)], &[(1, 0)]);
    let best = savings(&model, TeardownPolicy::Completion);
    let remove = Change::RemoveLink {
        consumer: "c".to_owned(),
        supplier: "s".to_owned(),
    };
    assert_eq!(best[0], (remove, 5000));
    assert_eq!(best[1].1, 7500);
}

#[test]
fn one_at_a_time_only_shorter_devices_help() {
    let model = model(
        &[
            ("a", "", true, 10),
            ("b", "", false, 30),
            ("c", "", true, 0),
        ],
        &[(2, 1)],
    );
    let halved = |device: &str, ms: u64| Change::HalveLatency {
        device: device.to_owned(),
        from_ns: ms * 1_000_000,
        to_ns: ms * 500_000,
    };
    assert_eq!(
        savings(&model, TeardownPolicy::Serial),
        [(halved("b", 30), 25), (halved("a", 10), 35)]
    );
}

#[test]
fn workers_are_proposed_where_they_bind_and_nowhere_else() {
    let mut model = model(&[("a", "", true, 0); 0], &[]);
    for number in 0..12 {
        model.listing.nodes.push(Node {
            asynchronous: true,
            ..Node::new(format!("d{number}"), "test")
        });
        model.costs.push(Cost::work(Duration::from_millis(100)));
    }
    let report = model.report_on(&[TeardownPolicy::Completion]).unwrap();
    let plan = &report.policies[0];
    assert_eq!(
        (plan.total_ns, plan.critical_path_ns),
        (300_000_000, 100_000_000)
    );
    assert!(plan.warnings[0].starts_with("8 devices wait for one of the 4 workers"));
    let best = savings(&model, TeardownPolicy::Completion);
    assert_eq!(best[0], (Change::AddWorkers { from: 4, to: 12 }, 100));
    assert_eq!(best[1], (Change::AddWorkers { from: 4, to: 8 }, 200));
    model.workers = 12;
    let workers = |change: &(Change, u64)| matches!(change.0, Change::AddWorkers { .. });
    assert!(
        !savings(&model, TeardownPolicy::Completion)
            .iter()
            .any(workers)
    );
}

#[test]
fn no_more_than_ten_are_kept() {
    let names: Vec<String> = (0..30).map(|number| format!("d{number}")).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|name| (&name[..], "", false, 10))
        .collect();
    let model = model(&devices, &[]);
    assert_eq!(savings(&model, TeardownPolicy::Serial).len(), KEPT);
}

#[test]
fn a_large_machine_is_tried_within_bounds() {
    let mut model = model(&[], &[]);
    for number in 0..2000 {
        model.listing.nodes.push(Node {
            parent: (number > 0).then_some(number / 2),
            asynchronous: number % 3 > 0,
            ..Node::new(format!("d{number}"), "test")
        });
        model
            .costs
            .push(Cost::latency(Duration::from_millis(number as u64 % 7)));
    }
    let graph = model.listing.graph().unwrap();
    for policy in TeardownPolicy::ALL {
        let plan = predict(&graph, policy, &model.costs, 4);
        let tried = candidates(&model, &graph, policy, &plan, 4);
        assert!(tried.len() <= RUNS / 2000, "{policy}: {}", tried.len());
    }
}

#[test]
fn of_many_links_those_of_the_chain_are_tried_first() {
    let mut model = model(&[], &[]);
    for number in 0..400 {
        model.listing.nodes.push(Node {
            asynchronous: true,
            ..Node::new(format!("d{number}"), "test")
        });
        // One chain takes longer than the others.
        let ms = if number % 10 == 7 { 20 } else { 10 };
        model.costs.push(Cost::latency(Duration::from_millis(ms)));
        if number >= 10 {
            model.listing.links.push(ListedLink {
                consumer: number,
                supplier: number - 10,
                sync_state_only: false,
            });
        }
    }
    let graph = model.listing.graph().unwrap();
    let plan = predict(&graph, TeardownPolicy::Completion, &model.costs, 4);
    let tried = candidates(&model, &graph, TeardownPolicy::Completion, &plan, 4);
    let links = tried.iter().filter_map(|edit| match edit {
        Edit::RemoveLink(link) => Some(model.listing.links[*link].consumer),
        _ => None,
    });
    let consumers: Vec<usize> = links.collect();
    assert!((1..=39).contains(&consumers.len()), "{}", consumers.len());
    assert!(consumers.iter().all(|consumer| consumer % 10 == 7));
    // Cut in its middle, the chain is half as long.
    let best = savings(&model, TeardownPolicy::Completion);
    assert!(matches!(best[0].0, Change::RemoveLink { .. }), "{best:?}");
}

/// Machines of up to 12 devices, every flag and link open.
fn machines() -> impl Strategy<Value = Model> {
    let device = (any::<bool>(), 0..50u64, any::<bool>(), 0..100usize);
    (
        proptest::collection::vec(device, 1..12),
        proptest::collection::vec((0..100usize, 0..100usize), 0..4),
        1..4u16,
    )
        .prop_map(|(devices, links, workers)| {
            let mut model = model(&[], &[]);
            for (number, (asynchronous, ms, works, parent)) in devices.iter().enumerate() {
                model.listing.nodes.push(Node {
                    parent: (number > 0 && parent % 3 > 0).then(|| parent % number),
                    asynchronous: *asynchronous,
                    ..Node::new(format!("d{number}"), "test")
                });
                let takes = Duration::from_millis(*ms);
                model.costs.push(if *works {
                    Cost::work(takes)
                } else {
                    Cost::latency(takes)
                });
            }
            for (one, other) in links {
                let (one, other) = (one % devices.len(), other % devices.len());
                // To a lower number: no circle can come of it.
                if one > other {
                    model.listing.links.push(ListedLink {
                        consumer: one,
                        supplier: other,
                        sync_state_only: false,
                    });
                }
            }
            model.workers = workers;
            model
        })
        .prop_filter(
            "a link to an ancestor's ancestor may close a circle",
            |model| model.listing.graph().is_ok(),
        )
}

proptest! {
    /// What is left out for being off the critical chain would not have saved anything.
    #[test]
    fn nothing_that_saves_more_was_left_out(model in machines()) {
        let graph = model.listing.graph().unwrap();
        for policy in TeardownPolicy::ALL {
            let plan = predict(&graph, policy, &model.costs, model.workers.into());
            let best = best(&model, &graph, policy, &plan, plan.workers_used).unwrap();
            let most = best.first().map_or(0, |saving| saving.saved_ns);
            let mut trial = Trial { model: &model, graph: graph.clone(), costs: model.costs.clone(), policy };
            let devices = (0..graph.len()).flat_map(|device| {
                let flag = (!graph.node(device).asynchronous).then_some(Edit::MakeAsync(device));
                [Some(Edit::Halve(device)), flag].into_iter().flatten()
            });
            let links = (0..model.listing.links.len()).map(Edit::RemoveLink);
            for edit in devices.chain(links) {
                let saved = plan.total.saturating_sub(trial.total(edit).unwrap());
                prop_assert!(nanos(saved) <= most, "{policy}: {edit:?} saves {saved:?}");
            }
            prop_assert_eq!(trial.predict(&trial.graph, model.workers), plan.total);
        }
    }
}
