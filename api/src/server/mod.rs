//! The HTTP server: one thread with a single-threaded runtime, which hands requests to the thread that
//! owns the machine and stands ready for others while it waits.

mod body;
mod follow;
mod handlers;
mod routes;
mod socket;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::events::EventLog;
use crate::request::Submit;

pub(crate) use routes::Document;
pub use routes::{BASE, ROUTES, Route};
pub use socket::{SocketFile, bind};

/// How many connections are served at once; more wait in the socket's backlog.
pub const CONNECTIONS: usize = 128;
/// How many event streams are served at once.
pub const STREAMS: usize = 64;
/// The largest body that is taken, in bytes.
pub const BODY_LIMIT: usize = 1 << 20;
/// How long a client may take for the head of a request, and stay silent between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers still on their way are waited for when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the server listens.
#[derive(Debug)]
pub enum Listen {
    /// On a Unix socket that is made here with mode 0600, and removed when the server stops.
    Path(PathBuf),
    /// On a listening Unix socket that was made by somebody else, who also removes it.
    Inherited(OwnedFd),
}

/// How the server is set up.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: Listen,
}

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another process answers on the socket.
    #[error(
        "making the socket `{0}`: another process is listening on it; stop that process, or choose another path"
    )]
    InUse(PathBuf),
    /// There is a file that is no socket.
    #[error(
        "making the socket `{0}`: there is a file of this name that is no socket; choose another path"
    )]
    NotASocket(PathBuf),
    /// The system refused the socket.
    #[error(
        "making the socket `{path}`: {doing}; check that the directory exists and may be written to"
    )]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The inherited descriptor is no listening socket.
    #[error("taking over the API socket from a descriptor: it is no listening Unix socket")]
    Inherited(#[source] io::Error),
    /// The system refused the thread or what it needs.
    #[error("starting the API thread")]
    Thread(#[source] io::Error),
}

/// A running server. Stops when dropped.
#[derive(Debug)]
pub struct ServerHandle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    socket: Option<SocketFile>,
}

impl ServerHandle {
    /// Stops: removes the socket, takes no more requests, lets the answers still on their way go out for
    /// up to a second, closes all connections.
    pub fn stop(self) {
        drop(self);
    }

    /// The socket's path; none if it was inherited.
    pub fn path(&self) -> Option<&Path> {
        self.socket.as_ref().map(SocketFile::path)
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        drop(self.socket.take());
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the API thread has panicked");
        }
    }
}

/// What every connection and every handler uses.
#[derive(Clone)]
struct Api {
    submit: Arc<dyn Submit>,
    events: Arc<EventLog>,
    streams: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// Starts the server. When it returns, the socket takes connections.
///
/// # Errors
/// The socket is in use or cannot be made, or the thread cannot be started.
pub fn start(
    config: ServerConfig,
    submit: Arc<dyn Submit>,
    events: Arc<EventLog>,
) -> Result<ServerHandle, ServerError> {
    let (listener, socket) = match config.listen {
        Listen::Path(path) => {
            let (listener, file) = bind(path)?;
            (listener, Some(file))
        }
        Listen::Inherited(descriptor) => (socket::inherit(descriptor)?, None),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Thread)?;
    let listener = {
        let _entered = runtime.enter();
        UnixListener::from_std(listener).map_err(ServerError::Thread)?
    };
    let (stop, stopped) = watch::channel(false);
    let api = Api {
        submit,
        events,
        streams: Arc::new(Semaphore::new(STREAMS)),
        stopped,
    };
    let thread = std::thread::Builder::new()
        .name("api".into())
        .spawn(move || serve(runtime, listener, api))
        .map_err(ServerError::Thread)?;
    Ok(ServerHandle {
        stop,
        thread: Some(thread),
        socket,
    })
}

fn serve(runtime: Runtime, listener: UnixListener, api: Api) {
    runtime.block_on(async {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut stopped = api.stopped.clone();
        tokio::select! {
            () = accept(listener, api, Arc::clone(&free)) => {}
            () = until(&mut stopped) => {}
        }
        // All permits back: all connections closed. What has not ended in time is cut off.
        let _ = tokio::time::timeout(STOP_TIMEOUT, free.acquire_many(CONNECTIONS as u32)).await;
    });
    runtime.shutdown_background();
}

async fn accept(listener: UnixListener, api: Api, free: Arc<Semaphore>) {
    let router = routes::router(api.clone());
    // Closed never; an error would mean that no connection can be counted any more.
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, stopped) = (router.clone(), api.stopped.clone());
                tokio::spawn(async move {
                    connection(stream, router, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely out of descriptors, which passes.
                tracing::warn!(%error, "accepting a connection on the API socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection on the API socket broke off");
    }
}

/// Waits for the server to be stopped.
async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which stops the server too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
