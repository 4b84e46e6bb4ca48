//! Why a server's device could not be opened, and what to do.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::in_words;

/// See the module's header.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no file of this name.
    #[error("{}: there is no such socket: start the server of the device, or correct the path", .0.display())]
    Absent(PathBuf),
    /// Nobody listens.
    #[error(
        "{}: nobody listens there: it is no socket, or one whose server has ended; start the server anew",
        .0.display()
    )]
    NobodyListens(PathBuf),
    /// Clients wait already, and nobody takes them.
    #[error(
        "{}: the server takes no more connections: is it stuck, or in use by another machine?",
        .0.display()
    )]
    Crowded(PathBuf),
    /// It could not be connected to.
    #[error("{}: connecting to the server: {source}{}", socket.display(), hint(*source))]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the host says.
        source: Errno,
    },
    /// The server left before the device was known.
    #[error(
        "{}: the server closed the connection at {doing}: does another machine use the device? A server has one \
         client at a time; its log may say more",
        socket.display()
    )]
    Left {
        /// The socket.
        socket: PathBuf,
        /// What was being done.
        doing: &'static str,
    },
    /// The server did not answer.
    #[error(
        "{}: the server did not answer {doing} within {}: is it stuck, in use by another machine, or no vfio-user \
         server?",
        socket.display(), in_words(*after)
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// What it says is not the protocol.
    #[error(
        "{}: whoever listens there does not speak vfio-user: {what}: give the socket of a vfio-user server",
        socket.display()
    )]
    NotVfioUser {
        /// The socket.
        socket: PathBuf,
        /// What it said.
        what: String,
    },
    /// It speaks another version.
    #[error(
        "{}: the server speaks version {major}.{minor} of vfio-user, and 0.0 to 0.1 are supported here: use a server \
         of that version",
        socket.display()
    )]
    OtherVersion {
        /// The socket.
        socket: PathBuf,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// It refused a command.
    #[error("{}: the server refused {doing}: {errno}: its log may say why", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// The device is none that a guest can have.
    #[error("{}: the server's device cannot be used: {what}", socket.display())]
    Unusable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        what: String,
    },
    /// The host gave no thread or descriptor.
    #[error("{}: the host gives no {what}: {source}", socket.display())]
    Host {
        /// The socket.
        socket: PathBuf,
        /// What is missing.
        what: &'static str,
        /// Its error.
        source: std::io::Error,
    },
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS | Errno::PERM => ": let this user write to the socket and search its folders",
        Errno::NAMETOOLONG | Errno::INVAL => {
            ": a socket's path has 107 bytes at most; have the server listen at a shorter one"
        }
        Errno::PROTOTYPE => ": it is a socket of another kind; give that of a vfio-user server",
        _ => "",
    }
}
