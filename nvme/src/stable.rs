//! Small files that are replaced whole: after a power loss or a kill at any moment, the old one or the new
//! one is there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What became of a file that was replaced.
#[derive(Debug)]
#[must_use]
pub(crate) enum Replaced {
    /// The new one is on stable storage.
    Stable,
    /// The new one is there and outlives this process, but the host refused to say that its name is on
    /// stable storage: after a loss of power it may be the old one.
    Unsure(io::Error),
}

impl Replaced {
    /// For those who try again: as if it had not been replaced.
    pub(crate) fn sure(self) -> io::Result<()> {
        match self {
            Self::Stable => Ok(()),
            Self::Unsure(failure) => Err(failure),
        }
    }
}

/// Puts `content` in the place of `path`, and on stable storage; `sync` does the latter for its name.
///
/// # Errors
/// What the host says; then the old one is there.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    sync: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Replaced> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(new, path)?;
    Ok(match sync(path) {
        Ok(()) => Replaced::Stable,
        Err(failure) => Replaced::Unsure(failure),
    })
}

/// Puts on stable storage that `path` is there, or is gone.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
