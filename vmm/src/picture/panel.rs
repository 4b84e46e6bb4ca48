//! One teardown's part of a picture: heading, totals, time axis, a row per device; and the legend.

use api::report::{DeviceReport, Outcome, TeardownReport};

use super::axis::Axis;
use super::canvas::{Anchor, Canvas};
use super::rows::{Row, rows};
use super::{BARS, MARGIN, WIDTH, cause, milliseconds, policy};

/// Colours for phases.
const COLOURS: usize = 8;

/// How far from the reset request the picture of a report goes.
pub(super) fn length_ns(report: &TeardownReport) -> u64 {
    let last = report
        .devices
        .iter()
        .map(|device| device.end_ns)
        .max()
        .unwrap_or(0);
    last.max(report.reset_ns.unwrap_or(0))
        .max(report.teardown_start_ns + report.teardown_ns)
}

/// One teardown, to be drawn.
pub(super) struct Panel<'a> {
    report: &'a TeardownReport,
    axis: &'a Axis,
    rows: Vec<Row<'a>>,
    phases: &'a [String],
    row_height: f64,
    text_class: &'static str,
}

impl<'a> Panel<'a> {
    pub(super) fn new(report: &'a TeardownReport, axis: &'a Axis, phases: &'a [String]) -> Self {
        let rows = rows(report);
        let (row_height, text_class) = if rows.len() <= 48 {
            (20.0, "name")
        } else {
            (13.0, "small")
        };
        Self {
            report,
            axis,
            rows,
            phases,
            row_height,
            text_class,
        }
    }

    /// Draws the panel from `y` down and returns where it ends.
    pub(super) fn draw(&self, canvas: &mut Canvas, y: f64) -> f64 {
        let y = self.heading(canvas, y);
        let top = y + 18.0;
        let rows_top = top + self.row_height + 6.0;
        let bottom = rows_top + self.rows.len() as f64 * self.row_height;
        for number in (0..self.rows.len()).step_by(2) {
            let y = rows_top + number as f64 * self.row_height;
            canvas.rect(
                MARGIN,
                y,
                WIDTH - 2.0 * MARGIN,
                self.row_height,
                "stripe",
                "",
            );
        }
        for (at, label) in self.axis.ticks() {
            let x = self.axis.x(at);
            canvas.line(x, top - 4.0, x, bottom, "grid");
            canvas.text(x, top - 8.0, "tick", Anchor::Middle, &label);
        }
        canvas.text(
            MARGIN,
            top - 8.0,
            "tick",
            Anchor::Start,
            "from the reset request",
        );
        self.whole_reset(canvas, top);
        self.tree_lines(canvas, rows_top);
        for (number, row) in self.rows.iter().enumerate() {
            self.row(canvas, row, rows_top + number as f64 * self.row_height);
        }
        bottom
    }

    fn heading(&self, canvas: &mut Canvas, y: f64) -> f64 {
        let report = self.report;
        let title = format!(
            "Teardown {}: {}, by {}, boot {}",
            report.number,
            policy(report.policy),
            cause(report.cause),
            report.boot
        );
        canvas.text(MARGIN, y + 16.0, "heading", Anchor::Start, &title);
        let totals = format!(
            "teardown {} · critical path {} · efficiency {:.1} % · serial sum {} · {} devices · workers used: {} of {}",
            milliseconds(report.teardown_ns),
            milliseconds(report.critical_path_ns),
            report.efficiency * 100.0,
            milliseconds(report.serial_sum_ns),
            report.devices.len(),
            report.workers_used,
            report.workers,
        );
        canvas.text(MARGIN, y + 38.0, "totals", Anchor::Start, &totals);
        let figure = |ns: Option<u64>| ns.map_or("not seen".to_owned(), milliseconds);
        let reset = format!(
            "vCPU pause {} · rest of the reset {} · request to vCPUs running {} · to the guest's boot marker {}",
            milliseconds(report.vcpu_pause_ns),
            figure(report.reset_rest_ns),
            figure(report.reset_ns),
            figure(report.reset_to_ready_ns),
        );
        canvas.text(MARGIN, y + 56.0, "totals dim", Anchor::Start, &reset);
        let mut y = y + 66.0;
        for warning in &report.warnings {
            y += 16.0;
            canvas.text(
                MARGIN,
                y,
                "bad",
                Anchor::Start,
                &clipped(&format!("warning: {warning}"), 170),
            );
        }
        y + 12.0
    }

    /// The row above the devices: pause, teardown, rest.
    fn whole_reset(&self, canvas: &mut Canvas, y: f64) {
        let report = self.report;
        let middle = y + self.row_height * 0.5 + 4.0;
        canvas.text(
            MARGIN,
            middle,
            &format!("{} bold", self.text_class),
            Anchor::Start,
            "the whole reset",
        );
        let teardown_end = report.teardown_start_ns + report.teardown_ns;
        let parts = [
            ("pause", "vCPU pause", 0, Some(report.vcpu_pause_ns)),
            (
                "teardown",
                "teardown",
                report.teardown_start_ns,
                Some(teardown_end),
            ),
            ("rest", "rest of the reset", teardown_end, report.reset_ns),
        ];
        for (class, name, start, end) in parts {
            let Some(end) = end.filter(|&end| end > start) else {
                continue;
            };
            let title = format!("{name}: {}", milliseconds(end - start));
            self.bar(canvas, y, start, end, class, &title);
        }
        let end = report.reset_ns.unwrap_or(teardown_end).max(teardown_end);
        self.figure(canvas, middle, end, "bold", &milliseconds(end));
    }

    fn tree_lines(&self, canvas: &mut Canvas, top: f64) {
        for (number, row) in self
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.depth > 0)
        {
            let y = top + (number as f64 + 0.5) * self.row_height;
            let x = indent(row.depth) - 8.0;
            // Up to the parent or to the sibling before it, whose own line goes on from there.
            let up = self.rows[..number]
                .iter()
                .rev()
                .position(|other| other.depth <= row.depth)
                .unwrap_or(0);
            canvas.line(x, y - (up as f64 + 0.5) * self.row_height, x, y, "tree");
            canvas.line(x, y, x + 5.0, y, "tree");
        }
    }

    fn row(&self, canvas: &mut Canvas, row: &Row<'_>, y: f64) {
        let device = row.device;
        let base = y + self.row_height * 0.5 + 4.0;
        let weight = if device.critical { " bold" } else { "" };
        let name = clipped(&device.id, 30_usize.saturating_sub(2 * row.depth).max(8));
        canvas.text(
            indent(row.depth),
            base,
            &format!("{}{weight}", self.text_class),
            Anchor::Start,
            &name,
        );
        let kind = if device.asynchronous {
            device.class.clone()
        } else {
            format!("{}, sync", device.class)
        };
        canvas.text(
            BARS - 10.0,
            base,
            "small dim",
            Anchor::End,
            &clipped(&kind, 24),
        );

        let (left, right) = (self.axis.x(device.start_ns), self.axis.x(device.end_ns));
        let middle = y + self.row_height * 0.5;
        let ready = self.axis.x(device.ready_ns);
        if left - ready > 2.0 {
            canvas.line(ready, middle, left, middle, "queued");
        }
        let title = hover(device);
        let bar = if device.outcome == Outcome::TimedOut {
            "given-up"
        } else {
            "bar"
        };
        self.bar(canvas, y, device.start_ns, device.end_ns, bar, &title);
        if device.outcome != Outcome::TimedOut {
            for phase in &device.phases {
                let class = self
                    .phases
                    .iter()
                    .position(|name| *name == phase.name)
                    .unwrap_or(0)
                    % COLOURS;
                let end = phase.end_ns.clamp(device.start_ns, device.end_ns);
                let start = phase.start_ns.clamp(device.start_ns, end);
                self.bar(canvas, y, start, end, &format!("p{class}"), &title);
            }
        }
        let (inset, height) = (self.inset(), self.row_height - 2.0 * self.inset());
        let frame = match (device.critical, device.asynchronous) {
            (true, _) => "critical",
            (false, false) => "sync",
            (false, true) => "",
        };
        if !frame.is_empty() {
            canvas.rect(
                left,
                y + inset,
                (right - left).max(1.0),
                height,
                frame,
                &title,
            );
        }
        let took = milliseconds(device.end_ns.saturating_sub(device.start_ns));
        match &device.outcome {
            Outcome::Done => self.figure(canvas, base, device.end_ns, "dim", &took),
            Outcome::TimedOut => self.figure(
                canvas,
                base,
                device.end_ns,
                "bad",
                &format!("{took}, timed out"),
            ),
            Outcome::Failed { error } => {
                self.figure(
                    canvas,
                    base,
                    device.end_ns,
                    "bad",
                    &clipped(&format!("failed: {error}"), 60),
                );
            }
        }
    }

    fn bar(&self, canvas: &mut Canvas, y: f64, start: u64, end: u64, class: &str, title: &str) {
        let (left, right) = (self.axis.x(start), self.axis.x(end));
        let inset = self.inset();
        canvas.rect(
            left,
            y + inset,
            (right - left).max(1.0),
            self.row_height - 2.0 * inset,
            class,
            title,
        );
    }

    fn inset(&self) -> f64 {
        if self.row_height < 16.0 { 2.0 } else { 4.0 }
    }

    /// A figure right of the moment `at`, or left of the picture's edge if it were to run over it.
    fn figure(&self, canvas: &mut Canvas, base: f64, at: u64, class: &str, text: &str) {
        let room = WIDTH - MARGIN - self.axis.x(at) - 6.0;
        let needed = text.chars().count() as f64 * 6.2;
        if needed <= room {
            canvas.text(
                self.axis.x(at) + 6.0,
                base,
                &format!("small {class}"),
                Anchor::Start,
                text,
            );
        } else {
            canvas.text(
                WIDTH - MARGIN,
                base,
                &format!("small {class}"),
                Anchor::End,
                text,
            );
        }
    }
}

/// What the colours and frames mean. Returns where it ends.
pub(super) fn legend(canvas: &mut Canvas, phases: &[String], y: f64) -> f64 {
    let mut marks: Vec<(String, String)> = phases
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("p{}", number % COLOURS), name.clone()))
        .collect();
    marks.extend(
        [
            ("bar", "outside any phase"),
            ("critical", "on the critical path"),
            ("sync", "synchronous"),
            ("given-up", "given up at its deadline"),
            ("pause", "vCPU pause"),
            ("teardown", "teardown"),
            ("rest", "rest of the reset"),
        ]
        .map(|(class, name)| (class.to_owned(), name.to_owned())),
    );
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
pub(super) fn phase_names(reports: &[TeardownReport]) -> Vec<String> {
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

fn hover(device: &DeviceReport) -> String {
    let mut lines = vec![format!(
        "{}{}: {}",
        device.id,
        device
            .address
            .as_ref()
            .map_or(String::new(), |address| format!(" ({address})")),
        milliseconds(device.end_ns.saturating_sub(device.start_ns))
    )];
    lines.push(format!(
        "from {} to {}",
        milliseconds(device.start_ns),
        milliseconds(device.end_ns)
    ));
    for phase in &device.phases {
        lines.push(format!(
            "{}: {}",
            phase.name,
            milliseconds(phase.end_ns.saturating_sub(phase.start_ns))
        ));
    }
    if let Some(other) = &device.held_up_by {
        lines.push(format!("waited longest for {other}"));
    }
    lines.join("\n")
}

fn indent(depth: usize) -> f64 {
    MARGIN + depth.min(8) as f64 * 14.0
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}
