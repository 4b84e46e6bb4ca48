//! A folder for the files of one run of the lab host, and what is kept of a failed one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::qemu;
use crate::workspace;

/// A folder for one run's files, removed at its end unless the run went wrong.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
}

impl RunFolder {
    pub(crate) fn new() -> Result<Self> {
        remove_orphans();
        let path = workspace::lab_target().join(format!("run-{}", unique()));
        fs::create_dir_all(&path)
            .with_context(|| format!("could not make the folder {}", path.display()))?;
        Ok(Self { path })
    }

    /// Keeps the logs, and says what is at the end of them and where they are.
    pub(crate) fn keep(&self) -> String {
        let kept = workspace::lab_target().join("failed");
        let mut text = String::new();
        for log in [qemu::CONSOLE_LOG, qemu::QEMU_LOG] {
            let contents = fs::read(self.path.join(log)).unwrap_or_default();
            let contents = String::from_utf8_lossy(&contents);
            let lines: Vec<_> = contents
                .lines()
                .filter(|line| !line.contains("TCG doesn't support"))
                .collect();
            if !lines.is_empty() {
                let tail = lines[lines.len().saturating_sub(25)..].join("\n  ");
                text.push_str(&format!("\nThe end of {log}:\n  {tail}"));
            }
        }
        // Logs are worth keeping, but not worth another error.
        let moved = fs::create_dir_all(&kept).is_ok()
            && fs::copy(
                self.path.join(qemu::CONSOLE_LOG),
                kept.join(qemu::CONSOLE_LOG),
            )
            .is_ok();
        if moved {
            text.push_str(&format!(
                "\nAll of it: {}",
                kept.join(qemu::CONSOLE_LOG).display()
            ));
        }
        text
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A name no other run has, of this process or another.
fn unique() -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        RUNS.fetch_add(1, Ordering::Relaxed)
    )
}

/// Removes what runs left behind that were killed: their processes are gone.
fn remove_orphans() {
    let Ok(entries) = fs::read_dir(workspace::lab_target()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix("run-")?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
