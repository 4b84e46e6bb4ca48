//! One connection to a server that has guest memory and a reader.

use std::sync::Arc;

use vfio_user::client::Requests;
use vfio_user::protocol::Capabilities;

use super::process::ServerProcess;
use super::shared_file::SharedFile;

/// See the module's header.
pub struct Session {
    /// Commands to the server.
    pub requests: Requests,
    /// What it stated.
    pub server: Capabilities,
    /// Files of the regions that can be mapped.
    pub files: Vec<Option<SharedFile>>,
    /// Who is behind it.
    pub process: Arc<ServerProcess>,
}
