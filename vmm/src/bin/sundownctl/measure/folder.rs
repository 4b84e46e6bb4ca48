//! The folder that results go to, and the files in it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use api::report::TeardownReport;
use vmm::measure::{Reboot, Summary, devices_csv, teardowns_csv};
use vmm::{page, trace};

/// What sundown logged.
pub const LOG: &str = "sundown.log";
/// What the guest printed, where its serial port is sundown's standard output.
pub const CONSOLE: &str = "console.log";
const REPORTS: &str = "reports";
const ALL_REPORTS: &str = "reports.json";
const SUMMARY: &str = "summary.json";
const TEARDOWNS: &str = "teardowns.csv";
const DEVICES: &str = "devices.csv";
const PAGE: &str = "page.html";
const TRACE: &str = "trace.json";
const OWN: [&str; 8] = [
    LOG,
    CONSOLE,
    ALL_REPORTS,
    SUMMARY,
    TEARDOWNS,
    DEVICES,
    PAGE,
    TRACE,
];

/// The folder.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder. One that is not empty is refused, or, with `force`, cleared of what an earlier
    /// measurement left in it.
    pub fn open(path: &Path, force: bool) -> anyhow::Result<Self> {
        let making = || format!("making the output folder `{}`", path.display());
        fs::create_dir_all(path).with_context(making)?;
        let empty = fs::read_dir(path).with_context(making)?.next().is_none();
        if !empty && !force {
            bail!(
                "the output folder `{}` is not empty; give another, or --force to replace the results of an \
                 earlier measurement",
                path.display()
            );
        }
        let folder = Self(path.to_owned());
        if !empty {
            folder.clear().with_context(|| {
                format!(
                    "removing the results of an earlier measurement from `{}`",
                    path.display()
                )
            })?;
        }
        fs::create_dir_all(folder.0.join(REPORTS)).with_context(making)?;
        Ok(folder)
    }

    fn clear(&self) -> std::io::Result<()> {
        for name in OWN {
            remove(&self.0.join(name))?;
        }
        let reports = match fs::read_dir(self.0.join(REPORTS)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            reports => reports?,
        };
        for entry in reports {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("teardown-") && name.ends_with(".json") {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a file in it, empty.
    pub fn file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.0.join(name);
        File::create(&path).with_context(|| format!("making `{}`", path.display()))
    }

    /// Keeps a report as the server has it.
    pub fn keep_report(&self, number: u64, json: &[u8]) -> anyhow::Result<()> {
        let name = format!("{REPORTS}/teardown-{number:03}.json");
        self.write_file(&name, json)
    }

    /// Writes all that is made of the reboots: figures of all of them, a page and a trace of those that the
    /// summary names.
    pub fn write(&self, reboots: &[Reboot], summary: &Summary) -> anyhow::Result<()> {
        let reports: Vec<_> = reboots.iter().map(|reboot| &reboot.report).collect();
        let json = |value: serde_json::Result<Vec<u8>>| value.context("writing results as JSON");
        // What says most and takes least first: a full disk leaves that.
        self.write_file(SUMMARY, &json(serde_json::to_vec_pretty(summary))?)?;
        let csv = |text: Result<String, _>| text.context("writing results as CSV");
        self.write_file(TEARDOWNS, csv(teardowns_csv(reboots))?.as_bytes())?;
        self.write_file(DEVICES, csv(devices_csv(reboots))?.as_bytes())?;
        self.write_file(ALL_REPORTS, &json(serde_json::to_vec_pretty(&reports))?)?;
        let is_drawn = |report: &&TeardownReport| summary.page_has.contains(&report.number);
        let drawn: Vec<TeardownReport> = reports.into_iter().filter(is_drawn).cloned().collect();
        self.write_file(PAGE, page::document(&drawn).as_bytes())?;
        let trace = json(serde_json::to_vec(&trace::trace(&drawn)))?;
        self.write_file(TRACE, &trace)
    }

    fn write_file(&self, name: &str, contents: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        fs::write(&path, contents).with_context(|| format!("writing `{}`", path.display()))
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use api::config::TeardownPolicy;
    use api::report::Outcome;

    use super::super::table;
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_with_force_only_results_go() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        let folder = Folder::open(&path, false).unwrap();
        folder.keep_report(7, b"{}").unwrap();
        folder.write_file(SUMMARY, b"{}").unwrap();
        folder.write_file("notes.txt", b"mine").unwrap();
        folder.write_file("reports/notes.txt", b"mine").unwrap();
        let refused = Folder::open(&path, false).unwrap_err().to_string();
        assert!(
            refused.contains("not empty") && refused.contains("--force"),
            "{refused}"
        );
        assert!(path.join(SUMMARY).exists(), "a refusal removes nothing");
        Folder::open(&path, true).unwrap();
        assert!(!path.join(SUMMARY).exists());
        assert!(!path.join("reports/teardown-007.json").exists());
        assert!(path.join("notes.txt").exists());
        assert!(path.join("reports/notes.txt").exists());
    }

    /// A series of reboots, numbered from 1.
    fn series(reboots: u64) -> (Vec<Reboot>, Summary) {
        let policy = TeardownPolicy::Completion;
        let numbered = |number| {
            let mut report = crate::show::tests::report();
            (report.number, report.policy) = (number, policy);
            report.teardown_ns += number;
            for device in &mut report.devices {
                device.outcome = Outcome::Done;
            }
            Reboot {
                round: number,
                policy,
                report,
                ready_ns: None,
                violations: Vec::new(),
            }
        };
        let measured: Vec<_> = (1..=reboots).map(numbered).collect();
        let summary = Summary::new(&measured, &[policy], reboots, None, &[], None);
        (measured, summary)
    }

    #[test]
    fn a_page_that_cannot_be_written_costs_no_figures() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path(), false).unwrap();
        fs::create_dir(temporary.path().join(PAGE)).unwrap();
        let (measured, summary) = series(2);
        let error = format!("{:#}", folder.write(&measured, &summary).unwrap_err());
        assert!(error.contains(PAGE), "{error}");
        for name in [SUMMARY, TEARDOWNS, DEVICES, ALL_REPORTS] {
            assert!(temporary.path().join(name).is_file(), "there is no {name}");
        }
    }

    #[test]
    fn of_a_long_series_the_page_has_what_the_summary_names() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path(), false).unwrap();
        let (measured, summary) = series(31);
        folder.write(&measured, &summary).unwrap();
        assert_eq!(summary.page_has, [16, 31]);
        let read = |name: &str| fs::read_to_string(temporary.path().join(name)).unwrap();
        let page = read(PAGE);
        let has = |number: u64| page.contains(&format!("Teardown {number} "));
        assert!(has(16) && has(31) && !has(15) && !has(30));
        let all: Vec<TeardownReport> = serde_json::from_str(&read(ALL_REPORTS)).unwrap();
        assert_eq!(all.len(), 31);
        let said = table::draw(&summary);
        assert!(said.contains("have 2 of the 31 teardowns"), "{said}");
        let (_, short) = series(24);
        assert!(!table::draw(&short).contains("page.html"));
    }
}
