//! A summary as people read it: a line a figure, a column a policy.

use std::fmt::Write;

use vmm::measure::{Figure, PolicySummary, Spread, Summary};

use crate::table::{Align, Table};

type Cell = fn(&PolicySummary) -> String;

const LINES: [(&str, Cell); 11] = [
    ("reboots", |policy| policy.reboots.to_string()),
    ("teardown, ms", |policy| times(policy.teardown_ns)),
    ("  predicted, ms", |policy| {
        let predicted = policy.predicted_teardown_ns;
        predicted.map_or_else(none, |ns| format!("{:.1}", ns as f64 / 1e6))
    }),
    ("  critical path, ms", |policy| {
        times(policy.critical_path_ns)
    }),
    ("  efficiency", |policy| ratios(policy.efficiency)),
    ("vCPU pause, ms", |policy| times(policy.vcpu_pause_ns)),
    ("rest of reset, ms", |policy| times(policy.reset_rest_ns)),
    ("reset to running, ms", |policy| times(policy.reset_ns)),
    ("reset to ready, ms", |policy| times(policy.ready_ns)),
    ("guest's handshakes, ms", |policy| {
        times(policy.guest_span_ns)
    }),
    ("  overlap", |policy| ratios(policy.guest_overlap)),
];

/// Draws the summary: figures as median (minimum to maximum), ratios, bounds, problems.
pub fn draw(summary: &Summary) -> String {
    let mut head = vec![("", Align::Left)];
    let policies = || summary.policies.iter();
    head.extend(policies().map(|policy| (policy.policy.name(), Align::Right)));
    let mut table = Table::new(&head);
    for (name, cell) in LINES {
        let mut row = vec![name.to_owned()];
        row.extend(policies().map(cell));
        table.row(row);
    }
    let mut text = table.draw();
    text.push('\n');
    // Writing to a string does not fail.
    for policy in policies() {
        if let Some(line) = compared(summary, policy) {
            let _ = writeln!(text, "{line}");
        }
    }
    for bound in &summary.bounds {
        let verdict = if bound.holds { "holds " } else { "MISSED" };
        let _ = writeln!(text, "bound {verdict}  {}", bound.said);
    }
    for problem in &summary.problems {
        let _ = writeln!(text, "PROBLEM  {problem}");
    }
    if summary.problems.is_empty() && summary.reboots > 0 {
        let _ = writeln!(text, "every device shut down, every order rule kept");
    }
    if summary.page_has.len() < summary.reboots {
        let _ = writeln!(
            text,
            "page.html and trace.json have {} of the {} teardowns: of each policy the median and the slowest, \
             and those with trouble; the other files have all",
            summary.page_has.len(),
            summary.reboots
        );
    }
    text
}

/// What a policy is faster in than the first, and by how much.
fn compared(summary: &Summary, policy: &PolicySummary) -> Option<String> {
    let teardown = summary.ratio(Figure::Teardown, policy.policy)?;
    let rounds = teardown.of_rounds;
    let mut line = format!(
        "{} against {}: teardown {:.2} times faster (rounds {:.2} to {:.2})",
        policy.policy, teardown.reference, teardown.of_medians, rounds.min, rounds.max
    );
    if let Some(reset) = summary.ratio(Figure::Reset, policy.policy) {
        let _ = write!(line, ", reset to running {:.2}", reset.of_medians);
    }
    Some(line)
}

fn times(spread: Option<Spread<u64>>) -> String {
    let ms = |ns: u64| format!("{:.1}", ns as f64 / 1e6);
    spread.map_or_else(none, |spread| {
        cell(spread.n, ms(spread.median), ms(spread.min), ms(spread.max))
    })
}

fn ratios(spread: Option<Spread<f64>>) -> String {
    let two = |ratio: f64| format!("{ratio:.2}");
    spread.map_or_else(none, |spread| {
        cell(
            spread.n,
            two(spread.median),
            two(spread.min),
            two(spread.max),
        )
    })
}

fn cell(n: usize, median: String, min: String, max: String) -> String {
    if n == 1 {
        return median;
    }
    format!("{median} ({min} to {max})")
}

fn none() -> String {
    "-".to_owned()
}
