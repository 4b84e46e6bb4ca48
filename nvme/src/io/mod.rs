//! I/O commands of the NVM command set (NVM command set 1.0, section 3.2). Reads, writes and flushes end at
//! once where the storage is memory, and go through the I/O thread's ring where it is a file; whatever may
//! block goes to the namespace's lanes.

mod check;
mod clear;
mod copy;
mod transfer;

use std::sync::Arc;

use devices::memory::View;

use crate::engine::{Lane, Transfers};
use crate::namespace::Namespace;
use crate::queue::SubmissionQueue;
use crate::respond::{Deferred, Outcome};
use crate::session::Session;
use crate::spec::command::io;
use crate::spec::{ALL_NAMESPACES, Status, Submission};

/// Maximum data transfer size as Identify says it: 2^8 pages, 1 MiB.
pub(crate) const MDTS: u8 = 8;
/// The same in bytes.
const MAX_TRANSFER: u64 = crate::spec::PAGE << MDTS;

pub(crate) use copy::{MAX_COPY, MAX_RANGE, MAX_RANGES};

/// CDW0.PSDT, in the byte of the flags.
const PSDT: u8 = 0b1100_0000;

/// What a command is executed with.
pub(crate) struct Means<'a> {
    pub(crate) memory: &'a View,
    /// Those of the thread.
    pub(crate) transfers: &'a mut Transfers,
    /// Where the command was fetched.
    pub(crate) queue: &'a SubmissionQueue,
}

impl Means<'_> {
    /// Whether no other command is known of. Several are handed to the kernel by one call.
    fn is_alone(&self) -> bool {
        self.transfers.queued() == 0 && !self.queue.has_waiting()
    }
}

/// Executes an I/O command. Guest values are in `command`, copied once.
pub(crate) fn execute(session: &Arc<Session>, command: &Submission, means: Means<'_>) -> Outcome {
    // No fused commands, and no kind of data pointer beyond PRP and the two of SGL.
    if command.flags & !PSDT != 0 || command.flags & PSDT == PSDT {
        return Outcome::Done(Err(Status::INVALID_FIELD));
    }
    // A drive that is sanitized, or was not to the end, serves no other command (base 2.0, 8.21).
    if command.opcode != io::FLUSH
        && let Err(status) = session.drive.sanitize.check()
    {
        return Outcome::Done(Err(status));
    }
    if command.opcode == io::FLUSH && command.nsid == ALL_NAMESPACES {
        return Outcome::Later(Box::new(transfer::flush_all));
    }
    let namespaces = &session.drive.namespaces;
    let result = namespaces.with_active(command.nsid, |namespace| {
        dispatch(session, namespace, command, means)
    });
    result.unwrap_or_else(|status| Outcome::Done(Err(status)))
}

fn dispatch(
    session: &Session,
    namespace: &Arc<Namespace>,
    command: &Submission,
    means: Means<'_>,
) -> Result<Outcome, Status> {
    namespace.check_served()?;
    match command.opcode {
        io::READ => transfer::read(session, namespace, command, means),
        io::WRITE => transfer::write(session, namespace, command, means),
        io::FLUSH => Ok(transfer::flush(namespace, means.transfers)),
        io::WRITE_ZEROES => {
            namespace.check_writable()?;
            Ok(on_lane(namespace, clear::write_zeroes))
        }
        io::DATASET_MANAGEMENT => {
            namespace.check_writable()?;
            Ok(on_lane(namespace, clear::manage))
        }
        io::WRITE_UNCORRECTABLE => {
            namespace.check_writable()?;
            clear::write_uncorrectable(namespace, command)
        }
        io::COMPARE => Ok(on_lane(namespace, check::compare)),
        io::VERIFY => Ok(on_lane(namespace, check::verify)),
        io::COPY => {
            namespace.check_writable()?;
            Ok(on_lane(namespace, copy::execute))
        }
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// Runs `work` on the namespace's lane.
fn on_lane(
    namespace: &Arc<Namespace>,
    work: impl FnOnce(&Session, &Namespace, &Submission) -> Result<(), Status> + Send + 'static,
) -> Outcome {
    on(&namespace.lane, namespace, work)
}

fn on(
    lane: &Arc<Lane>,
    namespace: &Arc<Namespace>,
    work: impl FnOnce(&Session, &Namespace, &Submission) -> Result<(), Status> + Send + 'static,
) -> Outcome {
    let (lane, namespace) = (Arc::clone(lane), Arc::clone(namespace));
    Outcome::Later(Box::new(move |responder| {
        Deferred::submit(&lane, responder, move |session, command| {
            work(session, &namespace, command).map(|()| 0)
        });
    }))
}
