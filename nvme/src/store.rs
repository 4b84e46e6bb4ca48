//! The store of a drive whose namespaces come and go: a folder with a raw file for each namespace that the
//! guest created, and a list of them.
//!
//! The list says what is there. A file is made before it is listed and removed after it was struck off, so
//! that after a kill at any moment there can be a file too many, never one too few; the next start removes it.
//!
//! A list that was replaced is the list, also where the host then refuses to put its name on stable storage. What
//! depends on that, the removal of a file that an older list names, is left to the next start.

mod error;
mod list;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::warn;

use crate::backend::{FileBackend, lock_whole};
use crate::gate::lock;
use crate::stable::{self, Replaced};
use error::host;
use list::List;

pub use error::StoreError;
pub(crate) use list::Entry;

const LIST: &str = "namespaces.json";
const LOCK: &str = "lock";

/// Where namespaces that the guest creates are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceStore {
    /// The folder. Made where it is missing; its parent must be there.
    pub path: PathBuf,
    /// Bytes that all created namespaces may have together.
    pub capacity: u64,
}

/// See the module's header.
pub(crate) struct Store {
    folder: PathBuf,
    capacity: u64,
    /// Its lock is that of the folder.
    _lock: File,
    list: Mutex<List>,
    /// Puts the names in the folder of a path on stable storage.
    sync: fn(&Path) -> io::Result<()>,
    /// Held by a command that changes which namespaces there are, from its checks to its end: commands of a
    /// lane run side by side.
    pub(crate) managing: Mutex<()>,
}

impl Store {
    /// Opens the store and everything in it.
    pub(crate) fn open(
        config: &NamespaceStore,
    ) -> Result<(Self, Vec<(Entry, FileBackend)>), StoreError> {
        let folder = config.path.clone();
        match fs::create_dir(&folder) {
            Err(failure) if failure.kind() != ErrorKind::AlreadyExists => {
                return Err(host("make", &folder)(failure));
            }
            _ => {}
        }
        let at = folder.join(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&at);
        let file = file.map_err(host("open", &at))?;
        if !lock_whole(&file, true).map_err(host("lock", &at))? {
            return Err(StoreError::Locked { path: folder });
        }
        let list = list::read(&folder.join(LIST))?;
        let mut backends = Vec::with_capacity(list.namespaces.len());
        for entry in &list.namespaces {
            let path = folder.join(file_name(entry.number));
            let id = entry.id;
            let backend = FileBackend::open(&path, false)
                .map_err(|source| StoreError::Namespace { id, source })?;
            let found = crate::Backend::size(&backend);
            if found != entry.size {
                return Err(StoreError::Size {
                    id,
                    path,
                    found,
                    size: entry.size,
                });
            }
            backends.push((*entry, backend));
        }
        let store = Self {
            folder,
            capacity: config.capacity,
            _lock: file,
            list: Mutex::new(list),
            sync: stable::sync_folder,
            managing: Mutex::default(),
        };
        store.remove_unlisted()?;
        Ok((store, backends))
    }

    /// Bytes that all created namespaces may have together.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that are not allocated to a namespace.
    pub(crate) fn unallocated(&self) -> u64 {
        let list = lock(&self.list);
        let taken = list.namespaces.iter().map(|entry| entry.size);
        self.capacity.saturating_sub(taken.sum())
    }

    /// Makes a namespace of `size` bytes, all zeroes, not attached, and says where its data is.
    pub(crate) fn create(
        &self,
        id: u32,
        size: u64,
        block_size: u32,
    ) -> Result<(Entry, FileBackend), StoreError> {
        let mut list = lock(&self.list);
        let entry = Entry {
            id,
            number: list.created + 1,
            size,
            block_size,
            attached: false,
        };
        let path = self.folder.join(file_name(entry.number));
        let made = make_file(&path, size).and_then(|()| {
            FileBackend::open(&path, false).map_err(|source| StoreError::Namespace { id, source })
        });
        let backend = made.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        // Whatever becomes of the list: where it cannot be written, it may name the file all the same. The file
        // stays then, and the next start removes it if it is not named.
        list.created = entry.number;
        let mut new = list.clone();
        new.namespaces.push(entry);
        let _ = self.write(&new)?;
        *list = new;
        Ok((entry, backend))
    }

    /// Strikes a namespace off and removes its file, which lives on for those who have it open.
    pub(crate) fn delete(&self, id: u32) -> Result<(), StoreError> {
        let mut list = lock(&self.list);
        let mut new = list.clone();
        let at = new.namespaces.iter().position(|entry| entry.id == id);
        let Some(entry) = at.map(|at| new.namespaces.remove(at)) else {
            return Ok(());
        };
        let replaced = self.write(&new)?;
        *list = new;
        if let Replaced::Unsure(_) = replaced {
            return Ok(());
        }
        let path = self.folder.join(file_name(entry.number));
        // It is struck off: a file too many is the next start's.
        if let Err(failure) = fs::remove_file(&path) {
            warn!("cannot remove {}: {failure}", path.display());
        }
        Ok(())
    }

    /// Gives the namespace of this creation another identifier.
    pub(crate) fn renumber(&self, number: u64, id: u32) -> Result<(), StoreError> {
        let is_there = |entry: &&Entry| (entry.number, entry.id) == (number, id);
        if lock(&self.list)
            .namespaces
            .iter()
            .any(|entry| is_there(&entry))
        {
            return Ok(());
        }
        self.change(|list| {
            for entry in list
                .namespaces
                .iter_mut()
                .filter(|entry| entry.number == number)
            {
                entry.id = id;
            }
        })
    }

    /// Remembers the block size of a created namespace.
    pub(crate) fn set_block_size(&self, id: u32, block_size: u32) -> Result<(), StoreError> {
        let created = |entry: &Entry| entry.id == id && entry.block_size != block_size;
        if !lock(&self.list).namespaces.iter().any(created) {
            return Ok(());
        }
        self.change(|list| {
            for entry in list.namespaces.iter_mut().filter(|entry| entry.id == id) {
                entry.block_size = block_size;
            }
        })
    }

    /// Remembers whether a namespace, created or configured, is attached.
    pub(crate) fn set_attached(&self, id: u32, attached: bool) -> Result<(), StoreError> {
        self.change(|list| {
            if let Some(entry) = list.namespaces.iter_mut().find(|entry| entry.id == id) {
                entry.attached = attached;
                return;
            }
            list.detached.retain(|other| *other != id);
            if !attached {
                list.detached.push(id);
            }
        })
    }

    /// Whether the guest has detached the configured namespace `id`.
    pub(crate) fn is_detached(&self, id: u32) -> bool {
        lock(&self.list).detached.contains(&id)
    }

    fn change(&self, change: impl FnOnce(&mut List)) -> Result<(), StoreError> {
        let mut list = lock(&self.list);
        let mut new = list.clone();
        change(&mut new);
        let _ = self.write(&new)?;
        *list = new;
        Ok(())
    }

    fn write(&self, list: &List) -> Result<Replaced, StoreError> {
        let path = self.folder.join(LIST);
        let text = serde_json::to_vec_pretty(list).map_err(io::Error::other);
        let replaced = text.and_then(|text| stable::replace(&path, &text, self.sync));
        let replaced = replaced.map_err(host("write", &path))?;
        if let Replaced::Unsure(failure) = &replaced {
            warn!(
                "{} was written, but may be an older one after a loss of power: {failure}",
                path.display()
            );
        }
        Ok(replaced)
    }

    /// Removes what a kill between two steps left behind.
    fn remove_unlisted(&self) -> Result<(), StoreError> {
        let list = lock(&self.list);
        let listed: Vec<_> = (list.namespaces.iter())
            .map(|entry| file_name(entry.number))
            .collect();
        let failed = host("read", &self.folder);
        for file in fs::read_dir(&self.folder).map_err(failed)? {
            let name = file.map_err(host("read", &self.folder))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = name.starts_with("namespace-") && name.ends_with(".raw");
            if ours && !listed.iter().any(|listed| listed == name) {
                let path = self.folder.join(name);
                fs::remove_file(&path).map_err(host("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn file_name(number: u64) -> String {
    format!("namespace-{number}.raw")
}

/// A sparse file, on stable storage with its name.
fn make_file(path: &Path, size: u64) -> Result<(), StoreError> {
    let make = || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.set_len(size)?;
        file.sync_all()?;
        stable::sync_folder(path)
    };
    make().map_err(host("make", path))
}

#[cfg(test)]
mod tests;
