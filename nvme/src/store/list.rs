//! The list of a store: which namespaces there are.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::error::host;
use crate::spec::BLOCK_SIZES;

const VERSION: u32 = 1;

/// The list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    pub(super) version: u32,
    /// How many namespaces were ever created: the number of the last one.
    pub(super) created: u64,
    pub(super) namespaces: Vec<Entry>,
    /// Configured namespaces that the guest detached.
    pub(super) detached: Vec<u32>,
}

/// A namespace as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The namespace's identifier.
    pub(crate) id: u32,
    /// Which creation it came from: names the file, and is never used again.
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) block_size: u32,
    pub(crate) attached: bool,
}

/// Reads and checks the list; the first one where there is none.
pub(super) fn read(path: &Path) -> Result<List, StoreError> {
    let wrong = |reason: String| StoreError::List {
        path: path.to_path_buf(),
        reason,
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(failure) if failure.kind() == ErrorKind::NotFound => {
            return Ok(List {
                version: VERSION,
                created: 0,
                namespaces: Vec::new(),
                detached: Vec::new(),
            });
        }
        Err(failure) => return Err(host("read", path)(failure)),
    };
    let list: List = serde_json::from_slice(&text).map_err(|failure| wrong(failure.to_string()))?;
    if list.version != VERSION {
        return Err(wrong(format!("its version is {}", list.version)));
    }
    for entry in &list.namespaces {
        let size = entry.block_size;
        if !BLOCK_SIZES.contains(&size) {
            return Err(wrong(format!(
                "namespace {} has blocks of {size} bytes",
                entry.id
            )));
        }
        let same = |other: &&Entry| other.id == entry.id || other.number == entry.number;
        if entry.id == 0 || list.namespaces.iter().filter(same).count() > 1 {
            return Err(wrong(format!(
                "namespace {} is no namespace, or is there twice",
                entry.id
            )));
        }
    }
    Ok(list)
}
