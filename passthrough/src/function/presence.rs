//! Whether the guest sees the device: it does from its boot on, until the device is gone once or a reset has failed. One
//! that comes back has forgotten what the guest's driver told it, so it is another one to the guest, which sees it
//! from its next boot on.
//!
//! A device's sessions are counted ([`crate::Client::session`]). News of one that has ended change nothing of the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};

use crate::client::{ClientError, Observer};
use crate::function::Function;

/// See the module's header.
pub(super) struct Presence {
    /// The session that the guest's driver speaks to.
    guests: AtomicU64,
    /// The last one that is lost to the guest.
    lost: AtomicU64,
}

impl Presence {
    /// The guest sees the device in `session`.
    pub(super) fn new(session: u64) -> Self {
        Self {
            guests: AtomicU64::new(session),
            lost: AtomicU64::new(session.saturating_sub(1)),
        }
    }

    /// From now on the guest sees it in `session`.
    pub(super) fn readmit(&self, session: u64) {
        self.lost
            .store(session.saturating_sub(1), Ordering::Release);
        self.guests.store(session, Ordering::Release);
    }

    /// The session that the guest's driver speaks to.
    pub(super) fn session(&self) -> u64 {
        self.guests.load(Ordering::Acquire)
    }

    /// The guest sees no more of `session`. Says whether that is news.
    fn lose(&self, session: u64) -> bool {
        self.lost.fetch_max(session, Ordering::AcqRel) < session
    }

    fn is_lost(&self, session: u64) -> bool {
        self.lost.load(Ordering::Acquire) >= session
    }
}

impl Function {
    /// Has `observer` told, once, of a device that is lost although it is there, since a reset that the guest asked for
    /// has failed: of one that is gone its client tells. A teardown that ends well brings it back, without a word. The
    /// observer is also told of the first thing between two teardowns that the device or the host refused, such as
    /// vectors that the host does not have: the device goes on without. The first observer stays.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Gives back what is mapped of a device that is gone, which the host waits for; all reads are all-ones until it
    /// has been through a teardown. For whoever observes the device, on any thread. Does nothing to a device that is
    /// back and has been through one by now. BARs leave the guest when they are placed anew after it.
    pub fn let_go(&self) {
        if self.is_lost() {
            self.windows.release_lost(&*self.client);
        }
    }

    /// Whether all reads are all-ones until the device has been through a teardown.
    pub fn is_lost(&self) -> bool {
        let session = self.presence.session();
        if self.presence.is_lost(session) {
            return true;
        }
        let is_gone = self.client.gone().is_some() || self.client.session() != session;
        if is_gone {
            self.presence.lose(session);
        }
        is_gone
    }

    /// Whether the guest sees the device now.
    pub(super) fn is_there(&self) -> bool {
        !self.is_lost() && !self.guest_reset.is_running()
    }

    /// Makes all reads all-ones until the device has been through a teardown. Says whether they were not.
    pub(super) fn lose(&self) -> bool {
        self.presence.lose(self.presence.session())
    }

    /// The same of a device that may be there: nobody else would tell.
    pub(super) fn give_up(&self, reason: &str) {
        warn!(device = %self.id, "{reason}");
        if self.lose()
            && self.client.gone().is_none()
            && let Some(observer) = self.observer.get()
        {
            observer.gone(reason);
        }
    }

    /// Sees to an error of a call that the guest caused.
    pub(super) fn note(&self, failure: &ClientError) {
        match failure {
            // By a teardown, which sees to the rest.
            ClientError::Cancelled { .. } => debug!(device = %self.id, "{failure}"),
            ClientError::Gone { .. } => {
                if self.lose() {
                    warn!(device = %self.id, "{failure}");
                }
            }
            ClientError::TimedOut { .. } => self.give_up(&failure.to_string()),
            // A guest can repeat itself.
            ClientError::Refused { .. } if self.warned.swap(true, Ordering::AcqRel) => {
                debug!(device = %self.id, "{failure}");
            }
            ClientError::Refused { .. } => {
                warn!(device = %self.id, "{failure}");
                if let Some(observer) = self.observer.get() {
                    observer.warn(&failure.to_string());
                }
            }
        }
    }
}
