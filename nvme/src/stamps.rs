//! When the guest did what to the controller's registers, on the host's monotonic clock.

use std::time::Instant;

/// The moments of one session, from CC.EN to the next. A seam for reports of what the guest did when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// CC.EN went from 0 to 1.
    pub enabled: Option<Instant>,
    /// CC.SHN was written.
    pub shutdown: Option<Instant>,
    /// CSTS.SHST came to 10b.
    pub shutdown_complete: Option<Instant>,
    /// Reads of CSTS while a shutdown was occurring, and the first one that saw it complete.
    pub polls: u64,
    /// The first of them.
    pub first_poll: Option<Instant>,
    /// The last of them.
    pub last_poll: Option<Instant>,
    /// CC.EN went from 1 to 0, or a function level or bus reset came.
    pub reset: Option<Instant>,
}

impl Stamps {
    /// The stamps of a session that begins.
    pub(crate) fn begin() -> Self {
        Self {
            enabled: Some(Instant::now()),
            ..Self::default()
        }
    }

    pub(crate) fn poll(&mut self, complete: bool) {
        let now = Instant::now();
        if complete
            && self
                .last_poll
                .is_some_and(|last| Some(last) > self.shutdown_complete)
        {
            return;
        }
        self.polls += 1;
        self.first_poll.get_or_insert(now);
        self.last_poll = Some(now);
    }
}
