//! One teardown's part of a picture: heading, totals, time axis, a row per device.

use api::report::TeardownReport;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas};
use super::rows::{Row, rows};
use super::{Detail, MARGIN, WIDTH, cause, milliseconds, policy};

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
    pub(super) axis: &'a Axis,
    pub(super) detail: Detail,
    rows: Vec<Row<'a>>,
    pub(super) phases: &'a [String],
    pub(super) row_height: f64,
    pub(super) text_class: &'static str,
}

impl<'a> Panel<'a> {
    pub(super) fn new(
        report: &'a TeardownReport,
        axis: &'a Axis,
        detail: Detail,
        phases: &'a [String],
    ) -> Self {
        let rows = rows(report, detail);
        let (row_height, text_class) = if rows.len() <= 48 {
            (20.0, "name")
        } else {
            (13.0, "small")
        };
        Self {
            report,
            axis,
            detail,
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
            let y = rows_top + number as f64 * self.row_height;
            match row {
                Row::Device { device, depth } => self.device(canvas, device, *depth, y),
                Row::Rest(devices) => self.rest(canvas, devices, y),
            }
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
            .filter(|(_, row)| row.depth() > 0)
        {
            let y = top + (number as f64 + 0.5) * self.row_height;
            let x = indent(row.depth()) - 8.0;
            // Up to the parent or to the sibling before it, whose own line goes on from there.
            let up = self.rows[..number]
                .iter()
                .rev()
                .position(|other| other.depth() <= row.depth())
                .unwrap_or(0);
            canvas.line(x, y - (up as f64 + 0.5) * self.row_height, x, y, "tree");
            canvas.line(x, y, x + 5.0, y, "tree");
        }
    }
}

/// Where the name of a device this deep in the tree begins.
pub(super) fn indent(depth: usize) -> f64 {
    MARGIN + depth.min(8) as f64 * 14.0
}

/// At most this many characters of a text.
pub(super) fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}
