//! A blocking client: a method a call, typed answers, errors that hold what the server said.

mod error;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

pub use error::ClientError;
pub use hyper::Method;
pub use stream::{Events, Lines};

use crate::config::{
    AddDevice, AddUserDevice, BehaviourUpdate, DeviceAdded, DeviceBehaviour, RemoveDevice, VmConfig,
};
use crate::error::ApiError;
use crate::json;
use crate::plan::Plans;
use crate::report::{TeardownReport, TeardownSummary};
use crate::server::BASE;
use crate::state::{PolicyUpdate, TeardownPolicyInfo, Topology, VmInfo, VmmPing};

/// How long an answer is waited for unless [`Client::with_timeout`] says otherwise. A call that shuts
/// devices down takes as long as they do.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one VMM. Every call has a connection of its own, so that it can be used from several
/// threads, and across a restart of the server. Not to be used on a thread that runs asynchronous code.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the VMM that listens, or will listen, on the given socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: TIMEOUT,
        }
    }

    /// Changes how long answers are waited for.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `vmm.ping`.
    pub fn ping(&self) -> Result<VmmPing, ClientError> {
        self.get("/vmm.ping")
    }

    /// Waits until the VMM answers `vmm.ping`, for a process that has just been started.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<VmmPing, ClientError> {
        let begin = std::time::Instant::now();
        loop {
            match self.ping() {
                Err(ClientError::Connect { .. }) if begin.elapsed() < timeout => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                answer => return answer,
            }
        }
    }

    /// `vmm.shutdown`.
    pub fn vmm_shutdown(&self) -> Result<(), ClientError> {
        self.put("/vmm.shutdown")
    }

    /// `vm.create`.
    pub fn create(&self, config: &VmConfig) -> Result<(), ClientError> {
        self.send("/vm.create", config)
    }

    /// `vm.boot`.
    pub fn boot(&self) -> Result<(), ClientError> {
        self.put("/vm.boot")
    }

    /// `vm.info`.
    pub fn info(&self) -> Result<VmInfo, ClientError> {
        self.get("/vm.info")
    }

    /// `vm.pause`.
    pub fn pause(&self) -> Result<(), ClientError> {
        self.put("/vm.pause")
    }

    /// `vm.resume`.
    pub fn resume(&self) -> Result<(), ClientError> {
        self.put("/vm.resume")
    }

    /// `vm.shutdown`.
    pub fn shutdown(&self) -> Result<(), ClientError> {
        self.put("/vm.shutdown")
    }

    /// `vm.reboot`.
    pub fn reboot(&self) -> Result<(), ClientError> {
        self.put("/vm.reboot")
    }

    /// `vm.power-button`.
    pub fn power_button(&self) -> Result<(), ClientError> {
        self.put("/vm.power-button")
    }

    /// `vm.delete`.
    pub fn delete(&self) -> Result<(), ClientError> {
        self.put("/vm.delete")
    }

    /// `vm.topology`.
    pub fn topology(&self) -> Result<Topology, ClientError> {
        self.get("/vm.topology")
    }

    /// `vm.devices/{id}/behaviour`, read.
    pub fn behaviour(&self, id: &str) -> Result<DeviceBehaviour, ClientError> {
        self.get(&format!("/vm.devices/{id}/behaviour"))
    }

    /// `vm.devices/{id}/behaviour`, written.
    pub fn set_behaviour(&self, id: &str, update: &BehaviourUpdate) -> Result<(), ClientError> {
        self.send(&format!("/vm.devices/{id}/behaviour"), update)
    }

    /// `vm.add-device`.
    pub fn add_device(&self, device: &AddDevice) -> Result<DeviceAdded, ClientError> {
        self.ask("/vm.add-device", device)
    }

    /// `vm.add-user-device`.
    pub fn add_user_device(&self, device: &AddUserDevice) -> Result<DeviceAdded, ClientError> {
        self.ask("/vm.add-user-device", device)
    }

    /// `vm.remove-device`.
    pub fn remove_device(&self, id: &str) -> Result<(), ClientError> {
        let id = id.to_owned();
        self.send("/vm.remove-device", &RemoveDevice { id })
    }

    /// `vm.plan`.
    pub fn plan(&self) -> Result<Plans, ClientError> {
        self.get("/vm.plan")
    }

    /// `vm.teardown-policy`, read.
    pub fn teardown_policy(&self) -> Result<TeardownPolicyInfo, ClientError> {
        self.get("/vm.teardown-policy")
    }

    /// `vm.teardown-policy`, written.
    pub fn set_teardown_policy(&self, update: PolicyUpdate) -> Result<(), ClientError> {
        self.send("/vm.teardown-policy", &update)
    }

    /// `vm.teardowns`.
    pub fn teardowns(&self) -> Result<Vec<TeardownSummary>, ClientError> {
        self.get("/vm.teardowns")
    }

    /// `vm.teardowns/{n}`.
    pub fn teardown(&self, number: u64) -> Result<TeardownReport, ClientError> {
        self.get(&format!("/vm.teardowns/{number}"))
    }

    /// `events`, behind event number `since` (0 for all that are kept), or from now on.
    pub fn events(&self, since: Option<u64>) -> Result<Events, ClientError> {
        self.event_lines(since, true).map(Events::from)
    }

    /// `events` as the server writes them; without `follow`, those that there are now.
    pub fn event_lines(&self, since: Option<u64>, follow: bool) -> Result<Lines, ClientError> {
        let since = since
            .map(|since| format!("&since={since}"))
            .unwrap_or_default();
        let path = format!("/events?follow={follow}{since}");
        let runtime = runtime()?;
        let (connection, answer) =
            runtime.block_on(self.within(&path, self.answer(Method::GET, &path, Bytes::new())))?;
        if !answer.status().is_success() {
            return Err(runtime
                .block_on(self.within(&path, refused(&path, answer)))
                .unwrap_or_else(|error| error));
        }
        Ok(Lines::new(runtime, connection, answer.into_body(), path))
    }

    /// Any call, its body and its answer as they are: for what has no method here.
    ///
    /// # Errors
    /// The server cannot be reached, does not answer in time, or answers with an error.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, ClientError> {
        runtime()?.block_on(self.within(path, async {
            let (connection, answer) = self.answer(method, path, body.into()).await?;
            if !answer.status().is_success() {
                return Err(refused(path, answer).await.unwrap_or_else(|error| error));
            }
            let body = answer.into_body().collect().await;
            drop(connection);
            Ok(body
                .map_err(|source| ClientError::Broken {
                    call: path.to_owned(),
                    source,
                })?
                .to_bytes())
        }))
    }

    fn get<T: DeserializeOwned + Send>(&self, path: &str) -> Result<T, ClientError> {
        understood(path, &self.call(Method::GET, path, Bytes::new())?)
    }

    fn put(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::PUT, path, Bytes::new()).map(drop)
    }

    fn send(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        self.call(Method::PUT, path, written(path, body)?).map(drop)
    }

    fn ask<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.call(Method::PUT, path, written(path, body)?)?;
        understood(path, &answer)
    }

    /// Sends a request on a connection of its own, and waits for the head of the answer.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), ClientError> {
        let broken = |source| ClientError::Broken {
            call: path.to_owned(),
            source,
        };
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::Connect {
                    socket: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Its errors come out of the sender too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|source| ClientError::BadCall {
                call: path.to_owned(),
                source,
            })?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        Ok((sender, answer))
    }

    async fn within<T>(
        &self,
        call: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let timeout = || ClientError::Timeout {
            call: call.to_owned(),
            after: self.timeout,
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err(timeout()))
    }
}

fn written(call: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(body).map_err(|source| ClientError::Unwritable {
        call: call.to_owned(),
        source,
    })
}

fn understood<T: DeserializeOwned + Send>(call: &str, answer: &[u8]) -> Result<T, ClientError> {
    json::from_slice(answer).map_err(|source| ClientError::NotUnderstood {
        call: call.to_owned(),
        source,
    })
}

fn runtime() -> Result<Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClientError::Runtime)
}

/// The error that the server answered with.
async fn refused(call: &str, answer: Response<Incoming>) -> Result<ClientError, ClientError> {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await;
    let body = body
        .map_err(|source| ClientError::Broken {
            call: call.to_owned(),
            source,
        })?
        .to_bytes();
    Ok(match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => ClientError::Api {
            call: call.to_owned(),
            status,
            error: Box::new(error),
        },
        Err(_) => ClientError::Status {
            call: call.to_owned(),
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        },
    })
}
