//! What happens to the machine, numbered and kept in a bounded ring that any number of clients follow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::clock::monotonic_ns;
use crate::config::TeardownPolicy;
use crate::report::{Cause, GuestOrder, Outcome};

/// How many events are kept.
pub const CAPACITY: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The event's number, from 1, without holes over the life of the process. A `gap` has the number of
    /// the last event that is missing.
    pub seq: u64,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What.
    #[serde(flatten)]
    pub event: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// Events are missing here. Only in a stream, never in the log.
    Gap {
        /// Why.
        reason: GapReason,
        /// How many are known to be missing.
        lost: u64,
    },
    /// The machine was created.
    VmCreated,
    /// The vCPUs run, for the first time in this boot.
    VmBooted {
        /// Number of the boot.
        boot: u64,
    },
    /// The guest or a client asked for a reset or a power-off.
    ResetRequested {
        /// How.
        cause: Cause,
        /// The boot that it ends.
        boot: u64,
    },
    /// The devices are being shut down.
    TeardownStarted {
        /// Number of the teardown.
        number: u64,
        /// The policy it runs under.
        policy: TeardownPolicy,
    },
    /// One device's teardown ended.
    DeviceShutDown {
        /// Number of the teardown.
        number: u64,
        /// The device.
        id: String,
        /// How.
        outcome: Outcome,
    },
    /// All devices are shut down or given up.
    TeardownEnded {
        /// Number of the teardown.
        number: u64,
        /// From the first device's start to the last device's end.
        teardown_ns: u64,
        /// How the guest's own shutdown handshakes lay to each other before.
        #[serde(default)]
        guest_order: GuestOrder,
        /// From the guest's first CC.SHN to the last CSTS.SHST = 10b.
        #[serde(default)]
        guest_span_ns: u64,
    },
    /// The guest wrote to the boot-marker port.
    BootMarker {
        /// The byte it wrote.
        value: u8,
        /// Number of the boot.
        boot: u64,
        /// From the reset request that led to this boot; none in a boot that no reset led to.
        since_reset_ns: Option<u64>,
    },
    /// `vm.pause`.
    VmPaused,
    /// `vm.resume`.
    VmResumed,
    /// The guest has switched itself off.
    VmPoweredOff,
    /// The devices are shut down and the machine stands still; it can be booted again.
    VmStopped,
    /// The machine is gone.
    VmDeleted,
    /// A device that is passed through is gone, or does not answer any more: it reads all-ones.
    DeviceGone {
        /// The device.
        id: String,
        /// How that was noticed.
        reason: String,
    },
    /// A device that was gone is there again. The guest sees it from its next boot on.
    DeviceBack {
        /// The device.
        id: String,
    },
    /// A device was added to the machine.
    DeviceAdded {
        /// The device.
        id: String,
    },
    /// A device was removed from the machine.
    DeviceRemoved {
        /// The device.
        id: String,
    },
    /// A device was given up at its deadline, or failed and is not to be trusted; the guest sees it no more.
    DeviceQuarantined {
        /// The device.
        id: String,
    },
    /// How a device behaves was changed.
    DeviceBehaviourChanged {
        /// The device.
        id: String,
        /// What of it: `teardown`, `shutdown`, `faults`.
        changed: Vec<String>,
    },
    /// The teardown policy was changed.
    TeardownPolicyChanged {
        /// The order from now on.
        policy: TeardownPolicy,
        /// The bound on worker threads from now on.
        workers: u16,
    },
    /// Something that a user should know of.
    Warning {
        /// What.
        message: String,
    },
}

/// Why events are missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// They are older than the oldest event kept.
    Overrun,
    /// `since` is beyond the newest event: it was counted by another process. All events kept follow.
    Restarted,
}

/// The events of a process. Shared by reference count; pushed to from any thread.
#[derive(Debug)]
pub struct EventLog {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the newest event; 0 before the first.
    newest: u64,
    events: VecDeque<Event>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// An empty log of [`CAPACITY`] events.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// An empty log that keeps the given number of events, at least one.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
            capacity: capacity.max(1),
        }
    }

    /// Logs what happened now. Returns the event's number.
    pub fn push(&self, event: EventKind) -> u64 {
        self.push_at(monotonic_ns(), event)
    }

    /// Logs what happened at `at_ns` of CLOCK_MONOTONIC. Returns the event's number.
    pub fn push_at(&self, at_ns: u64, event: EventKind) -> u64 {
        let mut ring = self.ring();
        ring.newest += 1;
        let seq = ring.newest;
        if ring.events.len() == self.capacity {
            ring.events.pop_front();
        }
        ring.events.push_back(Event { seq, at_ns, event });
        drop(ring);
        // Two pushes may come here in the other order; the number never goes back.
        self.newest.send_if_modified(|newest| {
            let newer = seq > *newest;
            *newest = seq.max(*newest);
            newer
        });
        seq
    }

    /// The number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.ring().newest
    }

    /// The events behind number `since`, oldest first, at most `limit`. The first is a gap if some are
    /// missing.
    pub fn after(&self, since: u64, limit: usize) -> Vec<Event> {
        let ring = self.ring();
        let kept_from = ring.newest - ring.events.len() as u64;
        let gap = if since > ring.newest {
            Some((GapReason::Restarted, kept_from))
        } else if since < kept_from {
            Some((GapReason::Overrun, kept_from - since))
        } else {
            None
        };
        let skip = if gap.is_some() {
            0
        } else {
            (since - kept_from) as usize
        };
        let gap = gap.map(|(reason, lost)| Event {
            seq: kept_from,
            at_ns: monotonic_ns(),
            event: EventKind::Gap { reason, lost },
        });
        gap.into_iter()
            .chain(ring.events.iter().skip(skip).cloned())
            .take(limit.max(1))
            .collect()
    }

    /// Tells of the newest event's number.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A ring is whole at every point at which a thread could have panicked.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn numbers_have_no_holes_and_old_events_leave_a_gap() {
        let log = EventLog::with_capacity(3);
        assert!(log.after(0, 10).is_empty());
        for boot in 1..=5 {
            assert_eq!(log.push(EventKind::VmBooted { boot }), boot);
        }
        assert_eq!(numbers(&log.after(3, 10)), [4, 5]);
        assert_eq!(numbers(&log.after(2, 10)), [3, 4, 5]);
        let with_gap = log.after(0, 10);
        assert_eq!(
            with_gap[0].event,
            EventKind::Gap {
                reason: GapReason::Overrun,
                lost: 2
            }
        );
        assert_eq!(numbers(&with_gap), [2, 3, 4, 5]);
        assert!(log.after(5, 10).is_empty());
        assert_eq!(numbers(&log.after(2, 1)), [3]);
    }

    #[test]
    fn a_number_of_another_process_restarts_the_stream() {
        let log = EventLog::new();
        log.push(EventKind::VmCreated);
        let events = log.after(70, 10);
        assert_eq!(
            events[0].event,
            EventKind::Gap {
                reason: GapReason::Restarted,
                lost: 0
            }
        );
        assert_eq!(numbers(&events), [0, 1]);
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            seq: 7,
            at_ns: 9,
            event: EventKind::VmBooted { boot: 2 },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"seq":7,"at_ns":9,"event":"vm-booted","boot":2}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
