//! Keep Alive (base 2.0, sections 3.9 and 5.18): a host that set a time-out and then falls silent counts as
//! gone, and its controller stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{TimerKey, TimerKind};
use crate::session::Session;
use crate::spec::{Status, Submission};

/// KAS: the unit of the time-out, in 100 ms.
pub(super) const GRANULARITY: u16 = 10;
const UNIT: u32 = GRANULARITY as u32 * 100;

/// The time-out in milliseconds that is kept for one asked for: whole units, upwards.
pub(super) fn rounded(asked: u32) -> u32 {
    match asked.checked_next_multiple_of(UNIT) {
        Some(time) => time,
        None => u32::MAX / UNIT * UNIT,
    }
}

/// The host is alive, and has `time` milliseconds to say so again; for ever where that is zero.
pub(super) fn restart(session: &Session, time: u32) {
    let drive = &session.drive;
    let key = TimerKey {
        owner: drive.number,
        kind: TimerKind::KeepAlive,
    };
    if time == 0 {
        drive.engine.disarm(key);
        return;
    }
    let me = session.weak();
    let job = Box::new(move || {
        if let Some(session) = me.upgrade() {
            expire(&session);
        }
    });
    let at = Instant::now() + Duration::from_millis(time.into());
    drive.engine.arm(key, at, job);
}

fn expire(session: &Arc<Session>) {
    if !session.gate.is_open() {
        return;
    }
    let of_no_command = Submission {
        cid: u16::MAX,
        ..Submission::zeroed()
    };
    let logs = &session.drive.logs;
    logs.record_error(0, &of_no_command, Status::KEEP_ALIVE_EXPIRED, 0);
    session.fail("the host's keep-alive time-out expired");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_are_whole_units_upwards() {
        let found = [0, 1, 1000, 1001, u32::MAX].map(rounded);
        assert_eq!(found, [0, 1000, 1000, 2000, 4_294_967_000]);
    }
}
