//! Why the store of created namespaces cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::backend::BackendError;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The host refused.
    #[error("cannot {doing} {path}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// Another drive or process uses it.
    #[error("the namespace store {path} is in use by another drive or process")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The list is none that this program wrote.
    #[error("{path} is no list of namespaces of this version: {reason}")]
    List {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A namespace's file cannot be used.
    #[error("namespace {id} of the store: {source}")]
    Namespace {
        /// Its identifier.
        id: u32,
        /// Why.
        source: BackendError,
    },
    /// More namespaces than identifiers: the configuration has grown over those of the store.
    #[error("the store has more namespaces than the {limit} that the drive can have")]
    Full {
        /// The largest identifier.
        limit: u32,
    },
    /// A namespace's file has another size than the list says.
    #[error("{path} has {found} bytes, and as namespace {id} it must have {size}")]
    Size {
        /// Its identifier.
        id: u32,
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What the list says.
        size: u64,
    },
}

/// The host refused what was being done with `path`.
pub(super) fn host<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Host {
        doing,
        path: path.to_path_buf(),
        source,
    }
}
