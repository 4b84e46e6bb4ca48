//! A page about teardowns: one HTML file that needs nothing else, for one reboot or for a comparison of
//! several. Made from reports alone. It can be read and printed without its script, which adds details
//! on hover, keys, zoom, sorting and copying.

mod axis;
mod chart;
mod facts;
mod lane;
mod legend;
mod scale;
mod section;
mod table;
mod text;
mod timeline;
mod verdict;

use std::collections::HashSet;

use api::report::TeardownReport;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::picture::legend::phase_names;
use crate::picture::word;

const STYLE: &str = concat!(
    include_str!("style/page.css"),
    include_str!("style/timeline.css"),
    include_str!("style/print.css")
);
// One block, so that no name of it is the whole page's.
const SCRIPT: &str = concat!(
    "\"use strict\";\n{\n",
    include_str!("script/details.js"),
    include_str!("script/axis.js"),
    include_str!("script/timeline.js"),
    include_str!("script/page.js"),
    "}\n"
);

/// The page of these teardowns, one section each; of more than one, with a comparison first.
pub fn document(reports: &[TeardownReport]) -> String {
    let phases = phase_names(reports);
    let title = title(reports);
    let keys = keys(reports);
    let sections = || reports.iter().zip(&keys);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Whatever a report holds, a reader's browser asks nobody for anything.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="Sundown";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (tools())
                main {
                    @if reports.len() != 1 {
                        h1 { (title) }
                        (chart::comparison(reports, &keys))
                    }
                    @for (report, &key) in sections() {
                        (section::section(report, key, &phases, reports.len() == 1))
                    }
                }
                footer {
                    "Measured by Sundown on one monotonic clock of the host. 0 is the guest’s reset request. "
                    "Point at a figure for its nanoseconds."
                }
                (help())
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// What the parts of each teardown are called in the page: by its number, or by its place if two reports
/// have one number because they come from two machines.
fn keys(reports: &[TeardownReport]) -> Vec<u64> {
    let numbers: Vec<u64> = reports.iter().map(|report| report.number).collect();
    let distinct: HashSet<u64> = numbers.iter().copied().collect();
    if distinct.len() == numbers.len() {
        numbers
    } else {
        (1..=numbers.len() as u64).collect()
    }
}

fn title(reports: &[TeardownReport]) -> String {
    match reports {
        [] => "No teardowns".to_owned(),
        [report] => format!(
            "Teardown {}: {}, by {}",
            report.number,
            report.policy,
            word(&report.cause)
        ),
        _ => format!("{} teardowns compared", reports.len()),
    }
}

/// Buttons that only the script can serve; without it they are not shown.
fn tools() -> Markup {
    html! {
        div class="tools scripted" {
            button type="button" data-do="theme" title="Light, dark, or as the system has it" { "Theme: system" }
            button type="button" data-do="keys" aria-keyshortcuts="?" { "Keys " kbd { "?" } }
        }
    }
}

fn help() -> Markup {
    let keys = [
        ("↑ ↓", "the device above, below"),
        (
            "← →",
            "the device before it in the tree, the first one behind it",
        ),
        ("Home End", "the first, the last device"),
        ("Enter", "hold its details; again or Esc lets go"),
        ("h", "go to the device that held it up"),
        ("c", "go to the next device on the critical path"),
        ("t", "go to its line in the table"),
        ("z", "zoom to its bar"),
        ("+ − 0", "zoom in, out, all; or drag over the axis"),
        ("s", "guest and host on one scale, and back"),
        ("n p", "the next, the previous teardown"),
        ("?", "these keys"),
    ];
    html! {
        dialog id="keys" aria-labelledby="keys-title" {
            h2 id="keys-title" { "Keys" }
            dl {
                @for (key, what) in keys {
                    dt { @for key in key.split(' ') { kbd { (key) } " " } }
                    dd { (what) }
                }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}
