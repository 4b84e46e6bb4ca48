//! Device Self-test (base 2.0, section 5.9).

use std::sync::Arc;

use crate::drive::Drive;
use crate::selftest::{self, Kind};
use crate::session::Session;
use crate::spec::{ALL_NAMESPACES, Status, Submission};

/// What a host may read of it in a second, for the estimate of an extended test.
const BYTES_A_SECOND: u64 = 500 << 20;

/// Completes when the test has begun, or was told to end.
pub(super) fn execute(session: &Arc<Session>, command: &Submission) -> Result<(), Status> {
    const ABORT: u32 = 0xF;
    let kind = match command.cdw10 & 0xF {
        1 => Kind::Short,
        2 => Kind::Extended,
        ABORT => {
            session.drive.self_test.abort();
            return Ok(());
        }
        _ => return Err(Status::INVALID_FIELD),
    };
    let namespaces = match command.nsid {
        0 => Vec::new(),
        ALL_NAMESPACES => session.drive.namespaces.all_active(),
        one => vec![session.drive.namespace(one)?],
    };
    selftest::begin(session, kind, command.nsid, namespaces)
}

/// EDSTT: minutes that an extended test of everything takes, about.
pub(super) fn estimate(drive: &Drive) -> u16 {
    let namespaces = drive.namespaces.all();
    let bytes: u64 = namespaces.iter().map(|one| one.backend().size()).sum();
    u16::try_from(bytes / BYTES_A_SECOND / 60 + 1).unwrap_or(u16::MAX)
}
