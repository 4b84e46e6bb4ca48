//! Commands to the server, and what their failures say of it.

use std::fmt::Display;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vfio_user::client::{ClientError as WireClientError, Reply};
use vfio_user::wire::{Wait, WireError};

use super::in_words;
use super::link::{End, Link};
use super::session::Session;
use crate::client::ClientError;

/// What one call may take in all, however many commands it has for the server.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    began: Instant,
    wait: Wait,
}

impl Allowance {
    /// A call that begins now, ends at `by`, and is not cancelled.
    pub fn until(by: Instant) -> Self {
        Self {
            began: Instant::now(),
            wait: by.into(),
        }
    }

    /// How long it lasts, from its beginning on.
    fn length(&self) -> Duration {
        self.wait.by().saturating_duration_since(self.began)
    }
}

impl Link {
    /// What a call that begins now may take. It can be cancelled.
    pub fn allow(&self, session: &Session) -> Allowance {
        let began = Instant::now();
        Allowance {
            began,
            wait: session.requests.cancellable(self.due(began)),
        }
    }

    /// The same for a call that is not cancelled: whoever makes it is not waited for.
    pub fn allow_whole(&self) -> Allowance {
        Allowance::until(self.due(Instant::now()))
    }

    fn due(&self, began: Instant) -> Instant {
        let by = began + self.options.request_timeout;
        self.bound_by().map_or(by, |bound| bound.min(by))
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// Where the server refuses, or the call is cancelled. It is gone where it does not answer.
    pub fn ask(
        &self,
        session: &Arc<Session>,
        (command, payload): (u16, &[&[u8]]),
        descriptors: &[BorrowedFd<'_>],
        allowance: Allowance,
        doing: impl Display,
    ) -> Result<Reply, ClientError> {
        if allowance.length().is_zero() {
            // It was not asked, and is not to be blamed.
            return Err(ClientError::TimedOut {
                device: self.name.clone(),
                doing: doing.to_string(),
                after: Duration::ZERO,
            });
        }
        let reply = (session.requests).request(command, payload, descriptors, allowance.wait);
        reply.map_err(|error| self.failed(session, error, allowance, &doing))
    }

    /// Sends a command that wants no reply.
    ///
    /// # Errors
    /// The server is gone, or there was no room for the command until the call was cancelled.
    pub fn post(
        &self,
        session: &Arc<Session>,
        (command, payload): (u16, &[&[u8]]),
        allowance: Allowance,
        doing: impl Display,
    ) -> Result<(), ClientError> {
        let posted = (session.requests).post(command, payload, &[], allowance.wait);
        posted.map_err(|error| self.failed(session, error, allowance, &doing))
    }

    /// A reply that is none to what was asked: nothing that such a server says can be relied on.
    pub fn nonsense(&self, session: &Arc<Session>, doing: impl Display) -> ClientError {
        let reason = format!("the server's answer to {doing} makes no sense");
        self.end(session, End::Left(reason));
        self.gone_error()
    }

    fn failed(
        &self,
        session: &Arc<Session>,
        error: WireClientError,
        allowance: Allowance,
        doing: &dyn Display,
    ) -> ClientError {
        let device = self.name.clone();
        match error {
            WireClientError::Refused { errno, .. } => ClientError::Refused {
                device,
                doing: doing.to_string(),
                source: errno.into(),
            },
            WireClientError::Wire(WireError::Cancelled) => ClientError::Cancelled {
                device,
                doing: doing.to_string(),
            },
            WireClientError::TimedOut { .. } | WireClientError::Wire(WireError::TooSlow(_)) => {
                // A moment has passed since the deadline was set: five seconds are to read as such.
                let length = allowance.length() + Duration::from_micros(500);
                let after = Duration::from_millis(length.as_millis() as u64);
                let within = in_words(after);
                let reason = format!("the server did not answer {doing} within {within}");
                self.end(session, End::Hung(reason));
                ClientError::TimedOut {
                    device,
                    doing: doing.to_string(),
                    after,
                }
            }
            error => {
                self.end(session, End::Left(format!("{doing}: {error}")));
                self.gone_error()
            }
        }
    }
}
