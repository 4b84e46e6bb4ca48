//! The guest's part of a trace: for every device its queues' deletion, its handshake, and single acts.

use api::report::{GuestAct, GuestDevice, GuestEvent, TeardownReport};

use super::absolute;
use super::event::{Args, Event, Kind};
use super::tracks::{GUEST, SHUTDOWN, Tracks};

/// Draws one report.
pub(super) fn draw(report: &TeardownReport, tracks: &Tracks<'_>, events: &mut Vec<Event>) {
    together(report, events);
    for device in &report.guest.devices {
        let track = Track {
            report,
            device,
            tid: tracks.guest(&device.id),
        };
        track.draw(events);
    }
}

/// All handshakes that ended as one stretch, and the request that the way down ends with.
fn together(report: &TeardownReport, events: &mut Vec<Event>) {
    let guest = &report.guest;
    let ended = || {
        let handshakes = guest.devices.iter().filter_map(|device| device.handshake);
        handshakes.filter_map(|one| Some((one.requested_ns, one.completed_ns?)))
    };
    let event = |name: &str, kind, args| Event {
        name: name.to_owned(),
        cat: "guest",
        pid: GUEST,
        tid: SHUTDOWN,
        kind,
        args,
    };
    let first = ended().map(|(requested, _)| requested).min();
    let last = ended().map(|(_, completed)| completed).max();
    if let Some((first, last)) = first.zip(last) {
        let args = Args::Handshakes {
            order: guest.order,
            handshake_sum_ns: guest.handshake_sum_ns,
            span_ns: guest.span_ns,
            overlap: guest.overlap,
        };
        let kind = Kind::stretch(absolute(report, first), absolute(report, last));
        events.push(event("handshakes", kind, Some(args)));
    }
    events.push(event("reset requested", Kind::moment(report.at_ns), None));
}

/// What is drawn on one device's track.
struct Track<'a> {
    report: &'a TeardownReport,
    device: &'a GuestDevice,
    tid: u32,
}

impl Track<'_> {
    fn draw(&self, events: &mut Vec<Event>) {
        let handshake = self.handshake(events);
        let queues = self.queues().filter(|(from, to, _)| {
            // Stretches of a track must lie apart; a guest may delete queues when it likes.
            handshake.is_none_or(|(begin, end)| *to <= begin || end <= *from)
        });
        let queues_drawn = queues.is_some();
        if let Some((from, to, args)) = queues {
            events.push(self.event("queues deleted", self.stretch(from, to), Some(args)));
        }
        for event in &self.device.events {
            let drawn = match event.act {
                GuestAct::DeleteSubmissionQueue | GuestAct::DeleteCompletionQueue => queues_drawn,
                // The handshake's begin.
                GuestAct::ShutdownNormal | GuestAct::ShutdownAbrupt => event.count == 1,
                _ => false,
            };
            if !drawn {
                self.moments(event, events);
            }
        }
    }

    /// From CC.SHN to CSTS.SHST = 10b, or to the guest's last look. Returns both ends.
    fn handshake(&self, events: &mut Vec<Event>) -> Option<(i64, i64)> {
        let handshake = self.device.handshake?;
        let (from, to) = (handshake.requested_ns, self.device.handshake_end_ns()?);
        let name = match (handshake.abrupt, handshake.completed_ns) {
            (false, Some(_)) => "shutdown handshake",
            (false, None) => "shutdown handshake, never completed",
            (true, Some(_)) => "abrupt shutdown handshake",
            (true, None) => "abrupt shutdown handshake, never completed",
        };
        let args = Args::Handshake {
            requested_ns: handshake.requested_ns,
            completed_ns: handshake.completed_ns,
            seen_ns: handshake.seen_ns,
            polls: handshake.polls,
            abrupt: handshake.abrupt,
            modelled_ns: handshake.modelled_ns,
        };
        events.push(self.event(name, self.stretch(from, to), Some(args)));
        Some((from, to))
    }

    /// From the first to the last deletion of a queue.
    fn queues(&self) -> Option<(i64, i64, Args)> {
        let submission = self.of(GuestAct::DeleteSubmissionQueue);
        let completion = self.of(GuestAct::DeleteCompletionQueue);
        let both = || [submission, completion].into_iter().flatten();
        let count = |event: Option<&GuestEvent>| event.map_or(0, |event| event.count);
        let args = Args::Queues {
            submission_queues: count(submission),
            completion_queues: count(completion),
        };
        let first = both().map(|event| event.first_ns).min()?;
        let last = both().map(|event| event.last_ns).max()?;
        Some((first, last, args))
    }

    /// The first and the last time of an act.
    fn moments(&self, event: &GuestEvent, events: &mut Vec<Event>) {
        let count = event.count;
        let mut draw = |name: &str, ns| {
            let args = Args::Count { count };
            let kind = Kind::moment(absolute(self.report, ns));
            events.push(self.event(name, kind, Some(args)));
        };
        let name = name(event.act);
        if count < 2 {
            draw(name, event.first_ns);
            return;
        }
        draw(&format!("first {name}"), event.first_ns);
        draw(&format!("last {name}"), event.last_ns);
    }

    fn of(&self, act: GuestAct) -> Option<&GuestEvent> {
        self.device.events.iter().find(|event| event.act == act)
    }

    fn stretch(&self, from: i64, to: i64) -> Kind {
        Kind::stretch(absolute(self.report, from), absolute(self.report, to))
    }

    fn event(&self, name: &str, kind: Kind, args: Option<Args>) -> Event {
        Event {
            name: name.to_owned(),
            cat: "guest",
            pid: GUEST,
            tid: self.tid,
            kind,
            args,
        }
    }
}

fn name(act: GuestAct) -> &'static str {
    match act {
        GuestAct::Enable => "enable",
        GuestAct::DeleteSubmissionQueue => "submission queue deleted",
        GuestAct::DeleteCompletionQueue => "completion queue deleted",
        GuestAct::ShutdownNormal => "normal shutdown",
        GuestAct::ShutdownAbrupt => "abrupt shutdown",
        GuestAct::Poll => "poll",
        GuestAct::Disable => "disable",
        GuestAct::BusMasterOff => "bus master off",
        GuestAct::FunctionReset => "function level reset",
        GuestAct::SecondaryBusReset => "secondary bus reset",
        GuestAct::SubsystemReset => "subsystem reset",
    }
}
