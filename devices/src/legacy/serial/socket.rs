//! The serial port on a Unix socket: one client at a time, who may go and come back.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::legacy::lock;

/// How long a client may leave output untaken before some of it is lost.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);
/// Reads follow readiness; this bounds one that does not.
const READ_PATIENCE: Duration = Duration::from_millis(1);

type Client = Arc<Mutex<Option<Arc<UnixStream>>>>;

/// A listening socket and the client at its other end. The event loop polls both descriptors and calls
/// [`accept`](Self::accept) and [`read`](Self::read) when they are readable.
///
/// While no client is there, output is discarded. The socket file goes when this is dropped.
pub struct SerialSocket {
    listener: UnixListener,
    client: Client,
    path: PathBuf,
}

/// What a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketInput {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet, or there is no client.
    Nothing,
    /// The client is gone: stop polling its descriptor, then call [`SerialSocket::hang_up`].
    Closed,
}

impl SerialSocket {
    /// Listens at `path`, for this user alone. A socket file that nobody listens on any more is
    /// replaced; any other file, and a socket in use, is an error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?;
                }
                Ok(_) => return Err(ErrorKind::AddrInUse.into()),
                Err(error) => return Err(error),
            }
        }
        let listener = UnixListener::bind(path)?;
        let socket = Self {
            listener,
            client: Client::default(),
            path: path.to_owned(),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// The sink that writes to whichever client is there; for [`ConsoleOutput::new`].
    ///
    /// [`ConsoleOutput::new`]: super::ConsoleOutput::new
    pub fn output(&self) -> Box<dyn Write + Send> {
        Box::new(ToClient(self.client.clone()))
    }

    /// The descriptor on which clients arrive.
    pub fn listener_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// The descriptor of the client, if one is there.
    pub fn client_fd(&self) -> Option<RawFd> {
        lock(&self.client).as_ref().map(|client| client.as_raw_fd())
    }

    /// Takes a client that has arrived and returns its descriptor. Whoever comes while another is
    /// there is turned away: None, as when nobody came.
    pub fn accept(&self) -> io::Result<Option<RawFd>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if is_transient(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut client = lock(&self.client);
        if client.is_some() {
            return Ok(None);
        }
        stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
        stream.set_read_timeout(Some(READ_PATIENCE))?;
        let fd = stream.as_raw_fd();
        *client = Some(Arc::new(stream));
        Ok(Some(fd))
    }

    /// Reads what the client sent.
    pub fn read(&self, buffer: &mut [u8]) -> SocketInput {
        let client = lock(&self.client).clone();
        let Some(client) = client else {
            return SocketInput::Nothing;
        };
        match (&*client).read(buffer) {
            Ok(0) if !buffer.is_empty() => SocketInput::Closed,
            Ok(read) => SocketInput::Bytes(read),
            Err(error) if is_transient(&error) => SocketInput::Nothing,
            Err(_) => SocketInput::Closed,
        }
    }

    /// Lets the client go; the next one may come.
    pub fn hang_up(&self) {
        let client = lock(&self.client).take();
        if let Some(client) = client {
            // The output thread may be writing to it: that ends now.
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for SerialSocket {
    fn drop(&mut self) {
        self.hang_up();
        let _ = fs::remove_file(&self.path);
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
    )
}

struct ToClient(Client);

impl Write for ToClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let client = lock(&self.0).clone();
        match client {
            Some(client) => (&*client).write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
