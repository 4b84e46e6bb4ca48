//! Reports of real runs pass; each thing that can be wrong with one is found and named.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::config::TeardownPolicy;
use api::report::{
    Cause, GuestAct, GuestDevice, GuestEvent, GuestOrder, Outcome, ShutdownHandshake,
};
use devices::lifecycle::{Deadline, Finish, Phases, ShutdownError};
use proptest::prelude::*;

use super::*;
use crate::device_manager::teardown::tests::oracle::{Machine, machines};
use crate::device_manager::teardown::{
    Graph, Request, Stamp, Target, Teardown, TeardownRun, Unobserved, guest_ready, predict,
    vcpus_resumed,
};
use TeardownPolicy::{Completion, Cookie, Serial};

mod mutations;

const POLICIES: [TeardownPolicy; 3] = [Serial, Cookie, Completion];

/// Devices that end after their latencies.
struct Timed(Vec<Duration>);

impl Target for Timed {
    fn shut_down(
        &self,
        device: usize,
        _by: Deadline,
        phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        let (now, latency) = (Instant::now(), self.0[device]);
        phases.record("reset", now, now + latency);
        Ok(Finish::At(now + latency))
    }
}

/// A switch with a drive that needs its lock and two that do not, a bridge, and links across.
fn machine() -> Machine {
    // USB asks for its parent's lock; here two do.
    Machine::new()
        .with_sync("serial", "", 1)
        .with_async("switch", "", 1)
        .with_async("a", "switch", 4)
        .with_async("b", "switch", 2)
        .with_sync("bridge", "", 1)
        .with_async("c", "bridge", 3)
        .with_sync("slow", "switch", 2)
        .with_async("d", "", 6)
        .linked("d", "a")
        .linked("c", "serial")
        .with_async("hub", "", 1)
        .with_locking("stick", "hub", 1)
        .with_locking("camera", "hub", 1)
}

fn finished(run: &TeardownRun, request: &Request) -> TeardownReport {
    let mut report = run.report(request);
    let end = run.end() - request.at;
    vcpus_resumed(&mut report, end + Duration::from_millis(3));
    guest_ready(&mut report, end + Duration::from_millis(900));
    report
}

fn request(at: Instant) -> Request {
    Request {
        number: 3,
        boot: 2,
        cause: Cause::Api,
        at,
        at_ns: 77,
        vcpus_paused: at + Duration::from_micros(5),
    }
}

/// The report of a run on threads.
fn ran(machine: &Machine, policy: TeardownPolicy) -> TeardownReport {
    let latencies = machine.costs.iter().map(|cost| cost.work + cost.latency);
    let target = Arc::new(Timed(latencies.collect()));
    let graph = Arc::new(machine.graph.clone());
    let at = Instant::now();
    // The pause is made up; it must lie before the run.
    std::thread::sleep(Duration::from_micros(10));
    let run = Teardown::new(graph, policy, 4, target, Arc::new(Unobserved)).run();
    finished(&run, &request(at))
}

/// The report of a run under the virtual clock.
fn predicted(machine: &Machine, policy: TeardownPolicy, workers: u16) -> TeardownReport {
    let at = Instant::now();
    let begin = at + Duration::from_micros(20);
    let costs = &machine.costs;
    let plan = predict(&machine.graph, policy, costs, usize::from(workers));
    let stamps = plan.devices.iter().map(|planned| {
        let (start, end) = (begin + planned.start, begin + planned.end);
        let mut phases = Phases::default();
        phases.record("reset", start, end);
        Stamp {
            start,
            end,
            phases,
            outcome: if planned.timed_out {
                Outcome::TimedOut
            } else {
                Outcome::Done
            },
        }
    });
    let run = TeardownRun {
        graph: Arc::new(machine.graph.clone()),
        policy,
        workers,
        workers_used: plan.workers_used as u16,
        begin,
        stamps: stamps.collect(),
        warnings: plan.rules.warnings.clone(),
        rules: plan.rules,
    };
    finished(&run, &request(at))
}

fn all(violations: &[Violation]) -> String {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[track_caller]
fn passes(report: &TeardownReport) {
    let violations = check(report);
    assert!(violations.is_empty(), "{}", all(&violations));
}

#[test]
fn reports_of_runs_on_threads_pass() {
    for policy in POLICIES {
        passes(&ran(&machine(), policy));
    }
    passes(&ran(&Machine::new(), Completion));
}

#[test]
fn an_ordering_forced_to_sync_passes() {
    // C, S, P: P an asynchronous child of S, C a synchronous child of P.
    let inverted = Machine::new()
        .with_sync("s", "", 1)
        .with_async("p", "s", 1)
        .with_sync("c", "p", 1)
        .listed(&["c", "s", "p"]);
    for policy in POLICIES {
        let report = ran(&inverted, policy);
        assert!(!report.warnings.is_empty(), "{policy:?}");
        passes(&report);
    }
}

#[test]
fn devices_given_up_let_those_that_waited_go_on() {
    let mut machine = Machine::new()
        .with_async("port", "", 1)
        .with_async("stuck", "port", 5_000);
    let mut graph = Graph::new();
    for node in machine.graph.nodes() {
        let mut node = node.clone();
        node.deadline = Duration::from_millis(4);
        graph.add(node).unwrap();
    }
    machine.graph = graph;
    for policy in POLICIES {
        let report = ran(&machine, policy);
        assert_eq!(report.devices[0].outcome, Outcome::TimedOut);
        passes(&report);
    }
}

#[test]
fn a_removed_device_is_not_called_and_keeps_nobody_waiting() {
    let mut report = ran(&machine(), Serial);
    let removed = report.devices.iter().position(|device| device.id == "slow");
    let mut slow = report.devices.remove(removed.unwrap());
    let lost = slow.end_ns - slow.start_ns;
    // Taken away at the very begin, long before its turn.
    slow.outcome = Outcome::Removed;
    slow.start_ns = report.teardown_start_ns;
    slow.end_ns = slow.start_ns;
    slow.ready_ns = slow.start_ns;
    slow.phases.clear();
    report.devices.insert(0, slow);
    report.serial_sum_ns -= lost;
    let order: Vec<_> = check(&report)
        .into_iter()
        .filter(|violation| {
            !matches!(
                violation.rule,
                // Those are what the run without the removal told.
                Rule::CriticalPath | Rule::Sum | Rule::HeldUpBy
            )
        })
        .collect();
    assert!(order.is_empty(), "{}", all(&order));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_rules_allow_passes(
        machine in prop_oneof![
            machines(12, Duration::from_millis(5), true),
            machines(12, Duration::from_millis(5), false),
        ],
        locking in prop::collection::vec(prop::bool::weighted(0.3), 12),
        workers in 1..5_u16,
    ) {
        let machine = machine.locked(&locking);
        for policy in POLICIES {
            let violations = check(&predicted(&machine, policy, workers));
            prop_assert!(violations.is_empty(), "{policy:?}: {}", all(&violations));
        }
    }

    #[test]
    fn a_device_that_does_not_wait_is_found_with_whom_it_should_have_waited_for(
        machine in machines(10, Duration::from_millis(5), true),
    ) {
        for policy in POLICIES {
            let good = predicted(&machine, policy, 64);
            for (number, device) in good.devices.iter().enumerate() {
                let Some(by) = &device.held_up_by else { continue };
                let by = good.devices.iter().find(|other| other.id == *by).unwrap();
                // One nanosecond too soon; where that is before the other began, it still overtakes it.
                let mut broken = good.clone();
                broken.devices[number].start_ns = by.end_ns - 1;
                broken.devices[number].ready_ns = by.end_ns - 1;
                let violations = check(&broken);
                let named = violations.iter().any(|violation| {
                    let order = matches!(
                        violation.rule,
                        Rule::ChildrenFirst | Rule::ConsumersFirst | Rule::OneByOne | Rule::Barrier
                    );
                    // Another may have ended at the same moment.
                    let involved = &violation.devices;
                    order
                        && involved.iter().any(|involved| involved.id == device.id)
                        && involved.iter().any(|involved| involved.end_ns == by.end_ns)
                });
                prop_assert!(named, "{policy:?}: {} after {}: {}", device.id, by.id, all(&violations));
            }
        }
    }
}
