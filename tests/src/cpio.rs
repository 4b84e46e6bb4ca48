//! Writes an initramfs: a cpio archive in the `newc` format, as the kernel unpacks it.
//! Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const FOLDER: u32 = 0o040_000;
const DEVICE: u32 = 0o020_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;

/// An archive being written. Folders on the way to an entry are made by themselves.
#[derive(Debug)]
pub struct Archive<W: Write> {
    to: W,
    written: usize,
    entries: u32,
    folders: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(to: W) -> Self {
        Self {
            to,
            written: 0,
            entries: 0,
            folders: BTreeSet::new(),
        }
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn folder(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = relative(path.as_ref());
        if path.as_os_str().is_empty() || !self.folders.insert(path.clone()) {
            return Ok(());
        }
        self.folders_above(&path)?;
        self.entry(&path, FOLDER | 0o755, (0, 0), &[])
    }

    /// Adds a file with these contents and permission bits.
    ///
    /// # Errors
    /// When the archive cannot be written, or the file is larger than the format allows.
    pub fn contents(&mut self, path: impl AsRef<Path>, mode: u32, contents: &[u8]) -> Result<()> {
        let path = relative(path.as_ref());
        self.folders_above(&path)?;
        self.entry(&path, FILE | (mode & 0o7777), (0, 0), contents)
    }

    /// Adds a symbolic link at `path` to `target`.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn link(&mut self, path: impl AsRef<Path>, target: &str) -> Result<()> {
        let path = relative(path.as_ref());
        self.folders_above(&path)?;
        self.entry(&path, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn device(&mut self, path: impl AsRef<Path>, major: u32, minor: u32) -> Result<()> {
        let path = relative(path.as_ref());
        self.folders_above(&path)?;
        self.entry(&path, DEVICE | 0o600, (major, minor), &[])
    }

    /// Adds a host's file, or a folder with all in it, at `path`; links are followed.
    ///
    /// # Errors
    /// When the host's file cannot be read or the archive cannot be written.
    pub fn from_host(&mut self, host: &Path, path: &Path) -> Result<()> {
        let about = || {
            format!(
                "could not read {} to put it into an initramfs",
                host.display()
            )
        };
        let metadata = fs::metadata(host).with_context(about)?;
        if !metadata.is_dir() {
            let contents = fs::read(host).with_context(about)?;
            return self.contents(path, metadata.permissions().mode(), &contents);
        }
        self.folder(path)?;
        let mut names = fs::read_dir(host)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<std::io::Result<Vec<_>>>()
            })
            .with_context(about)?;
        names.sort();
        names
            .iter()
            .try_for_each(|name| self.from_host(&host.join(name), &path.join(name)))
    }

    /// Writes the archive's end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, (0, 0), &[])?;
        self.to
            .flush()
            .context("could not write the end of an initramfs")
    }

    fn folders_above(&mut self, path: &Path) -> Result<()> {
        path.parent().map_or(Ok(()), |parent| self.folder(parent))
    }

    fn entry(&mut self, path: &Path, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<()> {
        let name = path.as_os_str().as_encoded_bytes();
        let Ok(size) = u32::try_from(contents.len()) else {
            bail!(
                "{} is too large for an initramfs: 4 GiB is the limit",
                path.display()
            );
        };
        self.entries += 1;
        // magic, inode, mode, uid, gid, links, mtime, size, device of the file, device it
        // stands for, name size, checksum (unused)
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.entries,
            0,
            0,
            1,
            0,
            0,
            0,
            device.0,
            device.1,
            name.len() + 1,
            0,
        );
        self.bytes(header.as_bytes())?;
        self.bytes(name)?;
        self.bytes(&[0])?;
        self.pad()?;
        self.bytes(contents)?;
        self.pad()
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len();
        self.to
            .write_all(bytes)
            .context("could not write an initramfs: is the disk full?")
    }

    fn pad(&mut self) -> Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.bytes(&[0; 3][..missing])
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_readers_expect() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.contents("/a/b", 0o755, b"hello").unwrap();
        archive.contents("/a/c", 0o644, b"").unwrap();
        archive.finish().unwrap();

        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let names: Vec<_> = text
            .match_indices("070701")
            .map(|(at, _)| &text[at + 110..at + 112])
            .collect();
        assert_eq!(
            names,
            ["a\0", "a/", "a/", "TR"],
            "the folder comes once, before what is in it"
        );
        assert!(
            text.starts_with("07070100000001000041ed"),
            "a folder, mode 755"
        );
        assert!(text.contains("000081ed"), "a file, mode 755");
        assert!(
            text.contains("a/b\0\0\0hello\0\0\x00070701"),
            "contents stand on, and end on, four bytes"
        );
    }
}
