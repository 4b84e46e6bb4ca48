//! Plans as people read them.

use super::*;

fn device(id: &str, start_ns: u64, end_ns: u64) -> PlannedDevice {
    PlannedDevice {
        id: id.to_owned(),
        parent: None,
        asynchronous: true,
        cookie: None,
        ready_ns: start_ns,
        start_ns,
        end_ns,
        held_up_by: None,
        critical: false,
        timed_out: false,
    }
}

fn make_async(device: &str) -> Saving {
    Saving {
        change: Change::MakeAsync {
            device: device.to_owned(),
        },
        total_ns: 4_500_000_000,
        saved_ns: 13_500_000_000,
    }
}

#[test]
fn times_have_the_unit_that_suits_them() {
    assert_eq!(time(0), "0.000 ms");
    assert_eq!(time(4_920_000), "4.920 ms");
    assert_eq!(time(4_500_000_000), "4.500 s");
}

#[test]
fn the_devices_that_take_longest_are_shown_in_their_order() {
    let order: Vec<_> = (0..20)
        .map(|at| device(&format!("d{at}"), 0, at * 1_000_000))
        .collect();
    let text = devices(&order, Detail::Most);
    assert!(!text.contains("d7 ") && text.contains("d8 "), "{text}");
    assert!(text.find("d8 ") < text.find("d19 "));
    assert!(text.ends_with("and 8 more, which --all shows\n"));
    assert!(devices(&order, Detail::All).contains("d0 "));
}

#[test]
fn a_long_chain_is_cut_in_its_middle() {
    let order: Vec<_> = (0..20)
        .map(|at| PlannedDevice {
            critical: true,
            ..device(&format!("d{at}"), at, at + u64::from(at != 3))
        })
        .collect();
    let plan = PolicyPlan {
        policy: TeardownPolicy::Serial,
        total_ns: 20,
        critical_path_ns: 20,
        critical: order.iter().map(|device| device.id.clone()).collect(),
        workers_used: 0,
        order,
        savings: vec![],
        warnings: vec![],
    };
    assert_eq!(
        hangs_on(&plan, Detail::Most),
        "  hangs on  d0 → d1 → d2 → d4 → (11 more) → d16 → d17 → d18 → d19\n"
    );
    assert!(hangs_on(&plan, Detail::All).contains("d3"));
}

#[test]
fn a_saving_is_told_in_words() {
    assert_eq!(
        savings(&[make_async("bridge2")], 18_000_000_000, Detail::Most),
        "  would help  make `bridge2` asynchronous: 18.000 s → 4.500 s\n"
    );
    assert_eq!(savings(&[], 1, Detail::Most), "  no single change helps\n");
}

#[test]
fn changes_to_the_same_effect_are_told_once() {
    let link = Saving {
        change: Change::RemoveLink {
            consumer: "c".to_owned(),
            supplier: "s".to_owned(),
        },
        ..make_async("")
    };
    let all = [make_async("a"), make_async("b"), link];
    assert_eq!(
        savings(&all, 18_000_000_000, Detail::Most),
        "  would help  make `a` asynchronous: 18.000 s → 4.500 s (so would others)\n  \
         or          remove the link from `c` to `s`: 18.000 s → 4.500 s\n"
    );
    assert_eq!(savings(&all, 1, Detail::All).lines().count(), 3);
}
