//! Why a call failed, on the client's side or the server's.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{ApiError, ErrorCode};
use crate::json::JsonError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error(
        "connecting to the API socket `{socket}`; is sundown running with this `--api-socket`?"
    )]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server refused the call.
    #[error("{call} was refused (status {status}): {error}", call = name(call))]
    Api {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        error: Box<ApiError>,
    },
    /// The server refused the call with something that is no error of this interface.
    #[error("{call} was answered with status {status}: {body}", call = name(call))]
    Status {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        body: String,
    },
    /// The server did not answer in time.
    #[error("{call} was not answered within {} s", after.as_secs_f32(), call = name(call))]
    Timeout {
        /// The call.
        call: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke off.
    #[error("{call}: the connection broke off", call = name(call))]
    Broken {
        /// The call.
        call: String,
        /// What HTTP said.
        source: hyper::Error,
    },
    /// The answer is none that this client understands.
    #[error("{call}: its answer is not understood; is the server of another version?", call = name(call))]
    NotUnderstood {
        /// The call.
        call: String,
        /// What is wrong with it.
        source: JsonError,
    },
    /// The body cannot be written as JSON.
    #[error("{call}: its body cannot be written as JSON", call = name(call))]
    Unwritable {
        /// The call.
        call: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The call's path is none.
    #[error("`{call}` is no path of a call")]
    BadCall {
        /// The call.
        call: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// The system refused what the client needs.
    #[error("setting up the client")]
    Runtime(#[source] io::Error),
}

impl ClientError {
    /// What the server said; none if it said nothing.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The code of what the server said.
    pub fn code(&self) -> Option<ErrorCode> {
        self.api().map(|error| error.code)
    }

    /// The HTTP status; none if there was no answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } | Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The name of a call in an error: its path without slash and query.
fn name(call: &str) -> &str {
    let call = call.split_once('?').map_or(call, |(path, _)| path);
    call.trim_start_matches('/')
}
