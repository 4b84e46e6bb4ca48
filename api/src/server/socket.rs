//! A server's socket file, the API's and a device process's: made with mode 0600, in the place of a stale one but never of a live one, and
//! removed when the server stops.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::ServerError;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket file that was made here. Removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "removing the socket");
        }
    }
}

/// Makes the socket file with mode 0600, in the place of a stale one, and listens on it without blocking.
///
/// # Errors
/// When another process listens on it, when a file that is no socket is there, or what the system said.
pub fn bind(path: PathBuf) -> Result<(UnixListener, SocketFile), ServerError> {
    let bound = bind_to(&path);
    let (socket, identity) = match bound {
        Ok(bound) => bound,
        Err(failed) => return Err(failed.at(path)),
    };
    Ok((
        UnixListener::from(OwnedFd::from(socket)),
        SocketFile { path, identity },
    ))
}

/// Takes over a socket that somebody else listens on.
pub(super) fn inherit(descriptor: OwnedFd) -> Result<UnixListener, ServerError> {
    let socket = Socket::from(descriptor);
    let listening =
        || -> io::Result<bool> { Ok(socket.domain()? == Domain::UNIX && socket.is_listener()?) };
    match listening().map_err(ServerError::Inherited)? {
        true => socket
            .set_nonblocking(true)
            .map_err(ServerError::Inherited)?,
        false => return Err(ServerError::Inherited(ErrorKind::InvalidInput.into())),
    }
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

enum Failed {
    InUse,
    NotASocket,
    System(&'static str, io::Error),
}

impl Failed {
    fn at(self, path: PathBuf) -> ServerError {
        match self {
            Self::InUse => ServerError::InUse(path),
            Self::NotASocket => ServerError::NotASocket(path),
            Self::System(doing, source) => ServerError::Socket {
                path,
                doing,
                source,
            },
        }
    }
}

fn bind_to(path: &Path) -> Result<(Socket, (u64, u64)), Failed> {
    let doing = |doing| move |error| Failed::System(doing, error);
    let address =
        SockAddr::unix(path).map_err(doing("its path is longer than a socket's may be"))?;
    remove_stale(path, &address)?;
    let socket = new_socket()?;
    // bind() gives the file the mode of the socket, less the umask: so it is never open to others, not
    // even for a moment, and no other thread sees a changed umask.
    let socket = File::from(OwnedFd::from(socket));
    socket
        .set_permissions(Permissions::from_mode(0o600))
        .map_err(doing("setting its mode"))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&address).map_err(doing("binding it"))?;
    socket.listen(BACKLOG).map_err(doing("listening on it"))?;
    let file = fs::symlink_metadata(path).map_err(doing("looking at it"))?;
    Ok((socket, (file.dev(), file.ino())))
}

fn new_socket() -> Result<Socket, Failed> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)
        .map_err(|error| Failed::System("creating a socket", error))?;
    socket
        .set_nonblocking(true)
        .map_err(|error| Failed::System("making it non-blocking", error))?;
    Ok(socket)
}

/// Removes a socket file that no process listens on.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), Failed> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failed::System("looking at what is there", error)),
        Ok(file) if !file.file_type().is_socket() => return Err(Failed::NotASocket),
        Ok(_) => {}
    }
    match new_socket()?.connect(address) {
        // A full backlog (EAGAIN) is a live listener's too.
        Ok(()) => Err(Failed::InUse),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Failed::InUse),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Failed::System(
                "removing the stale socket of an ended process",
                error,
            )),
            _ => Ok(()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failed::System(
            "trying whether a process listens on the one that is there",
            error,
        )),
    }
}
