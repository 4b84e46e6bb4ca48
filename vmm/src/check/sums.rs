//! The totals of a report, from its stamps.

use api::report::TeardownReport;

use super::violation::{Found, Rule, ms};

/// How far the efficiency may be from the quotient that it is: it goes through text.
const CLOSE: f64 = 1e-6;

/// Checks the totals. That of the critical path needs the rules: see `path`.
pub(super) fn check(report: &TeardownReport, found: &mut Found) {
    let devices = &report.devices;
    let mut same = |what: &str, told: u64, stamped: u64| {
        found.unless(told == stamped, Rule::Sum, &[], || {
            format!(
                "{what} is given as {} ms, but the stamps say {} ms",
                ms(told),
                ms(stamped)
            )
        });
    };
    let start = devices.iter().map(|device| device.start_ns).min();
    let end = devices.iter().map(|device| device.end_ns).max();
    if let (Some(start), Some(end)) = (start, end) {
        same(
            "the teardown",
            report.teardown_ns,
            end.saturating_sub(start),
        );
        same("the teardown's begin", report.teardown_start_ns, start);
    }
    let sum = devices.iter().fold(0_u64, |sum, device| {
        sum.saturating_add(device.end_ns.saturating_sub(device.start_ns))
    });
    same("the sum of all devices", report.serial_sum_ns, sum);
    if let (Some(reset), Some(rest)) = (report.reset_ns, report.reset_rest_ns) {
        let parts = report.vcpu_pause_ns.saturating_add(report.teardown_ns);
        same("the whole reset", reset, parts.saturating_add(rest));
    }
    found.unless(
        report.reset_ns.is_some() == report.reset_rest_ns.is_some(),
        Rule::Sum,
        &[],
        || "of the whole reset and its rest only one is given".to_owned(),
    );
    if let Some(ready) = report.reset_to_ready_ns {
        found.unless(
            report.reset_ns.is_some_and(|reset| reset <= ready),
            Rule::Sum,
            &[],
            || {
                format!(
                    "the guest was ready at {} ms, before its vCPUs ran",
                    ms(ready)
                )
            },
        );
    }
    check_efficiency(report, found);
    check_workers(report, found);
}

fn check_efficiency(report: &TeardownReport, found: &mut Found) {
    let efficiency = if report.teardown_ns == 0 {
        1.0
    } else {
        report.critical_path_ns as f64 / report.teardown_ns as f64
    };
    found.unless(
        (report.efficiency - efficiency).abs() <= CLOSE,
        Rule::Sum,
        &[],
        || {
            format!(
                "the efficiency is given as {}, but critical path ÷ teardown is {efficiency}",
                report.efficiency
            )
        },
    );
}

fn check_workers(report: &TeardownReport, found: &mut Found) {
    let (used, bound) = (report.workers_used, report.workers.max(1));
    found.unless(used <= bound, Rule::Workers, &[], || {
        format!("{used} workers were used, {bound} are allowed")
    });
    let any = report.devices.iter().any(|device| device.asynchronous);
    found.unless(any || used == 0, Rule::Workers, &[], || {
        format!("nothing is asynchronous, but {used} workers were used")
    });
}
