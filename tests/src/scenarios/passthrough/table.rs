//! The table of reboots with passed-through devices: as it is measured, kept and shown.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use api::report::TeardownReport;
use serde::{Deserialize, Serialize};
use vmm::picture;

/// Where the table lies in the output folder: a list of [`Row`].
pub const REBOOTS: &str = "passthrough.json";
/// Where a picture of some of its teardowns lies: an SVG.
pub const PICTURE: &str = "passthrough.svg";

/// One line of the table. Times are medians, in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was rebooted, and how.
    pub what: String,
    /// From the first device's start to the last device's end; none where nobody says.
    pub teardown_ms: Option<f64>,
    /// The longest of one device.
    pub slowest_ms: Option<f64>,
    /// From the guest's last line to its vCPUs' first instruction.
    pub last_line_to_vcpus_ms: Option<f64>,
    /// What `teardown_ms` should be at most.
    pub aim_ms: Option<f64>,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// The table.
    pub rows: Vec<Row>,
    /// The last teardown of some rows.
    pub pictured: Vec<TeardownReport>,
}

impl Row {
    /// That this could not be measured.
    pub(super) fn missing(what: &str) -> Self {
        Self {
            what: format!("{what}: COULD NOT BE MEASURED"),
            teardown_ms: None,
            slowest_ms: None,
            last_line_to_vcpus_ms: None,
            aim_ms: None,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}"));
        let met = match (self.teardown_ms, self.aim_ms) {
            (Some(teardown), Some(aim)) if teardown <= aim => format!("≤ {aim:.1}: met"),
            (_, Some(aim)) => format!("≤ {aim:.1}: MISSED"),
            (_, None) => String::new(),
        };
        write!(
            f,
            "{:<52}  {:>12}  {:>12}  {:>22}  {met}",
            self.what,
            number(self.teardown_ms),
            number(self.slowest_ms),
            number(self.last_line_to_vcpus_ms),
        )
    }
}

/// Prints the table.
pub fn print(title: &str, rows: &[Row]) {
    println!("{title}\n");
    println!(
        "{:<52}  {:>12}  {:>12}  {:>22}  aim, ms",
        "", "teardown, ms", "slowest, ms", "last line → vCPUs, ms"
    );
    for row in rows {
        println!("{row}");
    }
}

/// Writes the table to the output folder, and the picture where there is one.
///
/// # Errors
/// When one cannot be written.
pub fn write(measured: &Measured, output: &Path) -> Result<()> {
    let table = serde_json::to_vec_pretty(&measured.rows).context("could not write the table")?;
    fs::create_dir_all(output).with_context(|| format!("could not make {}", output.display()))?;
    let mut files = vec![(REBOOTS, table)];
    if !measured.pictured.is_empty() {
        let picture = picture::svg_comparison(&measured.pictured);
        files.push((PICTURE, picture.into_bytes()));
    }
    for (name, contents) in files {
        let path = output.join(name);
        fs::write(&path, contents)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}
