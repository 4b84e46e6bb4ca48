//! What came out: the files of a demo, one entry a reboot in summary.json, and whether all is as expected.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use api::config::{TeardownPolicy, VmConfig};
use api::report::{Cause, TeardownReport};
use serde::Serialize;

use crate::console::{self, Boot};
use crate::{Options, table, vm_folder};

/// The guest's console.
pub const CONSOLE: &str = "console.log";
/// The log of sundown.
pub const LOG: &str = "sundown.log";
/// The picture of all teardowns.
pub const PICTURE: &str = "teardowns.svg";
const SUMMARY: &str = "summary.json";

/// One reboot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub policy: TeardownPolicy,
    /// Number of the boot that it ended.
    pub boot: u64,
    pub cause: Cause,
    pub drives: usize,
    /// Of the boot that followed, as is `data_intact`.
    pub namespaces_seen: u64,
    pub data_intact: bool,
    pub vcpu_pause_ms: f64,
    pub teardown_ms: f64,
    /// Everything else until the vCPUs ran again.
    pub reset_rest_ms: Option<f64>,
    /// From the reset request to the guest's boot marker.
    pub reset_to_ready_ms: Option<f64>,
    pub serial_sum_ms: f64,
    pub critical_path_ms: f64,
    pub efficiency: f64,
}

#[derive(Serialize)]
struct Summary<'a> {
    runs: &'a [Run],
}

/// What is expected of the reboots.
struct Expected {
    policies: Vec<TeardownPolicy>,
    namespaces: u64,
    /// Of all drives one after the other.
    serial_ms: f64,
}

/// The name of a reboot's report.
pub fn report_file(number: u64) -> String {
    format!("teardown-{number}.json")
}

/// A policy's name as the API has it.
pub fn policy_name(policy: TeardownPolicy) -> String {
    word(policy)
}

/// Removes what an earlier demo left in its output folder.
pub fn clear(output: &Path) -> Result<()> {
    fs::create_dir_all(output)
        .with_context(|| format!("could not make the folder {}", output.display()))?;
    let reports = (1..)
        .map(report_file)
        .take_while(|name| output.join(name).exists());
    for name in [CONSOLE, LOG, PICTURE, SUMMARY]
        .map(str::to_owned)
        .into_iter()
        .chain(reports)
    {
        match fs::remove_file(output.join(&name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("could not remove the old {name} in {}", output.display())
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the summary, prints the table, and says where all is.
///
/// # Errors
/// Something is not as expected.
pub fn conclude(output: &Path, config: &VmConfig, options: &Options) -> Result<()> {
    let policies = options.policies();
    let drives = vm_folder::drives(config).count();
    let console = fs::read(output.join(CONSOLE)).context("could not read the guest's console")?;
    let boots = console::boots(&String::from_utf8_lossy(&console));
    let mut runs = Vec::with_capacity(policies.len());
    for number in 1..=policies.len() as u64 {
        let path = output.join(report_file(number));
        let report =
            fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let report = api::json::from_slice(&report)
            .with_context(|| format!("could not read {}", path.display()))?;
        runs.push(Run::new(&report, boots.get(number as usize), drives));
    }
    let summary = serde_json::to_string_pretty(&Summary { runs: &runs })
        .context("could not write the summary")?;
    fs::write(output.join(SUMMARY), summary + "\n")
        .with_context(|| format!("could not write {SUMMARY} in {}", output.display()))?;

    println!("\n{}", table::draw(&runs));
    println!("{}", comparison(&runs));
    println!("\nPicture: {}", output.join(PICTURE).display());
    println!(
        "Also there: {SUMMARY}, a report for every reboot ({} …), {CONSOLE}, {LOG}",
        report_file(1)
    );

    let expected = Expected {
        policies,
        namespaces: vm_folder::namespaces(config) as u64,
        serial_ms: drives as f64 * options.latency as f64,
    };
    let mut problems = expected.problems(&runs);
    problems.extend(boots.iter().flat_map(|boot| {
        boot.errors
            .iter()
            .map(|error| format!("the guest said: {error}"))
    }));
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "not everything is as expected:\n  {}",
        problems.join("\n  ")
    )
}

impl Run {
    /// From the report of a teardown and what the guest said in the boot that followed.
    fn new(report: &TeardownReport, next: Option<&Boot>, drives: usize) -> Self {
        Self {
            policy: report.policy,
            boot: report.boot,
            cause: report.cause,
            drives,
            namespaces_seen: next.map_or(0, |boot| boot.namespaces),
            // The guest counts its boots on the drives: data that is intact but older is lost data.
            data_intact: next
                .is_some_and(|boot| boot.data == "intact" && boot.counted == report.boot + 1),
            vcpu_pause_ms: ms(report.vcpu_pause_ns),
            teardown_ms: ms(report.teardown_ns),
            reset_rest_ms: report.reset_rest_ns.map(ms),
            reset_to_ready_ms: report.reset_to_ready_ns.map(ms),
            serial_sum_ms: ms(report.serial_sum_ns),
            critical_path_ms: ms(report.critical_path_ns),
            efficiency: (report.efficiency * 10_000.0).round() / 10_000.0,
        }
    }

    /// The cause's name as the API has it.
    pub fn cause_name(&self) -> String {
        word(self.cause)
    }
}

impl Expected {
    /// What is otherwise.
    fn problems(&self, runs: &[Run]) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, (run, policy)) in runs.iter().zip(&self.policies).enumerate() {
            let mut expect = |holds: bool, what: String| {
                if !holds {
                    problems.push(format!("reboot {}: {what}", at + 1));
                }
            };
            expect(
                run.policy == *policy,
                format!(
                    "ran under {}, not under {}",
                    policy_name(run.policy),
                    policy_name(*policy)
                ),
            );
            expect(
                run.namespaces_seen == self.namespaces,
                format!(
                    "the guest saw {} of {} namespaces afterwards",
                    run.namespaces_seen, self.namespaces
                ),
            );
            expect(
                run.data_intact,
                "the data was not intact afterwards".to_owned(),
            );
            expect(
                run.reset_to_ready_ms.is_some(),
                "the boot marker was not seen afterwards".to_owned(),
            );
            let (least, most) = match policy {
                TeardownPolicy::Serial => (self.serial_ms * 0.9, self.serial_ms * 1.1),
                TeardownPolicy::Cookie | TeardownPolicy::Completion => {
                    (0.0, run.critical_path_ms * 1.05 + 10.0)
                }
            };
            expect(
                (least..=most).contains(&run.teardown_ms),
                format!(
                    "the teardown took {:.1} ms; {least:.1} to {most:.1} were expected",
                    run.teardown_ms
                ),
            );
        }
        problems
    }
}

/// What the policies differ by, in a sentence.
fn comparison(runs: &[Run]) -> String {
    let mean = |policy| {
        let times: Vec<_> = runs
            .iter()
            .filter(|run| run.policy == policy)
            .map(|run| run.teardown_ms)
            .collect();
        times.iter().sum::<f64>() / times.len() as f64
    };
    let (serial, completion) = (
        mean(TeardownPolicy::Serial),
        mean(TeardownPolicy::Completion),
    );
    let drives = runs.first().map_or(0, |run| run.drives);
    format!(
        "The same {drives} drives, the same VM: {serial:.0} ms one after the other, {completion:.0} ms by completion, \
         {:.1} times faster.",
        serial / completion
    )
}

/// Milliseconds, to the microsecond.
fn ms(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

/// The word that JSON has for a value of an enum.
fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: TeardownPolicy, teardown_ms: f64) -> Run {
        Run {
            policy,
            boot: 1,
            cause: Cause::I8042,
            drives: 8,
            namespaces_seen: 8,
            data_intact: true,
            vcpu_pause_ms: 0.1,
            teardown_ms,
            reset_rest_ms: Some(20.0),
            reset_to_ready_ms: Some(2000.0),
            serial_sum_ms: 4000.0,
            critical_path_ms: 500.0,
            efficiency: 1.0,
        }
    }

    #[test]
    fn what_is_not_as_expected_is_named() {
        use TeardownPolicy::{Completion, Serial};
        let expected = Expected {
            policies: vec![Serial, Completion],
            namespaces: 8,
            serial_ms: 4000.0,
        };
        let good = [run(Serial, 4100.0), run(Completion, 534.0)];
        assert!(expected.problems(&good).is_empty());
        assert!(
            comparison(&good)
                .ends_with("4100 ms one after the other, 534 ms by completion, 7.7 times faster.")
        );

        let bad = [
            Run {
                namespaces_seen: 7,
                ..run(Serial, 3500.0)
            },
            Run {
                data_intact: false,
                ..run(Serial, 536.0)
            },
        ];
        let problems = expected.problems(&bad).join("\n");
        for part in [
            "7 of 8 namespaces",
            "3500.0 ms",
            "under serial, not under completion",
            "not intact",
            "535.0 were",
        ] {
            assert!(problems.contains(part), "{part} in\n{problems}");
        }
    }

    #[test]
    fn a_summary_has_the_fields_that_scripts_read() {
        let json = serde_json::to_value(Summary {
            runs: &[run(TeardownPolicy::Serial, 1.0)],
        })
        .unwrap();
        assert_eq!(json["runs"][0]["policy"], "serial");
        let fields: Vec<_> = json["runs"][0]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(fields.len(), 13, "{fields:?}");
    }
}
