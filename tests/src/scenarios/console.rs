//! A guest's serial console: collected as it comes, searched line by line, written to.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use api::clock::monotonic_ns;

/// What the guest's init says first.
const BOOTED: &str = "SUNDOWN: init ";

/// One guest's console, on the pipes of its process.
pub(super) struct Console {
    input: ChildStdin,
    shared: Arc<Shared>,
    /// Lines before this one have been looked at.
    next: usize,
}

#[derive(Default)]
struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    /// When each came, in nanoseconds of CLOCK_MONOTONIC.
    stamps: Vec<u64>,
    ended: bool,
}

impl Shared {
    fn output(&self) -> MutexGuard<'_, Output> {
        // Whole lines are added at once: the list is good whoever panicked.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// Follows the output, and writes it to `log` too.
    pub(super) fn follow(input: ChildStdin, output: ChildStdout, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("could not make {}", log.display()))?;
        let shared = Arc::new(Shared::default());
        let reader = shared.clone();
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || collect(output, log, &reader))
            .context("could not start a thread")?;
        Ok(Self {
            input,
            shared,
            next: 0,
        })
    }

    /// Types a line.
    pub(super) fn type_line(&mut self, line: &str) -> Result<()> {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| self.input.flush())
            .context("could not write to the guest's console: has sundown ended?")
    }

    /// Reads on until `wanted` makes something of a line.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        deadline: Instant,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let mut output = self.shared.output();
        loop {
            while let Some(line) = output.lines.get(self.next) {
                self.next += 1;
                if let Some(found) = wanted(line) {
                    return Ok(found);
                }
            }
            if output.ended {
                bail!("the console ended before {what}");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what} did not come on the console in time");
            }
            output = self
                .shared
                .changed
                .wait_timeout(output, left)
                .map_or_else(|error| error.into_inner().0, |(output, _)| output);
        }
    }

    /// Reads on until a line is `wanted`, and says when it came, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) fn stamp_of(
        &mut self,
        what: &str,
        deadline: Instant,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<u64> {
        self.wait_for(what, deadline, |line| wanted(line).then_some(()))?;
        let output = self.shared.output();
        let stamp = output.stamps.get(self.next.saturating_sub(1));
        stamp.copied().context("a line has no stamp")
    }

    /// All lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.shared.output().lines.clone()
    }
}

/// Waits for what the guest says to the order of this number. A status other than 0 is an error.
pub(super) fn answer(
    console: &mut Console,
    number: u64,
    command: &str,
    by: Instant,
) -> Result<Vec<String>> {
    let what = format!("the guest's answer to `{command}`");
    let begin = format!("SUNDOWN: doing {number}");
    let end = format!("SUNDOWN: did {number} ");
    let mut said = Vec::new();
    console.wait_for(&what, by, |line| (line == begin).then_some(()))?;
    let status = console.wait_for(&what, by, |line| {
        if line.starts_with(BOOTED) {
            return Some(None);
        }
        let status = line
            .strip_prefix(&end)
            .map(|status| Some(status.trim().to_owned()));
        if status.is_none() {
            said.push(line.to_owned());
        }
        status
    })?;
    let status = status.with_context(|| format!("the guest was reset instead of {what}"))?;
    ensure!(
        status == "0",
        "the guest's command `{command}` failed with status {status}: {}",
        said.join(" | ")
    );
    Ok(said)
}

fn collect(mut output: ChildStdout, mut log: File, shared: &Shared) {
    let mut partial = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        // The log is for people; a full disk must not stop the guest.
        let _ = log.write_all(&bytes[..count]);
        partial.extend_from_slice(&bytes[..count]);
        let Some(end) = partial.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let rest = partial.split_off(end + 1);
        let text = String::from_utf8_lossy(&partial);
        let lines = text.lines().map(|line| line.trim_matches('\r').to_owned());
        let mut output = shared.output();
        output.lines.extend(lines);
        let count = output.lines.len();
        output.stamps.resize(count, monotonic_ns());
        drop(output);
        shared.changed.notify_all();
        partial = rest;
    }
    shared.output().ended = true;
    shared.changed.notify_all();
}
