//! Where things lie in the workspace: its root, its resources, its target folder.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace: the folder of the top Cargo.toml.
pub fn root() -> PathBuf {
    // Cargo sets the variable for what it runs; a binary started by hand falls back to
    // the place it was built from.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .map_or_else(|| package.clone(), Path::to_path_buf)
}

/// A file or folder under `resources/`.
pub fn resource(name: &str) -> PathBuf {
    root().join("resources").join(name)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The lab's own folder under the target folder.
pub fn lab_target() -> PathBuf {
    target().join("lab")
}
