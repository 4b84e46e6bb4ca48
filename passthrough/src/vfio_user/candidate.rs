//! A connection that is being set up by one thread: who is there, what device it has; then guest memory is given.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vfio_user::client::{Client, ClientError, NoMemory, Reader, Reply};
use vfio_user::protocol::{Capabilities, DEFAULT_TRANSFER, command};
use vfio_user::wire::WireError;
use zerocopy::{FromBytes, IntoBytes};

use super::description::{Description, Shared};
use super::guest_memory::descriptor;
use super::lease::Lease;
use super::process::ServerProcess;
use super::session::Session;
use super::{OpenError, socket};

/// Most descriptors taken in a message.
const MOST_DESCRIPTORS: u32 = 64;

/// See the module's header.
pub struct Candidate {
    path: PathBuf,
    client: Client,
    process: Arc<ServerProcess>,
    /// How long it may take for each answer, and by when all must be there.
    patience: Duration,
    by: Instant,
}

/// A candidate whose device is known.
pub struct Found {
    candidate: Candidate,
    /// Its device.
    pub description: Description,
    shared: Shared,
}

impl Candidate {
    /// Comes to the server at `path`. `began` is given the connection: who shuts it down ends the attempt.
    ///
    /// # Errors
    /// When there is no server of this protocol.
    pub fn connect(
        path: &Path,
        patience: Duration,
        began: impl FnOnce(UnixStream),
    ) -> Result<Self, OpenError> {
        let host = |source| OpenError::Host {
            socket: path.to_owned(),
            what: "descriptor",
            source,
        };
        let socket = socket::open(path)?;
        began(socket.try_clone().map_err(host)?);
        let theirs = socket.try_clone().map_err(host)?;
        ServerProcess::note_senders(&socket, true).map_err(host)?;
        let stated = Capabilities {
            max_msg_fds: Some(MOST_DESCRIPTORS),
            max_data_xfer_size: Some(DEFAULT_TRANSFER),
            ..Capabilities::default()
        };
        let by = Instant::now() + patience * 3;
        let mut process = None;
        let client = Client::connect_seeing(socket, Some(stated), patience, |_| {
            process = Some(ServerProcess::behind(&theirs));
            // The rest is read without: there is no room for it.
            let _ = ServerProcess::note_senders(&theirs, false);
        });
        let client = client.map_err(|error| open_error(path, "who it is", patience, error))?;
        // It has answered, so it was looked at.
        let process = match process {
            Some(process) => process.map_err(host)?,
            None => ServerProcess::behind(&theirs).map_err(host)?,
        };
        let candidate = Self {
            path: path.to_owned(),
            client,
            process: Arc::new(process),
            patience,
            by,
        };
        if candidate.client.server().descriptors() == 0 {
            let what =
                "the server takes no descriptors (`max_msg_fds` is 0), and interrupts need them";
            return Err(candidate.unusable(what));
        }
        Ok(candidate)
    }

    /// Finds out what device it has.
    ///
    /// # Errors
    /// When it is none that can be used.
    pub fn find(mut self) -> Result<Found, OpenError> {
        let (description, shared) = Description::ask(&mut self)?;
        Ok(Found {
            candidate: self,
            description,
            shared,
        })
    }

    pub(super) fn request(
        &mut self,
        command: u16,
        doing: &'static str,
        payload: &[&[u8]],
    ) -> Result<Reply, OpenError> {
        let patience = self.patience();
        let reply = self
            .client
            .request(command, payload, &[], &NoMemory, patience);
        reply.map_err(|error| open_error(&self.path, doing, self.patience, error))
    }

    /// Asks for a layout.
    pub(super) fn ask<T: FromBytes>(
        &mut self,
        command: u16,
        doing: &'static str,
        question: &[u8],
    ) -> Result<T, OpenError> {
        let reply = self.request(command, doing, &[question])?;
        self.first(&reply.payload, doing)
    }

    /// The layout that a reply begins with.
    pub(super) fn first<T: FromBytes>(
        &self,
        payload: &[u8],
        doing: &'static str,
    ) -> Result<T, OpenError> {
        match T::read_from_prefix(payload) {
            Ok((layout, _)) => Ok(layout),
            Err(_) => Err(self.nonsense(doing)),
        }
    }

    pub(super) fn nonsense(&self, doing: &'static str) -> OpenError {
        OpenError::NotVfioUser {
            socket: self.path.clone(),
            what: format!("its answer to {doing} has not the size that it must have"),
        }
    }

    pub(super) fn unusable(&self, what: &str) -> OpenError {
        OpenError::Unusable {
            socket: self.path.clone(),
            what: what.to_owned(),
        }
    }

    fn patience(&self) -> Duration {
        let left = self.by.saturating_duration_since(Instant::now());
        self.patience.min(left)
    }
}

impl Found {
    /// The process that serves.
    pub fn process(&self) -> &Arc<ServerProcess> {
        &self.candidate.process
    }

    /// What a user should know.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }

    /// Gives it guest memory: from here on the process has it, whatever this returns. The lease ends with an error.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn give(self, lease: Arc<Lease>) -> Result<(Session, Reader), OpenError> {
        let mut candidate = self.candidate;
        let server = *candidate.client.server();
        for (map, file) in lease.memory().ranges() {
            let fds: Vec<_> = file.map(descriptor).into_iter().collect();
            let patience = candidate.patience();
            let payload = [map.as_bytes()];
            let client = &mut candidate.client;
            let reply = client.request(command::DMA_MAP, &payload, &fds, &*lease, patience);
            let doing = "guest memory";
            reply.map_err(|error| {
                lease.end();
                open_error(&candidate.path, doing, candidate.patience, error)
            })?;
        }
        let (requests, mut reader) = candidate.client.split();
        reader.set_patience(candidate.patience);
        let session = Session::new(
            requests,
            server,
            self.shared.files,
            candidate.process,
            lease,
        );
        Ok((session, reader))
    }
}

fn open_error(path: &Path, doing: &'static str, after: Duration, error: ClientError) -> OpenError {
    let socket = path.to_owned();
    match error {
        ClientError::Refused { errno, .. } => OpenError::Refused {
            socket,
            doing,
            errno,
        },
        ClientError::TimedOut { .. } | ClientError::Wire(WireError::TooSlow(_)) => {
            OpenError::Silent {
                socket,
                doing,
                after,
            }
        }
        ClientError::Wire(WireError::Closed | WireError::Truncated) => {
            OpenError::Left { socket, doing }
        }
        ClientError::OtherVersion(major, minor) => OpenError::OtherVersion {
            socket,
            major,
            minor,
        },
        ClientError::Version(_) | ClientError::Wire(_) | ClientError::Busy => {
            OpenError::NotVfioUser {
                socket,
                what: error.to_string(),
            }
        }
    }
}
