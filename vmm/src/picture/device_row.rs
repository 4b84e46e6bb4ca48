//! A row of a panel: name, kind, bar with phases, figure.

use api::report::{DeviceReport, Outcome};

use super::canvas::{Anchor, Canvas};
use super::legend::COLOURS;
use super::panel::{Panel, clipped, indent};
use super::{BARS, Detail, MARGIN, WIDTH, milliseconds};

impl Panel<'_> {
    /// Draws a device's row.
    pub(super) fn device(&self, canvas: &mut Canvas, device: &DeviceReport, depth: usize, y: f64) {
        let base = self.base(y);
        let name = clipped(&device.id, 30_usize.saturating_sub(2 * depth).max(8));
        let kind = if device.asynchronous {
            device.class.clone()
        } else {
            format!("{}, sync", device.class)
        };
        self.names(canvas, base, indent(depth), (&name, &kind), device.critical);

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
            Outcome::Done if self.is_speck(device) => {}
            Outcome::Done => self.figure(canvas, base, device.end_ns, "dim", &took),
            Outcome::TimedOut => self.figure(
                canvas,
                base,
                device.end_ns,
                "bad",
                &format!("{took}, timed out"),
            ),
            Outcome::Removed => self.figure(canvas, base, device.end_ns, "dim", "removed"),
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

    /// Draws the devices that nobody looks for, in one row.
    pub(super) fn rest(&self, canvas: &mut Canvas, devices: &[&DeviceReport], y: f64) {
        let base = self.base(y);
        let name = format!("{} devices on no bus", devices.len());
        self.names(canvas, base, indent(0), (&name, ""), false);
        for device in devices {
            let frame = if device.asynchronous { "bar" } else { "sync" };
            self.bar(
                canvas,
                y,
                device.start_ns,
                device.end_ns,
                frame,
                &hover(device),
            );
        }
    }

    /// Whether a device's bar is so short, and its fate so usual, that its figure would only be noise.
    fn is_speck(&self, device: &DeviceReport) -> bool {
        let width = self.axis.x(device.end_ns) - self.axis.x(device.start_ns);
        self.detail == Detail::Comparison && width < 1.0
    }

    fn base(&self, y: f64) -> f64 {
        y + self.row_height * 0.5 + 4.0
    }

    /// The name at `x`, and the kind before the bars.
    fn names(
        &self,
        canvas: &mut Canvas,
        base: f64,
        x: f64,
        (name, kind): (&str, &str),
        bold: bool,
    ) {
        let weight = if bold { " bold" } else { "" };
        let class = format!("{}{weight}", self.text_class);
        canvas.text(x, base, &class, Anchor::Start, name);
        canvas.text(
            BARS - 10.0,
            base,
            "small dim",
            Anchor::End,
            &clipped(kind, 24),
        );
    }

    pub(super) fn bar(
        &self,
        canvas: &mut Canvas,
        y: f64,
        start: u64,
        end: u64,
        class: &str,
        title: &str,
    ) {
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

    pub(super) fn inset(&self) -> f64 {
        if self.row_height < 16.0 { 2.0 } else { 4.0 }
    }

    /// A figure right of the moment `at`, or left of the picture's edge if it were to run over it.
    pub(super) fn figure(&self, canvas: &mut Canvas, base: f64, at: u64, class: &str, text: &str) {
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

/// What is shown when a pointer rests on a device's bar.
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
