//! Builds binaries that run in the lab host: linked statically, since it has no libraries.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds what the arguments name, as `cargo build` takes them (`-p vmm --bins`), in the
/// release profile and statically linked. Returns each executable by its target's name.
///
/// # Errors
/// When the build fails; cargo has then said on standard error why.
pub fn build_static(arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    for_the_lab(&["build"], arguments)
}

/// Builds the unit tests of what the arguments name, such as `-p vmm --lib`, as [`build_static`] builds programs.
///
/// # Errors
/// As for [`build_static`].
pub fn build_static_tests(arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    for_the_lab(&["test", "--no-run"], arguments)
}

fn for_the_lab(command: &[&str], arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let output = cargo(command)
        .args(["--release", "--target", TARGET])
        .args(arguments)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output();
    executables_of(output, command, arguments)
}

/// Builds what the arguments name for this machine, in the profile that the caller was built in. Returns
/// each executable by its target's name.
///
/// # Errors
/// As for [`build_static`].
pub fn build_here(arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    for_this_machine(&["build"], arguments)
}

/// Builds the unit tests of what the arguments name, such as `-p vmm --lib`, as [`build_here`] builds programs.
///
/// # Errors
/// As for [`build_static`].
pub fn build_tests_here(arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    for_this_machine(&["test", "--no-run"], arguments)
}

fn for_this_machine(command: &[&str], arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let output = cargo(command)
        .args(["--profile", profile])
        .args(arguments)
        .output();
    executables_of(output, command, arguments)
}

fn cargo(command: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace::root())
        .args(command)
        .args(["--message-format", "json-render-diagnostics"])
        // Cargo sets this for what it runs; build scripts would see it change and run again.
        .env_remove("CARGO_MANIFEST_DIR")
        .stderr(Stdio::inherit());
    cargo
}

fn executables_of(
    output: io::Result<Output>,
    command: &[&str],
    arguments: &[&str],
) -> Result<BTreeMap<String, PathBuf>> {
    let output = output.context("could not run cargo; is it on PATH?")?;
    if !output.status.success() {
        bail!(
            "the build for the test failed (cargo {} {}); see cargo's lines above",
            command.join(" "),
            arguments.join(" ")
        );
    }
    executables(&String::from_utf8_lossy(&output.stdout))
}

/// A copy without debug information under the lab's target folder: an initramfs is
/// memory. Without `strip` on the machine it is the file itself.
///
/// # Errors
/// When the copy cannot be written.
pub fn stripped(binary: &Path) -> Result<PathBuf> {
    let folder = workspace::lab_target().join("stripped");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let name = binary
        .file_name()
        .with_context(|| format!("{} is no file", binary.display()))?;
    let copy = folder.join(name);
    if newer(&copy, binary) {
        return Ok(copy);
    }
    let unfinished = folder.join(format!("{}.{}", name.to_string_lossy(), std::process::id()));
    let done = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&unfinished)
        .arg(binary)
        .status();
    if !done.is_ok_and(|status| status.success()) {
        return Ok(binary.to_path_buf());
    }
    fs::rename(&unfinished, &copy)
        .with_context(|| format!("could not write {}", copy.display()))?;
    Ok(copy)
}

/// Whether `copy` exists and was written after `original`.
pub(crate) fn newer(copy: &Path, original: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((written(copy), written(original)), (Ok(copy), Ok(original)) if copy > original)
}

fn executables(messages: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value =
            serde_json::from_str(line).context("could not read cargo's messages")?;
        if let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_by_name_among_other_messages() {
        let found = executables(concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"api\"},\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"sundown\"},\"executable\":\"/t/sundown\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        ))
        .unwrap();
        assert_eq!(
            found,
            BTreeMap::from([("sundown".to_owned(), PathBuf::from("/t/sundown"))])
        );
    }
}
