//! Figures of made-up reboots.

use api::report::{Outcome, TeardownReport};
use serde_json::json;

use super::*;
use TeardownPolicy::{Completion, Cookie, Serial};

fn report(number: u64, policy: TeardownPolicy, teardown_ns: u64) -> TeardownReport {
    let device = json!({
        "id": "d, \"0\"", "address": null, "class": "nvme", "parent": null, "suppliers": [], "async": true,
        "position": 0, "ready_ns": 0, "start_ns": 10, "end_ns": 10 + teardown_ns, "phases": [], "waited_on": [],
        "held_up_by": null, "critical": true, "outcome": { "result": "done" },
    });
    let report = json!({
        "number": number, "boot": number, "cause": "api", "policy": policy, "workers": 4, "workers_used": 1,
        "at_ns": 5, "vcpu_pause_ns": 10, "teardown_ns": teardown_ns, "teardown_start_ns": 10, "reset_rest_ns": 5,
        "reset_ns": 15 + teardown_ns, "reset_to_ready_ns": null, "serial_sum_ns": teardown_ns,
        "critical_path_ns": teardown_ns, "efficiency": 1.0, "devices": [device], "warnings": [],
    });
    serde_json::from_value(report).unwrap()
}

/// Rounds of serial, completion.
fn reboots(rounds: &[(u64, u64)]) -> Vec<Reboot> {
    let mut reboots = Vec::new();
    for (&(serial, completion), round) in rounds.iter().zip(1..) {
        for (policy, ns) in [(Serial, serial), (Completion, completion)] {
            let number = reboots.len() as u64 + 1;
            reboots.push(Reboot {
                round,
                policy,
                report: report(number, policy, ns),
                ready_ns: Some(1_000_000 * number),
                violations: Vec::new(),
            });
        }
    }
    reboots
}

fn summary(reboots: &[Reboot], bounds: &[(Side, Bound)]) -> Summary {
    Summary::new(reboots, &[Serial, Completion], 3, None, bounds, None)
}

#[test]
fn policies_are_interleaved_round_by_round() {
    let order: Vec<_> = interleaved(&[Serial, Cookie], 2).collect();
    assert_eq!(order, [(1, Serial), (1, Cookie), (2, Serial), (2, Cookie)]);
}

#[test]
fn a_spread_has_the_middle_and_both_ends() {
    let spread = Spread::of_ns([5, 1, 9]).unwrap();
    assert_eq!(
        (spread.n, spread.median, spread.min, spread.max),
        (3, 5, 1, 9)
    );
    assert_eq!(Spread::of_ns([4, 1, 2, 8]).unwrap().median, 3);
    assert_eq!(Spread::of_ns([]), None);
    assert_eq!(Spread::of_ratios([2.0, 1.0]).unwrap().median, 1.5);
    assert_eq!(
        Spread::of_ns([u64::MAX, u64::MAX]).unwrap().median,
        u64::MAX
    );
}

#[test]
fn a_ratio_is_of_medians_and_its_spread_of_rounds() {
    let summary = summary(&reboots(&[(400, 100), (900, 300), (800, 100)]), &[]);
    let ratio = summary.ratio(Figure::Teardown, Completion).unwrap();
    assert_eq!(ratio.reference, Serial);
    assert_eq!(ratio.of_medians, 8.0);
    let rounds = ratio.of_rounds;
    assert_eq!((rounds.min, rounds.median, rounds.max), (3.0, 4.0, 8.0));
    assert_eq!(summary.policies[0].teardown_ns.unwrap().median, 800);
    assert_eq!(summary.policies[1].ready_ns.unwrap().max, 6_000_000);
    assert_eq!(
        summary.policies[1].guest_span_ns, None,
        "it saw no handshake"
    );
}

#[test]
fn a_ratio_needs_both_policies_in_a_round() {
    let mut reboots = reboots(&[(400, 100), (900, 300)]);
    reboots.retain(|reboot| reboot.policy == Serial || reboot.round == 2);
    let summary = summary(&reboots, &[]);
    let ratio = summary.ratio(Figure::Teardown, Completion).unwrap();
    assert_eq!((ratio.of_rounds.n, ratio.of_rounds.min), (1, 3.0));
}

#[test]
fn bounds_are_read_with_their_units() {
    let bound: Bound = "completion.teardown=0.52s".parse().unwrap();
    assert_eq!(
        (bound.policy, bound.figure),
        (Some(Completion), Figure::Teardown)
    );
    assert_eq!(bound.value, 520e6);
    let value = |text: &str| text.parse::<Bound>().unwrap().value;
    assert_eq!(value("ready=30s"), 30e9);
    assert_eq!(value("vcpu-pause=1.5ms"), 1.5e6);
    assert_eq!(value("rest=7us"), 7e3);
    assert_eq!(value("reset=7ns"), 7.0);
    assert_eq!(value("completion.speedup=3"), 3.0);
    for (text, said) in [
        ("teardown", "FIGURE=VALUE"),
        ("teardown=3", "unit"),
        ("teardown=-3s", "no time"),
        ("teardown=xs", "no time"),
        ("speedup=3s", "no ratio"),
        ("speedup=inf", "no ratio"),
        ("fast.teardown=3s", "no policy `fast`"),
        ("latency=3s", "no figure `latency`"),
        ("serial.speedup=1", "serial has no speedup"),
    ] {
        let error = text.parse::<Bound>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_bound_holds_in_every_reboot_or_is_missed() {
    let reboots = reboots(&[(400, 100), (900, 300), (800, 100)]);
    let judged = |side: Side, bound: &str| {
        let bound: Bound = bound.parse().unwrap();
        bound.judge(side, &reboots)
    };
    assert!(judged(Side::Max, "completion.teardown=300ns").holds);
    let missed = judged(Side::Max, "completion.teardown=299ns");
    assert_eq!(
        (missed.holds, missed.worst, missed.teardown),
        (false, Some(300.0), Some(4))
    );
    assert!(missed.said.contains("completion.teardown") && missed.said.contains("teardown 4"));
    assert!(
        !judged(Side::Max, "teardown=800ns").holds,
        "it is for all policies"
    );
    assert!(judged(Side::Min, "completion.speedup=3").holds);
    assert!(!judged(Side::Min, "completion.speedup=3.1").holds);
    let unseen = judged(Side::Max, "guest-span=1s");
    assert_eq!((unseen.holds, unseen.worst), (false, None));
    assert!(unseen.said.contains("no value"));
}

#[test]
fn a_bound_knows_which_policies_it_needs() {
    let lacks =
        |bound: &str, measured: &[TeardownPolicy]| bound.parse::<Bound>().unwrap().lacks(measured);
    assert_eq!(lacks("teardown=1s", &[Completion]), None);
    assert_eq!(lacks("cookie.teardown=1s", &[Completion]), Some(Cookie));
    assert_eq!(lacks("speedup=2", &[Completion]), Some(Serial));
    assert_eq!(lacks("speedup=2", &[Serial]), Some(Completion));
    assert_eq!(lacks("speedup=2", &[Serial, Cookie]), None);
}

#[test]
fn a_speedup_for_all_policies_leaves_serial_out() {
    let reboots = reboots(&[(400, 100), (900, 300), (800, 100)]);
    let judged = |side: Side, bound: &str| bound.parse::<Bound>().unwrap().judge(side, &reboots);
    let held = judged(Side::Min, "speedup=3");
    assert_eq!(
        (held.holds, held.worst, held.teardown),
        (true, Some(3.0), Some(4))
    );
    assert!(!judged(Side::Min, "speedup=3.1").holds);
    assert!(judged(Side::Max, "speedup=8").holds);
}

#[test]
fn failed_devices_and_violations_are_told() {
    let mut reboots = reboots(&[(400, 100)]);
    reboots[0].report.devices[0].outcome = Outcome::TimedOut;
    reboots[1].report.serial_sum_ns += 1;
    reboots[1].violations = crate::check::check(&reboots[1].report);
    let summary = summary(&reboots, &[]);
    assert_eq!(summary.policies[0].failed_devices, 1);
    assert_eq!(summary.policies[1].violations, 1);
    assert!(summary.problems[0].contains("teardown 1: d, \"0\" was given up"));
    assert!(
        summary.problems[1].contains("teardown 2: sum: "),
        "{:?}",
        summary.problems
    );
}

#[test]
fn spreadsheets_have_a_row_a_reboot_and_a_row_a_device() {
    let reboots = reboots(&[(400, 100), (900, 300)]);
    let text = teardowns_csv(&reboots).unwrap();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let head = rows.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|head| head == name).unwrap();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(&rows[3][column("policy")], "completion");
    assert_eq!(&rows[3][column("round")], "2");
    assert_eq!(&rows[3][column("teardown_ns")], "300");
    assert_eq!(&rows[3][column("guest_overlap")], "", "there was none");
    assert_eq!(&rows[3][column("cause")], "api");

    let text = devices_csv(&reboots).unwrap();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(&rows[0][4], "d, \"0\"", "commas and quotes come back");
}

#[test]
fn a_summary_is_json_that_scripts_can_read() {
    let bound: Bound = "teardown=1s".parse().unwrap();
    let summary = summary(&reboots(&[(400, 100)]), &[(Side::Max, bound)]);
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["policies"][0]["policy"], "serial");
    assert_eq!(json["policies"][1]["teardown_ns"]["median"], 100);
    assert_eq!(json["ratios"][0]["of_medians"], 4.0);
    assert_eq!(json["bounds"][0]["bound"], "teardown");
    assert_eq!(json["bounds"][0]["holds"], true);
}

#[test]
fn the_quickest_policy_has_the_shortest_median_teardown() {
    assert_eq!(quickest(&[]), None);
    let measured = reboots(&[(400, 100), (200, 300), (250, 900)]);
    assert_eq!(quickest(&measured), Some(Serial), "250 against 300");
    assert_eq!(quickest(&reboots(&[(400, 100)])), Some(Completion));
}

#[test]
fn a_short_series_is_drawn_whole() {
    let measured = reboots(&[(400, 100); DRAWN / 2]);
    let summary = summary(&measured, &[]);
    let all: Vec<u64> = (1..=DRAWN as u64).collect();
    assert_eq!(summary.page_has, all);
}

#[test]
fn of_a_long_series_the_median_the_slowest_and_trouble_are_drawn() {
    let rounds: Vec<_> = (1..=15).map(|round| (400 + round, 100 + round)).collect();
    let mut measured = reboots(&rounds);
    measured[4].report.devices[0].outcome = Outcome::TimedOut;
    measured[7].report.serial_sum_ns += 1;
    measured[7].violations = crate::check::check(&measured[7].report);
    // Round 8 is the median of 15, round 15 the slowest; teardowns 5 and 8 had trouble.
    let short = summary(&measured, &[]);
    assert_eq!(short.page_has, [5, 8, 15, 16, 29, 30]);
    assert_eq!(short.reboots, 30, "figures are of all");
    for reboot in &mut measured {
        reboot.report.devices[0].outcome = Outcome::TimedOut;
    }
    let page_has = summary(&measured, &[]).page_has;
    assert_eq!(page_has.len(), DRAWN);
    assert!(
        [15, 16, 29, 30]
            .iter()
            .all(|number| page_has.contains(number))
    );
}
