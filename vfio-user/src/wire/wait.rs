//! How long a call waits for the peer.

use std::time::Instant;

/// How long a call waits: until a moment, and where it is made by [`Sender::cancellable`], no longer than until the
/// next [`Sender::cancel`]. One that several calls share ends all of them.
///
/// [`Sender::cancellable`]: super::Sender::cancellable
/// [`Sender::cancel`]: super::Sender::cancel
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub(super) by: Instant,
    /// Cancels there had been when it began.
    pub(super) cancels: Option<u64>,
}

impl Wait {
    /// The moment.
    pub fn by(&self) -> Instant {
        self.by
    }

    /// One that has ended: what does not find room is not waited for.
    pub(super) fn over() -> Self {
        Self {
            by: Instant::now(),
            cancels: Some(u64::MAX),
        }
    }

    /// Whether a cancel ends it.
    pub(crate) fn is_cancellable(&self) -> bool {
        self.cancels.is_some()
    }
}

impl From<Instant> for Wait {
    fn from(by: Instant) -> Self {
        Self { by, cancels: None }
    }
}
