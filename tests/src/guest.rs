//! The guest's initramfs: busybox, `resources/guest` with its jobs, and lspci on demand.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::artifacts::newer;
use crate::cpio::Archive;
use crate::image::add_busybox;
use crate::parts::Parts;
use crate::workspace;

/// What goes into a guest's initramfs beside busybox, init and the jobs of
/// `resources/guest/jobs`.
#[derive(Debug, Clone, Default)]
pub struct GuestImage {
    /// More jobs: scripts on the host, named in the guest after their file names.
    pub jobs: Vec<PathBuf>,
    /// More files or folders: (on the host, in the guest).
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Whether `lspci` and the names of PCI devices go in (7 MiB more).
    pub with_pciutils: bool,
}

/// Writes a guest's initramfs to `path`. Runs `resources/lab/setup` if needed.
///
/// # Errors
/// When a part is missing or the file cannot be written.
pub fn initramfs(path: &Path, image: &GuestImage) -> Result<()> {
    let parts = Parts::ready()?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
    }
    let file =
        fs::File::create(path).with_context(|| format!("could not make {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    archive.device("dev/console", 5, 1)?;
    add_busybox(&mut archive, &parts)?;

    let scripts = workspace::resource("guest");
    archive.from_host(&scripts.join("init"), Path::new("init"))?;
    archive.from_host(&scripts.join("guest.sh"), Path::new("lib/guest.sh"))?;
    archive.from_host(&scripts.join("jobs"), Path::new("jobs"))?;
    archive.from_host(&outb()?, Path::new("bin/outb"))?;
    for job in &image.jobs {
        let name = job
            .file_name()
            .with_context(|| format!("the job {} is no file", job.display()))?;
        archive.from_host(job, &Path::new("jobs").join(name))?;
    }
    for (host, guest) in &image.files {
        archive.from_host(host, guest)?;
    }
    if image.with_pciutils {
        archive.from_host(&parts.pciutils(), Path::new(""))?;
    }
    archive.finish()
}

/// Builds `outb`, with which the guest writes its boot marker.
fn outb() -> Result<PathBuf> {
    let source = workspace::resource("guest/outb.rs");
    let folder = workspace::lab_target();
    let binary = folder.join("outb");
    if newer(&binary, &source) {
        return Ok(binary);
    }
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let unfinished = folder.join(format!("outb.{}", std::process::id()));
    let status = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "relocation-model=static",
            "-C",
            "target-feature=+crt-static",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-o",
        ])
        .arg(&unfinished)
        .arg(&source)
        .status()
        .context("could not run rustc; is it on PATH?")?;
    if !status.success() {
        bail!(
            "could not build {} for the guest; see rustc's lines above",
            source.display()
        );
    }
    fs::rename(&unfinished, &binary)
        .with_context(|| format!("could not write {}", binary.display()))?;
    Ok(binary)
}
