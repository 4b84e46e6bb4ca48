//! Event streams: from the log, at the client's pace. A client slower than the events loses the oldest
//! ones and is told so by a gap; it holds up nobody.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Api, until};
use crate::events::{Event, EventLog};

/// How many events are taken from the log at once.
const BATCH: usize = 256;
/// How long a stream of server-sent events stays silent.
const SILENCE: Duration = Duration::from_secs(15);

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// An object a line.
    Lines,
    /// Server-sent events.
    ServerSent,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => "text/event-stream",
        }
    }

    fn write(self, events: &VecDeque<Event>) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = Vec::new();
        for event in events {
            if self == Self::ServerSent {
                text.extend_from_slice(format!("id: {}\ndata: ", event.seq).as_bytes());
            }
            serde_json::to_writer(&mut text, event)?;
            text.extend_from_slice(if self == Self::ServerSent {
                b"\n\n"
            } else {
                b"\n"
            });
        }
        Ok(text)
    }
}

struct Follower {
    log: Arc<EventLog>,
    newest: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    format: Format,
    /// The number of the last event sent.
    since: u64,
    follow: bool,
    _permit: OwnedSemaphorePermit,
}

/// The body of a stream that begins behind event number `since`.
pub(super) fn body(
    api: &Api,
    format: Format,
    since: u64,
    follow: bool,
    permit: OwnedSemaphorePermit,
) -> Body {
    let follower = Follower {
        log: Arc::clone(&api.events),
        newest: api.events.follow(),
        stopped: api.stopped.clone(),
        format,
        since,
        follow,
        _permit: permit,
    };
    Body::from_stream(stream::unfold(follower, |mut follower| async move {
        let text = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), follower))
    }))
}

impl Follower {
    /// The next stretch of text; none at the end of the stream.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Before the look at the log: what comes after it is then not missed.
            self.newest.mark_unchanged();
            let events = VecDeque::from(self.log.after(self.since, BATCH));
            if let Some(last) = events.back() {
                self.since = last.seq;
                return match self.format.write(&events) {
                    Ok(text) => Some(text),
                    Err(error) => {
                        tracing::error!(%error, "writing an event");
                        None
                    }
                };
            }
            if !self.follow || *self.stopped.borrow() {
                return None;
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                () = until(&mut self.stopped) => {}
                () = tokio::time::sleep(SILENCE), if self.format == Format::ServerSent => {
                    return Some(b": still here\n\n".to_vec());
                }
            }
        }
    }
}
