//! Asynchronous events (base 2.0, section 5.2): requests that wait, events that wait, and the masks
//! between them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::identify::NAMESPACE_NOTICES;
use crate::gate::lock;
use crate::logs::TEMPERATURE;
use crate::queue::SubmissionQueue;
use crate::respond::Outcome;
use crate::session::Session;
use crate::spec::log::id;
use crate::spec::{ALL_NAMESPACES, Status, Submission};

/// Requests that may wait, zero-based, as Identify says it.
pub(crate) const LIMIT_Z: u8 = 3;
/// Events that wait for a request; more of a kind already waiting say nothing new.
const WAITING: usize = 8;

/// Something to tell the host (figures 145 to 148).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A doorbell of no queue was written.
    InvalidDoorbellRegister,
    /// A doorbell got a value outside its queue.
    InvalidDoorbellValue,
    /// The temperature passed a threshold.
    TemperatureThreshold,
    /// Namespaces came, went or changed: the changed namespace list tells which.
    NamespaceChanged,
    /// A sanitize operation ended, well or not.
    Sanitized,
}

impl Event {
    fn kind(self) -> u8 {
        match self {
            Self::InvalidDoorbellRegister | Self::InvalidDoorbellValue => 0,
            Self::TemperatureThreshold => 1,
            Self::NamespaceChanged => 2,
            // I/O command specific status.
            Self::Sanitized => 6,
        }
    }

    fn log_page(self) -> u8 {
        match self.kind() {
            0 => id::ERRORS,
            1 => id::SMART,
            2 => id::CHANGED_NAMESPACES,
            _ => id::SANITIZE,
        }
    }

    /// Dword 0 of the completion.
    fn result(self) -> u32 {
        let detail = match self {
            Self::InvalidDoorbellRegister | Self::NamespaceChanged => 0x00,
            Self::InvalidDoorbellValue | Self::TemperatureThreshold | Self::Sanitized => 0x01,
        };
        u32::from(self.log_page()) << 16 | detail << 8 | u32::from(self.kind())
    }
}

/// Requests and events that wait for each other.
#[derive(Debug, Default)]
pub(crate) struct AsyncEvents {
    requests: Vec<Submission>,
    waiting: Vec<Event>,
    /// Event types told and not looked at yet, a bit each: more of the type wait for Get Log Page.
    masked: u8,
    /// Namespaces that changed since the host last read the list of them.
    changed: BTreeSet<u32>,
}

/// Namespaces that the changed namespace list can name.
const LISTED: usize = 1024;

/// Asynchronous Event Request. It holds no completion slot while it waits: few admin queue entries must
/// not be taken by what may never complete.
pub(super) fn request(session: &Arc<Session>, command: &Submission) -> Outcome {
    let mut events = lock(&session.events);
    if events.requests.len() > usize::from(LIMIT_Z) {
        return Outcome::Done(Err(Status::ASYNC_EVENT_LIMIT_EXCEEDED));
    }
    events.requests.push(*command);
    drop(events);
    // Delivered, where an event waits, at the admin queue's next turn.
    schedule(session);
    Outcome::Kept
}

/// Notes an event and has it delivered. For any thread.
pub(crate) fn raise(session: &Session, event: Event) {
    let mut events = lock(&session.events);
    if events.waiting.len() < WAITING && !events.waiting.contains(&event) {
        events.waiting.push(event);
    }
    drop(events);
    schedule(session);
}

/// Namespace `nsid` came, went or changed.
pub(super) fn namespace_changed(session: &Session, nsid: u32) {
    lock(&session.events).changed.insert(nsid);
    if lock(&session.features).async_events() & NAMESPACE_NOTICES != 0 {
        raise(session, Event::NamespaceChanged);
    }
}

/// The changed namespace list (base 2.0, section 5.16.1.5).
pub(super) fn changed_namespaces(session: &Session) -> [u32; LISTED] {
    let events = lock(&session.events);
    let mut list = [0; LISTED];
    if events.changed.len() > LISTED {
        list[0] = ALL_NAMESPACES;
        return list;
    }
    for (place, nsid) in list.iter_mut().zip(&events.changed) {
        *place = *nsid;
    }
    list
}

/// Completes requests with events, on the admin queue's thread.
pub(crate) fn deliver(session: &Session) {
    let Some(queue) = session.submission_queue(0) else {
        return;
    };
    let mut told = false;
    loop {
        let mut events = lock(&session.events);
        let Some(index) = events.next() else { break };
        let Some(slot) = queue.completions.reserve() else {
            break;
        };
        let event = events.waiting.remove(index);
        let request = events.requests.remove(0);
        events.masked |= 1 << event.kind();
        drop(events);
        session.complete(&queue, slot, &request, Ok(event.result()));
        told = true;
    }
    if told {
        session.signal(&queue.completions);
    }
}

/// The host looked at a log page: events of its type are told again.
pub(super) fn unmask(session: &Session, log_page: u8) {
    let mut events = lock(&session.events);
    events.masked &= match log_page {
        id::ERRORS => !(1 << 0),
        id::SMART => !(1 << 1),
        id::CHANGED_NAMESPACES => {
            events.changed.clear();
            // The list told what an event that still waits would tell.
            (events.waiting).retain(|event| *event != Event::NamespaceChanged);
            !(1 << 2)
        }
        id::SANITIZE => !(1 << 6),
        _ => return,
    };
    drop(events);
    schedule(session);
}

/// Takes a waiting request back. Returns whether it was one.
pub(super) fn abort(session: &Session, queue: &SubmissionQueue, cid: u16) -> bool {
    let mut events = lock(&session.events);
    let Some(index) = (events.requests.iter()).position(|request| request.cid == cid) else {
        return false;
    };
    let Some(slot) = queue.completions.reserve() else {
        return false;
    };
    let request = events.requests.remove(index);
    drop(events);
    session.complete(queue, slot, &request, Err(Status::ABORT_REQUESTED));
    true
}

/// The critical warnings that thresholds of the composite temperature make.
pub(super) fn critical_warning(over: u16, under: u16) -> u8 {
    u8::from(TEMPERATURE >= over || TEMPERATURE <= under) << 1
}

impl AsyncEvents {
    /// The first event that may be told to a request.
    fn next(&self) -> Option<usize> {
        let unmasked = |event: &Event| self.masked & 1 << event.kind() == 0;
        let index = self.waiting.iter().position(unmasked)?;
        (!self.requests.is_empty()).then_some(index)
    }
}

fn schedule(session: &Session) {
    if let Some(queue) = session.submission_queue(0) {
        queue.schedule(session);
    }
}
