//! Connects to a server's socket, without waiting for a server that does not take clients.

use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::OpenError;

/// A connection to whoever listens at `path`. It does not block.
pub fn open(path: &Path) -> Result<UnixStream, OpenError> {
    let failed = |source| match source {
        Errno::NOENT | Errno::NOTDIR => OpenError::Absent(path.to_owned()),
        Errno::CONNREFUSED => OpenError::NobodyListens(path.to_owned()),
        // Blocking would wait here for a server that hangs.
        Errno::AGAIN => OpenError::Crowded(path.to_owned()),
        source => OpenError::Connect {
            socket: path.to_owned(),
            source,
        },
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    loop {
        match connect(&socket, &address) {
            Err(Errno::INTR) => {}
            other => break other.map_err(failed)?,
        }
    }
    Ok(socket.into())
}
