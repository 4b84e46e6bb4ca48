//! The limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's own limit to the highest that it may have. Every vector of every drive is an eventfd,
/// and every range that a client of `sundown-nvme` maps a file: the usual soft limit of 1,024 is soon reached.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "raising the limit on open files; large machines may need more");
    }
}
