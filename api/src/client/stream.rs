//! Event streams on the client's side.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Runtime;

use super::ClientError;
use crate::events::Event;
use crate::json;

/// The lines of an event stream. As an iterator, waits for the next line for as long as it takes; ends
/// when the server ends the stream.
#[derive(Debug)]
pub struct Lines {
    /// Whole lines that have arrived.
    ready: VecDeque<String>,
    /// The begin of the line that is arriving.
    partial: Vec<u8>,
    body: Incoming,
    call: String,
    // The last two: the body lives on the connection, the connection in the runtime.
    _connection: SendRequest<Full<Bytes>>,
    runtime: Runtime,
}

impl Lines {
    pub(super) fn new(
        runtime: Runtime,
        connection: SendRequest<Full<Bytes>>,
        body: Incoming,
        call: String,
    ) -> Self {
        Self {
            ready: VecDeque::new(),
            partial: Vec::new(),
            body,
            call,
            _connection: connection,
            runtime,
        }
    }

    /// The next line; none at the end of the stream.
    ///
    /// # Errors
    /// The connection broke off, or there is no line by `deadline`; the stream can be read on after that.
    pub fn next_by(&mut self, deadline: Option<Instant>) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let frame = match deadline {
                None => self.runtime.block_on(self.body.frame()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout = || ClientError::Timeout {
                        call: self.call.clone(),
                        after: left,
                    };
                    let body = &mut self.body;
                    let frame = self
                        .runtime
                        .block_on(async { tokio::time::timeout(left, body.frame()).await });
                    frame.map_err(|_| timeout())?
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|source| ClientError::Broken {
                call: self.call.clone(),
                source,
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.partial.extend_from_slice(&data);
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let rest = self.partial.split_off(end + 1);
                self.partial.truncate(end);
                self.ready
                    .push_back(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial = rest;
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<String, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None).transpose()
    }
}

/// The events of a stream. As an iterator, waits for the next event for as long as it takes; ends when
/// the server ends the stream.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    seen: u64,
}

impl From<Lines> for Events {
    fn from(lines: Lines) -> Self {
        Self { lines, seen: 0 }
    }
}

impl Events {
    /// The number of the last event that was read: what a stream that continues this one begins behind.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The next event; none at the end of the stream.
    ///
    /// # Errors
    /// As [`Lines::next_by`], and for a line that is no event.
    pub fn next_by(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, ClientError> {
        let Some(line) = self.lines.next_by(deadline)? else {
            return Ok(None);
        };
        let event: Event =
            json::from_slice(line.as_bytes()).map_err(|source| ClientError::NotUnderstood {
                call: self.lines.call.clone(),
                source,
            })?;
        self.seen = event.seq;
        Ok(Some(event))
    }

    /// Reads on until an event is wanted, and returns it; none if the stream ends before.
    ///
    /// # Errors
    /// As [`Events::next_by`]; no such event within `timeout`.
    pub fn wait_for(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Option<Event>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.next_by(Some(deadline)) {
                Ok(Some(event)) if wanted(&event) => return Ok(Some(event)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(ClientError::Timeout { call, .. }) => {
                    return Err(ClientError::Timeout {
                        call,
                        after: timeout,
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None).transpose()
    }
}
