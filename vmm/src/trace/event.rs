//! The trace-event format: the events that a trace is made of, as JSON has them.

use api::config::TeardownPolicy;
use api::report::{Cause, GuestOrder, Outcome};
use serde::{Serialize, Serializer};

/// A trace, in the form of an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// What a viewer shows times in.
    display_time_unit: &'static str,
    /// The events.
    pub trace_events: Vec<Event>,
}

impl Trace {
    pub(super) fn of(trace_events: Vec<Event>) -> Self {
        Self {
            display_time_unit: "ns",
            trace_events,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// What happened.
    pub name: String,
    /// What it belongs to, for filters.
    pub cat: &'static str,
    /// The process.
    pub pid: u32,
    /// The track.
    pub tid: u32,
    /// What kind of event it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// What is shown when it is picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Args>,
}

/// The kinds of events, and what each of them has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "ph")]
pub enum Kind {
    /// A stretch of time.
    #[serde(rename = "X")]
    Complete {
        /// Its begin.
        ts: Micros,
        /// Its length.
        dur: Micros,
    },
    /// A moment.
    #[serde(rename = "i")]
    Instant {
        /// When.
        ts: Micros,
        /// How far it is drawn: `t`, on its track.
        s: char,
    },
    /// An arrow begins in the stretch around this moment.
    #[serde(rename = "s")]
    FlowStart {
        /// When.
        ts: Micros,
        /// The arrow's number.
        id: u64,
    },
    /// An arrow ends in the stretch around this moment.
    #[serde(rename = "f")]
    FlowEnd {
        /// When.
        ts: Micros,
        /// The arrow's number.
        id: u64,
        /// What it binds to: `e`, the stretch around it and not the next one.
        bp: char,
    },
    /// A name or a place in the order, of a process or a track.
    #[serde(rename = "M")]
    Metadata,
}

impl Kind {
    /// From `from` to `to`, in nanoseconds.
    pub(super) fn stretch(from: u64, to: u64) -> Self {
        Self::Complete {
            ts: Micros(from),
            dur: Micros(to.saturating_sub(from)),
        }
    }

    /// At `at`, in nanoseconds.
    pub(super) fn moment(at: u64) -> Self {
        Self::Instant {
            ts: Micros(at),
            s: 't',
        }
    }
}

/// Nanoseconds that are written as microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// The microseconds. A reader that cuts what is below a nanosecond off finds the same nanosecond as
    /// one that rounds, or else a phase could end behind its device.
    pub fn as_f64(self) -> f64 {
        let nearest = self.0 as f64 / 1000.0;
        if ((nearest * 1000.0) as u64) < self.0 {
            nearest.next_up()
        } else {
            nearest
        }
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// What an event has to say beyond its time. The fields are the report's, and counted as they are there.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Args {
    Name {
        name: String,
    },
    Sort {
        sort_index: u32,
    },
    Reset {
        number: u64,
        boot: u64,
        cause: Cause,
        policy: TeardownPolicy,
        workers: u16,
        workers_used: u16,
        serial_sum_ns: u64,
        critical_path_ns: u64,
        efficiency: f64,
        warnings: Vec<String>,
    },
    Device {
        class: String,
        address: Option<String>,
        #[serde(rename = "async")]
        asynchronous: bool,
        policy: TeardownPolicy,
        ready_ns: u64,
        modelled_ns: Option<u64>,
        waited_on: Vec<String>,
        held_up_by: Option<String>,
        critical: bool,
        outcome: Outcome,
    },
    Handshakes {
        order: GuestOrder,
        handshake_sum_ns: u64,
        span_ns: u64,
        overlap: Option<f64>,
    },
    Handshake {
        requested_ns: i64,
        completed_ns: Option<i64>,
        seen_ns: Option<i64>,
        polls: u64,
        abrupt: bool,
        modelled_ns: u64,
    },
    Queues {
        submission_queues: u64,
        completion_queues: u64,
    },
    Count {
        count: u64,
    },
}
