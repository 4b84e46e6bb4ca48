//! Pictures of teardowns, drawn here from the server's reports.

use std::path::Path;

use anyhow::Context;
use api::client::Client;
use api::error::ErrorCode;
use vmm::picture;

/// Draws one teardown.
pub fn one(client: &Client, number: u64, file: &Path) -> anyhow::Result<()> {
    write(file, &picture::svg(&client.teardown(number)?))
}

/// Draws all teardowns that are kept.
pub fn all(client: &Client, file: &Path) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for teardown in client.teardowns()? {
        match client.teardown(teardown.number) {
            Ok(report) => reports.push(report),
            // Newer ones may have pushed it out since it was listed.
            Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    write(file, &picture::svg_comparison(&reports))
}

fn write(file: &Path, svg: &str) -> anyhow::Result<()> {
    std::fs::write(file, svg).with_context(|| format!("writing the picture `{}`", file.display()))
}
