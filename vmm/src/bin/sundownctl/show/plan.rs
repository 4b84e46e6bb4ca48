//! Plans: a line a policy, then what each hangs on and what would help.

use std::fmt::Write;

use api::config::TeardownPolicy;
use api::plan::{Change, PlanReport, PlannedDevice, Plans, PolicyPlan, Saving};

use vmm::plan::topology::Checked;

use crate::table::{Align, Table};

/// So many devices are shown where not all are.
const DEVICES: usize = 12;
/// So many changes are shown where not all are.
const SAVINGS: usize = 3;
/// So many devices of a critical chain are shown where not all are.
const LINKS: usize = 8;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What takes longest.
    Most,
    /// Everything.
    All,
}

/// The plans of a machine: host, then guest. Devices are listed for the policy that is set.
pub fn plans(plans: &Plans, detail: Detail) -> String {
    let mut text = String::from("HOST: the VMM's teardown\n");
    text += &report(&plans.host, plans.policy, detail);
    if let Some(guest) = &plans.guest {
        text += "\nGUEST: the kernel's own shutdown before it, under the same rules\n";
        text += &report(guest, plans.policy, detail);
    }
    text
}

/// One report; the devices of the policy `chosen`.
pub fn report(report: &PlanReport, chosen: TeardownPolicy, detail: Detail) -> String {
    let mut text = format!(
        "{} devices, {} workers; one after the other {}, no order is faster than {}\n\n",
        report.devices,
        report.workers,
        time(report.serial_sum_ns),
        time(report.lower_bound_ns)
    );
    text += &policies(report);
    for assumption in &report.assumptions {
        // Writing to a string does not fail.
        let _ = writeln!(text, "assumed: {assumption}");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for plan in &report.policies {
        let _ = writeln!(text, "\n{}: {}", plan.policy, time(plan.total_ns));
        if plan.policy == chosen {
            text += &devices(&plan.order, detail);
        }
        text += &hangs_on(plan, detail);
        text += &savings(&plan.savings, plan.total_ns, detail);
        for warning in &plan.warnings {
            let _ = writeln!(text, "  warning: {warning}");
        }
    }
    text
}

/// What a topology file expects, and what is.
pub fn expectations(expectations: &[Checked]) -> String {
    if expectations.is_empty() {
        return String::new();
    }
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("EXPECTED", Align::Left),
        right("TIME"),
        right("PREDICTED"),
        (" ", Align::Left),
        right("LINE"),
    ]);
    for checked in expectations {
        let tolerance = match checked.tolerance_percent {
            0.0 => String::new(),
            percent => format!(" ± {percent} %"),
        };
        table.row(vec![
            checked.figure.to_owned(),
            format!("{}{tolerance}", time(checked.wanted_ns)),
            checked.predicted_ns.map_or_else(|| "-".to_owned(), time),
            if checked.met { "met" } else { "MISSED" }.to_owned(),
            checked.line.to_string(),
        ]);
    }
    format!("\n{}", table.draw())
}

fn policies(report: &PlanReport) -> String {
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("POLICY", Align::Left),
        right("TOTAL"),
        right("× BOUND"),
        right("CRITICAL PATH"),
        right("WORKERS USED"),
    ]);
    for plan in &report.policies {
        let times = match report.lower_bound_ns {
            0 => "-".to_owned(),
            bound => format!("{:.2}", plan.total_ns as f64 / bound as f64),
        };
        table.row(vec![
            plan.policy.to_string(),
            time(plan.total_ns),
            times,
            time(plan.critical_path_ns),
            plan.workers_used.to_string(),
        ]);
    }
    table.draw()
}

/// The devices in the order in which they start.
fn devices(order: &[PlannedDevice], detail: Detail) -> String {
    let takes = |device: &PlannedDevice| device.end_ns.saturating_sub(device.start_ns);
    let mut shown: Vec<usize> = (0..order.len()).collect();
    if detail == Detail::Most {
        if order.iter().any(|device| takes(device) > 0) {
            shown.retain(|&at| takes(&order[at]) > 0);
        }
        // Those that take longest; among equals those that the end hangs on, then the earlier.
        shown.sort_by_key(|&at| {
            let device = &order[at];
            (std::cmp::Reverse((takes(device), device.critical)), at)
        });
        shown.truncate(DEVICES);
        shown.sort_unstable();
    }
    let (left, right) = (|name| (name, Align::Left), |name| (name, Align::Right));
    let mut table = Table::new(&[
        left("  DEVICE"),
        left("ASYNC"),
        right("START"),
        right("END"),
        right("TAKES"),
        left("HELD UP BY"),
        left(""),
    ]);
    for &at in &shown {
        let device = &order[at];
        let end = if device.timed_out {
            "given up at its deadline"
        } else {
            ""
        };
        table.row(vec![
            format!("  {}{}", device.id, if device.critical { " *" } else { "" }),
            if device.asynchronous { "yes" } else { "no" }.to_owned(),
            time(device.start_ns),
            time(device.end_ns),
            time(takes(device)),
            device.held_up_by.clone().unwrap_or_default(),
            end.to_owned(),
        ]);
    }
    let mut text = table.draw();
    match order.len() - shown.len() {
        0 => {}
        left => {
            let _ = writeln!(text, "  and {left} more, which --all shows");
        }
    }
    text
}

fn hangs_on(plan: &PolicyPlan, detail: Detail) -> String {
    if plan.total_ns == 0 {
        return "  takes no time\n".to_owned();
    }
    // In a long chain those that take no time only tell how the others hang together.
    let chain: Vec<&str> = if detail == Detail::All || plan.critical.len() <= LINKS {
        plan.critical.iter().map(String::as_str).collect()
    } else {
        let critical = plan.order.iter().filter(|device| device.critical);
        critical
            .filter(|device| device.end_ns > device.start_ns)
            .map(|device| device.id.as_str())
            .collect()
    };
    let text = match chain.len().checked_sub(LINKS) {
        Some(left @ 1..) if detail == Detail::Most => {
            let (head, tail) = (&chain[..LINKS / 2], &chain[chain.len() - LINKS / 2..]);
            format!(
                "{} → ({left} more) → {}",
                head.join(" → "),
                tail.join(" → ")
            )
        }
        _ => chain.join(" → "),
    };
    format!("  hangs on  {text}\n")
}

fn savings(savings: &[Saving], total_ns: u64, detail: Detail) -> String {
    if savings.is_empty() && total_ns > 0 {
        return "  no single change helps\n".to_owned();
    }
    // Devices that are alike can be changed to the same effect: one stands for the others.
    let alike = |one: &Saving, other: &Saving| {
        let kind = |saving: &Saving| std::mem::discriminant(&saving.change);
        kind(one) == kind(other) && one.total_ns == other.total_ns
    };
    let mut kinds: Vec<(&Saving, bool)> = Vec::new();
    for saving in savings {
        let known = kinds.iter_mut().find(|(first, _)| alike(first, saving));
        match known {
            Some((_, others)) if detail == Detail::Most => *others = true,
            _ => kinds.push((saving, false)),
        }
    }
    if detail == Detail::Most {
        kinds.truncate(SAVINGS);
    }
    let mut text = String::new();
    for (at, (saving, others)) in kinds.into_iter().enumerate() {
        let label = if at == 0 {
            "  would help"
        } else {
            "  or        "
        };
        let others = if others { " (so would others)" } else { "" };
        let _ = writeln!(
            text,
            "{label}  {}: {} → {}{others}",
            in_words(&saving.change),
            time(total_ns),
            time(saving.total_ns)
        );
    }
    text
}

fn in_words(change: &Change) -> String {
    match change {
        Change::MakeAsync { device } => format!("make `{device}` asynchronous"),
        Change::RemoveLink { consumer, supplier } => {
            format!("remove the link from `{consumer}` to `{supplier}`")
        }
        Change::HalveLatency {
            device,
            from_ns,
            to_ns,
        } => format!(
            "halve what `{device}` takes, {} to {}",
            time(*from_ns),
            time(*to_ns)
        ),
        Change::AddWorkers { from, to } => format!("give it {to} workers in place of {from}"),
    }
}

/// Nanoseconds in the unit that suits them.
pub fn time(ns: u64) -> String {
    if ns < 1_000_000_000 {
        return format!("{} ms", super::ms(ns));
    }
    format!(
        "{}.{:03} s",
        ns / 1_000_000_000,
        ns % 1_000_000_000 / 1_000_000
    )
}

#[cfg(test)]
mod tests;
