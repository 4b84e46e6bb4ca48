//! Doorbells (NVMe over PCIe 1.0, section 3.1.2): which queue a write rings, and what a wrong one raises.

use crate::admin::{Event, raise_event};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// Doorbells that a guest writes in memory, and that somebody polls.
pub trait PolledDoorbells: Send + Sync {
    /// A queue begins anew, and with it the doorbell `index`, counted from the admin submission queue's: its
    /// value is 0, whatever the guest wrote before. Called before the guest hears of the queue.
    fn clear(&self, index: usize);
}

/// A 32-bit write at `offset` from the first doorbell. Stores, signals, returns.
pub(crate) fn ring(session: &Session, offset: u64, value: u32) {
    let id = u16::try_from(offset / 8).unwrap_or(u16::MAX);
    let is_head = offset / 4 % 2 == 1;
    if id != 0 {
        session.drive.doorbell_events.count_write();
    }
    let accepted = if is_head {
        ring_head(session, id, value)
    } else {
        ring_tail(session, id, value)
    };
    match accepted {
        Some(true) => {}
        Some(false) => complain(session, id, Event::InvalidDoorbellValue),
        None => complain(session, id, Event::InvalidDoorbellRegister),
    }
}

/// The error log has what the event is about (base 2.0, section 5.2).
pub(crate) fn complain(session: &Session, id: u16, event: Event) {
    let of_no_command = Submission {
        cid: u16::MAX,
        ..Submission::zeroed()
    };
    let logs = &session.drive.logs;
    logs.record_error(id, &of_no_command, Status::INVALID_FIELD, 0);
    raise_event(session, event);
}

/// `None` where there is no such queue, else whether the value is one of it.
fn ring_tail(session: &Session, id: u16, tail: u32) -> Option<bool> {
    let place = session.submissions.get(usize::from(id))?.load();
    let queue = place.as_ref()?;
    if !queue.ring_tail(tail) {
        return Some(false);
    }
    queue.schedule(session);
    Some(true)
}

fn ring_head(session: &Session, id: u16, head: u32) -> Option<bool> {
    let place = session.completions.get(usize::from(id))?.load();
    let queue = place.as_ref()?;
    let Some(starved) = queue.ring_head(head) else {
        return Some(false);
    };
    if starved {
        for feeder in queue.feeders() {
            feeder.schedule(session);
        }
    }
    if queue.vector.is_some() && !session.drive.uses_msix() {
        session.update_pin();
    }
    Some(true)
}
