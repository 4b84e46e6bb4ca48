//! Pictures, pages and traces of teardowns, made here from the server's reports or from saved ones.

use std::path::{Path, PathBuf};

use anyhow::Context;
use api::client::Client;
use api::error::ErrorCode;
use api::report::TeardownReport;
use vmm::{page, picture, trace};

use crate::check;
use crate::command::Drawings;

/// Draws one teardown.
pub fn one(client: &Client, number: u64, drawings: &Drawings) -> anyhow::Result<()> {
    let report = client.teardown(number)?;
    if let Some(file) = &drawings.svg {
        write("picture", file, &picture::svg(&report))?;
    }
    let reports = [report];
    if let Some(file) = &drawings.page {
        write("page", file, &page::document(&reports))?;
    }
    if let Some(file) = &drawings.trace {
        write_trace(file, &reports)?;
    }
    Ok(())
}

/// Draws all teardowns that are kept.
pub fn all(client: &Client, drawings: &Drawings) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for teardown in client.teardowns()? {
        match client.teardown(teardown.number) {
            Ok(report) => reports.push(report),
            // Newer ones may have pushed it out since it was listed.
            Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(file) = &drawings.svg {
        write("picture", file, &picture::svg_comparison(&reports))?;
    }
    if let Some(file) = &drawings.page {
        write("page", file, &page::document(&reports))?;
    }
    if let Some(file) = &drawings.trace {
        write_trace(file, &reports)?;
    }
    Ok(())
}

/// Writes the page about saved reports, in the order in which they are given.
pub fn page_of(files: &[PathBuf], output: &Path) -> anyhow::Result<()> {
    write("page", output, &page::document(&saved(files)?))
}

/// Writes the trace of saved reports.
pub fn trace_of(files: &[PathBuf], output: &Path) -> anyhow::Result<()> {
    write_trace(output, &saved(files)?)
}

fn saved(files: &[PathBuf]) -> anyhow::Result<Vec<TeardownReport>> {
    let mut reports = Vec::new();
    for file in files {
        reports.extend(check::read(file)?);
    }
    Ok(reports)
}

fn write_trace(file: &Path, reports: &[TeardownReport]) -> anyhow::Result<()> {
    let text = serde_json::to_string(&trace::trace(reports)).context("writing the trace")?;
    write("trace", file, &text)
}

fn write(what: &str, file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing the {what} `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::show::tests::report;

    #[test]
    fn saved_reports_become_one_trace() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, output] =
            ["1.json", "2.json", "trace.json"].map(|name| folder.path().join(name));
        std::fs::write(&one, serde_json::to_vec(&report()).unwrap()).unwrap();
        std::fs::write(&two, serde_json::to_vec(&[report(), report()]).unwrap()).unwrap();
        trace_of(&[one, two], &output).unwrap();
        let trace: Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
        let resets = trace["traceEvents"].as_array().unwrap().iter();
        let resets = resets.filter(|event| event["ph"] == "X" && event["cat"] == "teardown");
        assert_eq!(resets.count(), 3 * report().devices.len());
    }

    #[test]
    fn what_is_no_report_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let [file, output] = ["list.json", "trace.json"].map(|name| folder.path().join(name));
        std::fs::write(&file, br#"[{"number": 1}]"#).unwrap();
        let error = format!("{:#}", trace_of(&[file], &output).unwrap_err());
        assert!(
            error.contains("list.json") && error.contains("boot"),
            "{error}"
        );
        assert!(!output.exists());
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list.json");
        std::fs::write(&file, br#"[{"number": 1}]"#).unwrap();
        let output = folder.path().join("page.html");
        let error = format!("{:#}", page_of(&[file], &output).unwrap_err());
        assert!(error.contains("list.json`"), "{error}");
        assert!(error.contains("boot"), "{error}");
        assert!(!output.exists());
    }
}
