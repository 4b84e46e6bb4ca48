//! Reports from stamps that were made up.

use api::report::Outcome;
use devices::lifecycle::Phases;

use super::*;
use crate::device_manager::teardown::tests::oracle::Machine;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A run with these begins and ends, in milliseconds, and the request 10 ms before it.
fn run(machine: Machine, policy: TeardownPolicy, spans: &[(u64, u64)]) -> (TeardownRun, Request) {
    let at = Instant::now();
    let begin = at + ms(10);
    let rules = Arc::new(Rules::new(&machine.graph, policy));
    let stamps = spans
        .iter()
        .map(|&(start, end)| {
            let mut phases = Phases::default();
            phases.record("reset", begin + ms(start), begin + ms(end));
            Stamp {
                start: begin + ms(start),
                end: begin + ms(end),
                phases,
                outcome: Outcome::Done,
            }
        })
        .collect();
    let warnings = rules.warnings.clone();
    let graph = Arc::new(machine.graph);
    let run = TeardownRun {
        graph,
        rules,
        policy,
        workers: 64,
        workers_used: 2,
        begin,
        stamps,
        warnings,
    };
    let request = Request {
        number: 3,
        boot: 2,
        cause: Cause::I8042,
        at,
        at_ns: 12_345,
        vcpus_paused: at + ms(4),
    };
    (run, request)
}

fn two_drives() -> Machine {
    Machine::new()
        .with_async("port", "", 0)
        .with_async("a", "port", 0)
        .with_async("b", "port", 0)
}

#[test]
fn a_report_says_what_was_measured() {
    let (run, request) = run(
        two_drives(),
        TeardownPolicy::Completion,
        &[(31, 35), (0, 30), (1, 21)],
    );
    let report = run.report(&request);
    assert_eq!((report.number, report.boot, report.at_ns), (3, 2, 12_345));
    assert_eq!(report.vcpu_pause_ns, 4_000_000);
    assert_eq!(report.teardown_start_ns, 10_000_000);
    assert_eq!(report.teardown_ns, 35_000_000);
    assert_eq!(report.serial_sum_ns, 54_000_000);
    assert_eq!(report.critical_path_ns, 34_000_000);
    assert!((report.efficiency - 34.0 / 35.0).abs() < 1e-9);
    let ids: Vec<_> = report
        .devices
        .iter()
        .map(|device| device.id.as_str())
        .collect();
    assert_eq!(ids, ["b", "a", "port"], "in the order of their ends");
    let port = &report.devices[2];
    assert_eq!(port.waited_on, ["a", "b"]);
    assert_eq!(port.held_up_by.as_deref(), Some("a"));
    assert_eq!(
        (port.ready_ns, port.start_ns, port.end_ns),
        (40_000_000, 41_000_000, 45_000_000)
    );
    assert_eq!(port.phases[0].start_ns, 41_000_000);
    assert_eq!(
        report
            .devices
            .iter()
            .map(|device| device.critical)
            .collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!(report.devices[0].parent.as_deref(), Some("port"));
    assert_eq!(report.devices[0].ready_ns, 10_000_000);
}

#[test]
fn the_critical_path_of_a_serial_run_is_what_completion_needs() {
    let (run, request) = run(
        two_drives(),
        TeardownPolicy::Serial,
        &[(50, 54), (20, 50), (0, 20)],
    );
    let report = run.report(&request);
    assert_eq!(report.critical_path_ns, 34_000_000);
    assert_eq!(report.serial_sum_ns, 54_000_000);
    assert_eq!(
        report.devices[1].waited_on,
        ["b"],
        "its turn came after b's"
    );
    assert!(report.devices.iter().all(|device| !device.asynchronous));
}

#[test]
fn an_overrun_counts_in_the_critical_path() {
    let (run, request) = run(
        two_drives(),
        TeardownPolicy::Completion,
        &[(40_000, 40_001), (0, 40_000), (0, 1)],
    );
    assert_eq!(run.report(&request).critical_path_ns, 40_001_000_000);
}

#[test]
fn a_phase_ends_with_the_device_that_was_given_up_in_it() {
    let spans = [(20, 21), (0, 20), (0, 10)];
    let (mut run, request) = run(two_drives(), TeardownPolicy::Completion, &spans);
    // A modelled delay is recorded when it is asked for, up to where it would have ended.
    let start = run.stamps[1].start;
    run.stamps[1].phases.record("late", start, start + ms(3000));
    let report = run.report(&request);
    let given_up = report
        .devices
        .iter()
        .find(|device| device.id == "a")
        .unwrap();
    assert_eq!(given_up.phases[1].end_ns, given_up.end_ns);
}

#[test]
fn the_rest_is_filled_in_later() {
    let (run, request) = run(
        two_drives(),
        TeardownPolicy::Completion,
        &[(31, 35), (0, 30), (1, 21)],
    );
    let mut report = run.report(&request);
    assert_eq!(
        (
            report.reset_ns,
            report.reset_rest_ns,
            report.reset_to_ready_ns
        ),
        (None, None, None)
    );
    vcpus_resumed(&mut report, ms(50));
    guest_ready(&mut report, ms(900));
    guest_ready(&mut report, ms(950));
    assert_eq!(report.reset_ns, Some(50_000_000));
    assert_eq!(report.reset_rest_ns, Some(11_000_000));
    assert_eq!(report.reset_to_ready_ns, Some(900_000_000));
}

#[test]
fn a_machine_without_devices_has_a_report() {
    let (run, request) = run(Machine::new(), TeardownPolicy::Completion, &[]);
    let report = run.report(&request);
    assert_eq!(
        (
            report.teardown_ns,
            report.critical_path_ns,
            report.efficiency
        ),
        (0, 0, 1.0)
    );
}

#[test]
fn a_report_of_cookie_has_the_tasks_and_what_each_waited_for() {
    // Tasks: u 1, the list of x and y 2, c 3, p 4.
    let machine = Machine::new()
        .with_async("p", "", 0)
        .with_async("c", "p", 0)
        .with_sync("y", "", 0)
        .with_sync("x", "", 0)
        .with_async("u", "", 0);
    let spans = [(9, 10), (0, 1), (8, 9), (7, 8), (0, 7)];
    let (run, request) = run(machine, TeardownPolicy::Cookie, &spans);
    let report = run.report(&request);
    let of = |id: &str| report.devices.iter().find(|device| device.id == id);
    let seen = ["u", "x", "y", "c", "p"].map(|id| {
        let device = of(id).unwrap();
        let held_up_by = device.held_up_by.as_deref();
        (device.cookie, device.waited_for_cookie, held_up_by)
    });
    assert_eq!(
        seen,
        [
            (Some(1), None, None),
            (Some(2), Some(1), Some("u")),
            (Some(2), None, Some("x")),
            (Some(3), None, None),
            // Up to c's task, of which that of x and y ends last.
            (Some(4), Some(3), Some("y")),
        ]
    );
    assert_eq!(of("y").unwrap().waited_on, ["x"]);
    assert!(of("p").unwrap().waited_on.is_empty());
    assert_eq!(of("p").unwrap().ready_ns, 19_000_000);
    assert_eq!(report.critical_path_ns, 10_000_000);
    let critical: Vec<_> = report
        .devices
        .iter()
        .filter(|device| device.critical)
        .map(|device| device.id.as_str())
        .collect();
    assert_eq!(critical, ["u", "x", "y", "p"]);
}

#[test]
fn the_critical_path_takes_locks_in_the_order_of_the_run() {
    let machine = Machine::new()
        .with_async("hub", "", 0)
        .with_locking("short", "hub", 0)
        .with_locking("long", "hub", 0)
        .with_async("leaf", "", 0)
        .linked("short", "leaf");
    // `leaf` waits for `short`: which of the two has the lock first decides how late it is.
    for first_long in [true, false] {
        let spans = if first_long {
            [(11, 12), (10, 11), (0, 10), (11, 31)]
        } else {
            [(11, 12), (0, 1), (1, 11), (1, 21)]
        };
        let (run, request) = run(machine.clone(), TeardownPolicy::Completion, &spans);
        let report = run.report(&request);
        assert_eq!(report.critical_path_ns, report.teardown_ns);
        let short = report.devices.iter().find(|device| device.id == "short");
        let short = short.unwrap();
        let held_up_by = first_long.then_some("long");
        assert_eq!(short.held_up_by.as_deref(), held_up_by);
        assert!(short.waited_on.is_empty(), "a lock is no dependency");
        assert_eq!(short.ready_ns, short.start_ns);
    }
}
