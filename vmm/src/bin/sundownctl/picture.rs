//! Pictures and pages of teardowns, drawn here from the server's reports or from saved ones.

use std::path::{Path, PathBuf};

use anyhow::Context;
use api::client::Client;
use api::error::ErrorCode;
use vmm::{page, picture};

use crate::check;
use crate::command::Drawings;

/// Draws one teardown.
pub fn one(client: &Client, number: u64, drawings: &Drawings) -> anyhow::Result<()> {
    let report = client.teardown(number)?;
    if let Some(file) = &drawings.svg {
        write("picture", file, &picture::svg(&report))?;
    }
    if let Some(file) = &drawings.page {
        write("page", file, &page::document(&[report]))?;
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
    Ok(())
}

/// Writes the page about saved reports, in the order in which they are given.
pub fn page_of(files: &[PathBuf], output: &Path) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for file in files {
        reports.extend(check::read(file)?);
    }
    write("page", output, &page::document(&reports))
}

fn write(what: &str, file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing the {what} `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
