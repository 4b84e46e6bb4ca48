//! Says on standard error what is waited for: behind a bar on a terminal, as plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// The reboots so far, and what is waited for.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of so many reboots.
    pub fn new(reboots: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(reboots);
            // The template is a constant; were it wrong, the default one would do.
            let style = "{spinner:.cyan} {bar:20} {pos}/{len} {wide_msg} {elapsed}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            begin: Instant::now(),
            bar,
        }
    }

    /// Says what is waited for from now on.
    pub fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{:>7.1} s  {what}", self.begin.elapsed().as_secs_f64()),
        }
    }

    /// Says how far that is, where there is a line that can change.
    pub fn detail(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Counts a reboot, and leaves a line of it.
    pub fn reboot(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.println(what);
                bar.inc(1);
            }
            None => self.step(what),
        }
    }

    /// Leaves the terminal as it was.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
