//! The table of the reboots, for people.

use crate::results::{Run, policy_name};

const HEAD: [&str; 11] = [
    "reboot",
    "policy",
    "cause",
    "drives",
    "data",
    "vCPU pause",
    "teardown",
    "critical path",
    "efficiency",
    "rest of reset",
    "reset to ready",
];
/// Columns of words, left-aligned; the others are of numbers.
const WORDS: [usize; 3] = [1, 2, 4];

/// Draws the table.
pub fn draw(runs: &[Run]) -> String {
    let rows: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(at, run)| row(at + 1, run))
        .collect();
    let head = HEAD.map(str::to_owned);
    let widths: Vec<_> = (0..HEAD.len())
        .map(|column| {
            rows.iter()
                .chain([&head])
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let rule: String = widths.iter().map(|width| "─".repeat(width + 2)).collect();
    let lines: Vec<_> = rows.iter().map(|cells| line(cells, &widths)).collect();
    format!("{}\n{rule}\n{}\n", line(&head, &widths), lines.join("\n"))
}

fn row(number: usize, run: &Run) -> [String; 11] {
    let ms = |ms: f64| format!("{ms:.1} ms");
    let some_ms = |value: Option<f64>| value.map_or_else(|| "not seen".to_owned(), ms);
    [
        number.to_string(),
        policy_name(run.policy),
        run.cause_name(),
        format!("{} of {}", run.namespaces_seen, run.drives),
        if run.data_intact { "intact" } else { "LOST" }.to_owned(),
        ms(run.vcpu_pause_ms),
        ms(run.teardown_ms),
        ms(run.critical_path_ms),
        format!("{:.1} %", run.efficiency * 100.0),
        some_ms(run.reset_rest_ms),
        some_ms(run.reset_to_ready_ms),
    ]
}

fn line(cells: &[String; 11], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());
        line += &if WORDS.contains(&column) {
            format!(" {cell}{padding} ")
        } else {
            format!(" {padding}{cell} ")
        };
    }
    line.trim_end().to_owned()
}
