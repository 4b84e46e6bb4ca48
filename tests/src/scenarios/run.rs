//! Runs scenarios one after another where a KVM is, and leaves results and logs in an output folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

use super::result::{Outcome, RESULTS};
use super::{Files, Scenario, Stage};

/// Lines of every log that a failed scenario shows.
const TAIL: usize = 120;
/// Files larger than this are no logs.
const LARGEST_LOG: u64 = 4 << 20;

/// Where scenarios run.
#[derive(Debug, Clone)]
pub struct Place {
    /// What they need.
    pub files: Files,
    /// A folder for drives and sockets; emptied.
    pub work: PathBuf,
    /// Results and logs go here.
    pub output: PathBuf,
    /// Scenarios that have not begun by then are not run, and fail.
    pub limit: Duration,
    /// How often a scenario is tried: more than once only where the host itself is not to be relied on.
    pub attempts: u32,
}

/// Runs the scenarios, tells of each on standard output, and returns how they ended.
///
/// # Errors
/// When the results cannot be written; a failed scenario is none.
pub fn run(scenarios: &[Scenario], place: &Place) -> Result<Vec<Outcome>> {
    fs::create_dir_all(&place.output)
        .with_context(|| format!("could not make the folder {}", place.output.display()))?;
    let end = Instant::now() + place.limit;
    let mut outcomes = Vec::with_capacity(scenarios.len());
    for (number, scenario) in scenarios.iter().enumerate() {
        println!("[{}/{}] {}", number + 1, scenarios.len(), scenario.name);
        let outcome = if Instant::now() < end {
            run_until_it_passes(scenario, place, end)
        } else {
            not_run(scenario, place.limit)
        };
        for note in &outcome.notes {
            println!("    {note}");
        }
        match &outcome.error {
            None => println!("    ok, {:.1} s", outcome.seconds),
            Some(error) => {
                let first = error.lines().next().unwrap_or_default();
                println!("    FAILED, {:.1} s: {first}", outcome.seconds);
            }
        }
        outcomes.push(outcome);
        write_results(&outcomes, &place.output)?;
    }
    Ok(outcomes)
}

fn not_run(scenario: &Scenario, limit: Duration) -> Outcome {
    Outcome {
        name: scenario.name.to_owned(),
        seconds: 0.0,
        error: Some(format!(
            "not run: those before it took the {} s that there are for all",
            limit.as_secs()
        )),
        notes: Vec::new(),
    }
}

/// Tries as often as the place allows, and not again after `end`. That a scenario failed before it passed
/// stands in its notes.
fn run_until_it_passes(scenario: &Scenario, place: &Place, end: Instant) -> Outcome {
    let mut failures = Vec::new();
    for attempt in 1..place.attempts {
        let outcome = run_one(scenario, place);
        let error = match &outcome.error {
            Some(error) if Instant::now() < end => error,
            _ => return noting(outcome, failures),
        };
        println!("    FAILED, {:.1} s; once more. {error}", outcome.seconds);
        let first = error.lines().next().unwrap_or_default();
        failures.push(format!("attempt {attempt} FAILED: {first}"));
    }
    noting(run_one(scenario, place), failures)
}

fn noting(mut outcome: Outcome, failures: Vec<String>) -> Outcome {
    outcome.notes.splice(0..0, failures);
    outcome
}

fn run_one(scenario: &Scenario, place: &Place) -> Outcome {
    let begin = Instant::now();
    let folder = place.work.join(scenario.name);
    let stage = Stage::new(place.files.clone(), folder.clone(), scenario.limit);
    let (result, notes) = match stage {
        Ok(mut stage) => {
            let result = (scenario.run)(&mut stage);
            (result, std::mem::take(&mut stage.notes))
        }
        Err(error) => (Err(error), Vec::new()),
    };
    let logs = logs(&folder);
    keep(&logs, &folder, &place.output.join(scenario.name));
    let error = result.err().map(|error| evidence(&error, &folder));
    // Drives lie in memory in the lab host.
    let _ = fs::remove_dir_all(&folder);
    Outcome {
        name: scenario.name.to_owned(),
        seconds: begin.elapsed().as_secs_f64(),
        error,
        notes,
    }
}

/// The error, its causes, and the end of every log of a scenario's folder.
pub(super) fn evidence(error: &Error, folder: &Path) -> String {
    let mut text = format!("{error:#}");
    for path in logs(folder) {
        let bytes = fs::read(&path).unwrap_or_default();
        let contents = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = contents.lines().collect();
        let named = path.extension().is_some_and(|name| name == "log");
        if named && !lines.is_empty() {
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n  ");
            text.push_str(&format!("\n--- the end of {}\n  {tail}", path.display()));
        }
    }
    text
}

/// The logs and reports of a scenario's processes.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries(folder)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("sundown-"))
        .flat_map(|process| entries(&process.path()))
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST_LOG)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Copies the logs. They are for people: without them the results still stand.
fn keep(logs: &[PathBuf], from: &Path, to: &Path) {
    for path in logs {
        let Ok(name) = path.strip_prefix(from) else {
            continue;
        };
        let copy = to.join(name);
        let folder = copy.parent().unwrap_or(to);
        let _ = fs::create_dir_all(folder).and_then(|()| fs::copy(path, &copy));
    }
}

fn write_results(outcomes: &[Outcome], output: &Path) -> Result<()> {
    let path = output.join(RESULTS);
    let text = serde_json::to_vec_pretty(outcomes).context("could not write the results")?;
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
}
