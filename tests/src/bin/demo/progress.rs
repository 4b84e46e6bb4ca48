//! Says what is being done, step by step: behind a spinner on a terminal, as plain lines elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// The steps so far.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// The line of the step under way; empty before the first and after the last.
    step: String,
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Begins to count the time.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            step: String::new(),
            spinner: stdout().is_terminal().then(spinner),
        }
    }

    /// Begins a step, and with it ends the one before.
    pub fn step(&mut self, what: &str) {
        let line = format!("{:>6.1} s  {what}", self.started.elapsed().as_secs_f64());
        match &self.spinner {
            None => print(&line),
            Some(spinner) => {
                leave(spinner, &self.step);
                spinner.reset_elapsed();
                spinner.set_message(line.clone());
            }
        }
        self.step = line;
    }

    /// Says how far the step is, where there is a line for it that can change.
    pub fn detail(&self, what: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{}: {what}", self.step));
        }
    }

    /// Ends the step with lines that stay.
    pub fn text(&mut self, lines: &str) {
        match &self.spinner {
            None => print(lines.trim_end()),
            Some(spinner) => {
                leave(spinner, &self.step);
                leave(spinner, lines.trim_end());
                spinner.set_message("");
            }
        }
        self.step.clear();
    }

    /// Ends the last step.
    pub fn finish(&mut self) {
        if let Some(spinner) = &self.spinner {
            leave(spinner, &self.step);
            spinner.finish_and_clear();
        }
        self.step.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
    // The template is a constant; were it wrong, the default one would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(TICK);
    spinner
}

fn leave(spinner: &ProgressBar, line: &str) {
    if !line.is_empty() {
        spinner.suspend(|| print(line));
    }
}

fn print(line: &str) {
    // Whoever reads the output may have seen enough; the results are in files too.
    let _ = writeln!(stdout(), "{line}");
}
