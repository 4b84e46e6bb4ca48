//! `check`: reports from files, held against the rules of their policies. Needs no machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use api::config::TeardownPolicy;
use api::json;
use api::report::TeardownReport;
use serde::Serialize;
use vmm::check::{Violation, check};

use crate::command;

/// A report does not keep a rule.
pub const VIOLATED: u8 = 1;
/// A file could not be read.
pub const UNREADABLE: u8 = 2;

/// What was found in one report.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    /// The file; `-` is standard input.
    file: String,
    /// The report's number.
    number: u64,
    /// Its policy.
    policy: TeardownPolicy,
    /// How many devices it has.
    devices: usize,
    /// What is wrong; empty if every rule holds.
    violations: &'a [Violation],
}

/// Checks the reports of all files and prints what was found. Returns the exit code.
pub fn run(files: &[PathBuf], as_json: bool, out: &mut impl Write) -> anyhow::Result<u8> {
    let mut code = 0;
    let mut checked = Vec::new();
    for file in files {
        match read(file) {
            Ok(reports) => checked.extend(
                reports
                    .into_iter()
                    .map(|report| (file.display().to_string(), check(&report), report)),
            ),
            Err(error) => {
                eprintln!("sundownctl: {error:#}");
                code = UNREADABLE;
            }
        }
    }
    let verdicts: Vec<_> = checked
        .iter()
        .map(|(file, violations, report)| Verdict {
            file: file.clone(),
            number: report.number,
            policy: report.policy,
            devices: report.devices.len(),
            violations,
        })
        .collect();
    if as_json {
        serde_json::to_writer_pretty(&mut *out, &verdicts)?;
        writeln!(out)?;
    } else {
        for verdict in &verdicts {
            write!(out, "{}", said(verdict, files.len() > 1))?;
        }
    }
    out.flush()?;
    let violated = verdicts
        .iter()
        .any(|verdict| !verdict.violations.is_empty());
    Ok(if code == 0 && violated {
        VIOLATED
    } else {
        code
    })
}

/// A line a report, and a line a violation.
fn said(verdict: &Verdict<'_>, name_file: bool) -> String {
    let file = if name_file {
        format!("{}: ", verdict.file)
    } else {
        String::new()
    };
    let devices = match verdict.devices {
        1 => "1 device".to_owned(),
        devices => format!("{devices} devices"),
    };
    let found = match verdict.violations.len() {
        0 => "all rules hold".to_owned(),
        1 => "a rule is violated".to_owned(),
        violations => format!("{violations} violations"),
    };
    let mut text = format!(
        "{file}teardown {} ({}): {devices}, {found}\n",
        verdict.number, verdict.policy
    );
    for violation in verdict.violations {
        text += &format!("  {violation}\n");
    }
    text
}

/// The reports of a file: one, or an array of them.
pub fn read(file: &Path) -> anyhow::Result<Vec<TeardownReport>> {
    parse(&command::read(file)?).with_context(|| {
        format!(
            "reading the teardown reports of `{}` (one report, as `teardown N --json` prints it, or an array)",
            file.display()
        )
    })
}

fn parse(text: &[u8]) -> Result<Vec<TeardownReport>, json::JsonError> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        json::from_slice(text)
    } else {
        json::from_slice(text).map(|report| vec![report])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_report_or_several() {
        let report = crate::show::tests::report();
        let one = serde_json::to_vec(&report).unwrap();
        assert_eq!(parse(&one).unwrap().len(), 1);
        let two = serde_json::to_vec(&[&report, &report]).unwrap();
        assert_eq!(parse(&two).unwrap().len(), 2);
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let report = crate::show::tests::report();
        let mut value = serde_json::to_value([&report]).unwrap();
        value[0]["devices"][0]["start_ns"] = "soon".into();
        let error = parse(&serde_json::to_vec(&value).unwrap()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("[0].devices[0].start_ns"));
        assert!(parse(b"").unwrap_err().message.contains("not valid JSON"));
    }

    #[test]
    fn the_exit_code_says_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, report: &TeardownReport| {
            let path = folder.path().join(name);
            std::fs::write(&path, serde_json::to_vec(report).unwrap()).unwrap();
            path
        };
        let mut report = crate::show::tests::report();
        report.devices.clear();
        (
            report.serial_sum_ns,
            report.critical_path_ns,
            report.teardown_ns,
        ) = (0, 0, 0);
        (
            report.reset_ns,
            report.reset_rest_ns,
            report.reset_to_ready_ns,
        ) = (None, None, None);
        (report.efficiency, report.workers_used) = (1.0, 0);
        let good = write("good", &report);
        report.serial_sum_ns = 1;
        let bad = write("bad", &report);
        let ran = |files: &[&PathBuf]| {
            let files: Vec<_> = files.iter().map(|file| (*file).clone()).collect();
            let mut out = Vec::new();
            let code = run(&files, false, &mut out).unwrap();
            (code, String::from_utf8(out).unwrap())
        };
        let (code, said) = ran(&[&good]);
        assert_eq!(code, 0);
        assert!(said.ends_with("0 devices, all rules hold\n"), "{said}");
        let (code, said) = ran(&[&good, &bad]);
        assert_eq!(code, VIOLATED);
        assert!(said.contains("\n  sum: "), "{said}");
        assert_eq!(ran(&[&bad, &folder.path().join("none")]).0, UNREADABLE);
    }
}
