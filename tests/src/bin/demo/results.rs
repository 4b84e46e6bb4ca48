//! What the measurement does not see: that the guest found its drives and its data after every reboot.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use api::report::TeardownReport;

use crate::console::{self, Boot};

/// The guest's console.
pub const CONSOLE: &str = "console.log";
/// The timelines of all reboots.
pub const PAGE: &str = "page.html";
const REPORTS: &str = "reports.json";
/// What a measurement leaves; an earlier demo's must not pass for this one's.
const FILES: [&str; 8] = [
    CONSOLE,
    PAGE,
    REPORTS,
    "summary.json",
    "teardowns.csv",
    "devices.csv",
    "trace.json",
    "sundown.log",
];

/// Removes what an earlier demo left in its output folder.
pub fn clear(output: &Path) -> Result<()> {
    fs::create_dir_all(output)
        .with_context(|| format!("could not make the folder {}", output.display()))?;
    for name in FILES {
        match fs::remove_file(output.join(name)) {
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

/// Says what became of the data, and where the results are.
///
/// # Errors
/// The guest did not find all its drives and data after each of `reboots` reboots.
pub fn conclude(output: &Path, namespaces: u64, reboots: u64) -> Result<()> {
    let read = |name: &str| {
        let path = output.join(name);
        fs::read(&path).with_context(|| format!("could not read {}", path.display()))
    };
    let console = read(CONSOLE)?;
    let boots = console::boots(&String::from_utf8_lossy(&console));
    let reports: Vec<TeardownReport> =
        api::json::from_slice(&read(REPORTS)?).with_context(|| format!("reading {REPORTS}"))?;
    let mut problems = problems(&reports, &boots, namespaces);
    if reports.len() as u64 != reboots {
        problems.push(format!(
            "{} of {reboots} reboots have reports",
            reports.len()
        ));
    }
    if !problems.is_empty() {
        bail!(
            "not everything is as expected:\n  {}",
            problems.join("\n  ")
        );
    }
    println!("data: intact on {namespaces} drives after each of {reboots} reboots");
    println!("page: {}", output.join(PAGE).display());
    Ok(())
}

fn problems(reports: &[TeardownReport], boots: &[Boot], namespaces: u64) -> Vec<String> {
    let mut problems = Vec::new();
    for report in reports {
        let number = report.number;
        // Report N ended boot N; the guest's word is of the boot that followed.
        let Some(boot) = boots.get(report.boot as usize) else {
            problems.push(format!(
                "reboot {number}: the guest said nothing afterwards"
            ));
            continue;
        };
        if boot.namespaces != namespaces {
            problems.push(format!(
                "reboot {number}: the guest saw {} of {namespaces} namespaces afterwards",
                boot.namespaces
            ));
        }
        // The guest counts its boots on the drives: data that is intact but older is lost data.
        if boot.data != "intact" || boot.counted != report.boot + 1 {
            problems.push(format!(
                "reboot {number}: the data was not intact afterwards"
            ));
        }
    }
    let errors = boots.iter().flat_map(|boot| &boot.errors);
    problems.extend(errors.map(|error| format!("the guest said: {error}")));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u64) -> TeardownReport {
        let report = serde_json::json!({
            "number": number, "boot": number, "cause": "acpi-reset", "policy": "serial", "workers": 4,
            "workers_used": 1, "at_ns": 5, "vcpu_pause_ns": 10, "teardown_ns": 5, "teardown_start_ns": 10,
            "reset_rest_ns": 5, "reset_ns": 15, "reset_to_ready_ns": null, "serial_sum_ns": 5,
            "critical_path_ns": 5, "efficiency": 1.0, "devices": [], "warnings": [],
        });
        serde_json::from_value(report).unwrap()
    }

    fn boot(counted: u64, data: &str) -> Boot {
        Boot {
            namespaces: 8,
            counted,
            data: data.to_owned(),
            errors: Vec::new(),
        }
    }

    #[test]
    fn lost_drives_and_lost_data_are_named() {
        let reports = [report(1), report(2)];
        let good = [boot(1, "written"), boot(2, "intact"), boot(3, "intact")];
        assert_eq!(problems(&reports, &good, 8), Vec::<String>::new());
        assert!(problems(&reports, &good, 9)[0].contains("reboot 1: the guest saw 8 of 9"));
        let old = [boot(1, "written"), boot(2, "intact"), boot(2, "intact")];
        assert_eq!(
            problems(&reports, &old, 8),
            ["reboot 2: the data was not intact afterwards"]
        );
        let silent = &good[..2];
        assert!(problems(&reports, silent, 8)[0].contains("said nothing"));
    }
}
