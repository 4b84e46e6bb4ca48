//! What the colours and frames of a picture mean.

use api::report::{DeviceReport, Outcome, TeardownReport};

use super::canvas::{Anchor, Canvas};
use super::{MARGIN, WIDTH};

/// Colours for phases.
pub(crate) const COLOURS: usize = 8;

/// What the colours and frames mean. Returns where it ends.
pub(super) fn legend(
    canvas: &mut Canvas,
    reports: &[TeardownReport],
    phases: &[String],
    y: f64,
) -> f64 {
    let any =
        |of: fn(&DeviceReport) -> bool| reports.iter().any(|report| report.devices.iter().any(of));
    let mut marks: Vec<(String, String)> = phases
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("p{}", number % COLOURS), name.clone()))
        .collect();
    let others = [
        ("bar", "outside any phase", true),
        (
            "critical",
            "on the critical path",
            any(|device| device.critical),
        ),
        ("sync", "synchronous", any(|device| !device.asynchronous)),
        (
            "given-up",
            "given up at its deadline",
            any(|device| device.outcome == Outcome::TimedOut),
        ),
        ("pause", "vCPU pause", true),
        ("teardown", "teardown", true),
        ("rest", "rest of the reset", true),
    ];
    let occurring = others.iter().filter(|(_, _, occurs)| *occurs);
    marks.extend(occurring.map(|(class, name, _)| ((*class).to_owned(), (*name).to_owned())));
    let (mut x, mut y) = (MARGIN, y);
    for (class, name) in marks {
        let width = 36.0 + name.chars().count() as f64 * 6.2;
        if x + width > WIDTH - MARGIN {
            x = MARGIN;
            y += 20.0;
        }
        canvas.rect(x, y, 14.0, 12.0, &class, "");
        canvas.text(x + 20.0, y + 10.0, "note", Anchor::Start, &name);
        x += width;
    }
    canvas.text(
        MARGIN,
        y + 34.0,
        "note",
        Anchor::Start,
        "A dotted line is the time a device was ready and had not started. Bold names lie on the critical path.",
    );
    y + 38.0
}

/// The names of all phases, sorted. A name's place gives its colour in all panels.
pub(crate) fn phase_names(reports: &[TeardownReport]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for phase in reports
        .iter()
        .flat_map(|report| &report.devices)
        .flat_map(|device| &device.phases)
    {
        if !names.contains(&phase.name) {
            names.push(phase.name.clone());
        }
    }
    names.sort();
    names
}
