//! Device self-test (base 2.0, section 8.6): namespaces are read in the background, a sample of them or all,
//! and what cannot be read is told. The last results are kept with the drive's state.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use zerocopy::{FromZeros, IntoBytes};

use crate::drive::Drive;
use crate::gate::lock;
use crate::namespace::{Extent, Namespace};
use crate::session::Session;
use crate::spec::Status;
use crate::spec::log::{SelfTestLog, SelfTestResult};
use crate::state;

/// Results that the log has room for.
const RESULTS: usize = 20;
/// Bytes read at a time.
const PIECE: u64 = 256 << 10;
/// Pieces of a namespace that a short test reads, evenly spread.
const SAMPLE: u64 = 64;

/// What the host ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sample is read; a reset ends it.
    Short = 1,
    /// Everything is read; no reset ends it.
    Extended = 2,
}

/// How a test ended: the result's code in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed = 0,
    AbortedByHost = 1,
    AbortedByReset = 2,
    AbortedByRemoval = 3,
    AbortedByFormat = 4,
    Failed = 7,
    AbortedBySanitize = 9,
}

/// A drive's self-tests.
#[derive(Default)]
pub(crate) struct SelfTest {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The newest first.
    results: VecDeque<Result>,
    /// Tests ever begun, so that one does not take another's order to stop.
    begun: u64,
}

struct Running {
    number: u64,
    kind: Kind,
    nsid: u32,
    percent: u8,
    stop: Option<End>,
}

/// A test that ended, as it is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Result {
    kind: u8,
    end: u8,
    power_on_hours: u64,
    nsid: u32,
    /// The first block that could not be read.
    failing: Option<u64>,
}

impl SelfTest {
    /// Results of before.
    pub(crate) fn new(results: &[Result]) -> Self {
        Self {
            state: Mutex::new(State {
                results: results.iter().take(RESULTS).copied().collect(),
                ..State::default()
            }),
        }
    }

    /// The results, the newest first.
    pub(crate) fn results(&self) -> Vec<Result> {
        lock(&self.state).results.iter().copied().collect()
    }

    /// The host gives the test up, where one is under way.
    pub(crate) fn abort(&self) {
        self.stop(End::AbortedByHost, |_| true);
    }

    /// A format of the namespace ends a test of it.
    pub(crate) fn give_way_to_format(&self, nsid: u32) {
        self.stop(End::AbortedByFormat, |running| running.reads(nsid));
    }

    /// The namespace is deleted, and with it ends a test of it.
    pub(crate) fn give_way_to_removal(&self, nsid: u32) {
        self.stop(End::AbortedByRemoval, |running| running.reads(nsid));
    }

    /// A sanitize operation ends every test.
    pub(crate) fn give_way_to_sanitize(&self) {
        self.stop(End::AbortedBySanitize, |_| true);
    }

    fn stop(&self, end: End, applies: impl FnOnce(&Running) -> bool) {
        if let Some(running) = &mut lock(&self.state).running
            && applies(running)
        {
            running.stop.get_or_insert(end);
        }
    }

    /// Log page 06h.
    pub(crate) fn log(&self) -> SelfTestLog {
        let state = lock(&self.state);
        let mut log = SelfTestLog::new_zeroed();
        if let Some(running) = &state.running {
            log.current = running.kind as u8;
            log.percent = running.percent;
        }
        for (place, result) in log.results.iter_mut().zip(&state.results) {
            *place = result.entry();
        }
        for place in log.results.iter_mut().skip(state.results.len()) {
            place.status = SelfTestResult::UNUSED;
        }
        log
    }
}

impl Running {
    fn reads(&self, nsid: u32) -> bool {
        self.nsid == nsid || self.nsid == u32::MAX
    }
}

impl Result {
    fn entry(&self) -> SelfTestResult {
        const NAMESPACE_VALID: u8 = 1 << 0;
        const BLOCK_VALID: u8 = 1 << 1;
        const STATUS_VALID: u8 = 1 << 2 | 1 << 3;
        let mut entry = SelfTestResult::new_zeroed();
        entry.status = self.kind << 4 | self.end;
        let hours = self.power_on_hours.to_le_bytes();
        entry.power_on_hours.copy_from_slice(&hours);
        if self.nsid != 0 {
            entry.valid |= NAMESPACE_VALID;
            entry.nsid = self.nsid;
        }
        if let Some(block) = self.failing {
            entry.valid |= BLOCK_VALID | STATUS_VALID;
            entry.failing_block.copy_from_slice(&block.to_le_bytes());
            let status = Status::UNRECOVERED_READ_ERROR.bits();
            (entry.status_type, entry.status_code) = ((status >> 8) as u8 & 7, status as u8);
            // The one segment that there is.
            entry.segment = 1;
        }
        entry
    }
}

/// Begins a test of `namespaces`, on the drive's lane: of none, where it is of the controller alone.
///
/// # Errors
/// One is under way.
pub(crate) fn begin(
    session: &Arc<Session>,
    kind: Kind,
    nsid: u32,
    namespaces: Vec<Arc<Namespace>>,
) -> std::result::Result<(), Status> {
    let drive = Arc::clone(&session.drive);
    let mut state = lock(&drive.self_test.state);
    if state.running.is_some() {
        return Err(Status::SELF_TEST_IN_PROGRESS);
    }
    state.begun += 1;
    let number = state.begun;
    state.running = Some(Running {
        number,
        kind,
        nsid,
        percent: 0,
        stop: None,
    });
    drop(state);
    let lane = Arc::clone(&drive.lane);
    let session = Arc::downgrade(session);
    let job = move || {
        let of_session = || session.upgrade().is_some_and(|one| one.gate.is_open());
        let may_go_on = |drive: &Drive| -> Option<End> {
            let stop = lock(&drive.self_test.state).running.as_ref()?.stop;
            let by_reset = kind == Kind::Short && !of_session();
            stop.or(by_reset.then_some(End::AbortedByReset))
        };
        let (end, failing) = run(&drive, kind, &namespaces, may_go_on);
        // Storage that was let go of cannot be read, which says nothing of the drive.
        if !drive.is_released() {
            finish(&drive, number, end, failing);
        }
    };
    lane.submit(Box::new(job));
    Ok(())
}

fn run(
    drive: &Drive,
    kind: Kind,
    namespaces: &[Arc<Namespace>],
    stopped: impl Fn(&Drive) -> Option<End>,
) -> (End, Option<u64>) {
    for (index, namespace) in namespaces.iter().enumerate() {
        let pieces = namespace.backend().size().div_ceil(PIECE);
        let step = match kind {
            Kind::Short => pieces.div_ceil(SAMPLE).max(1),
            Kind::Extended => 1,
        };
        for piece in (0..pieces).step_by(step as usize) {
            if let Some(end) = stopped(drive) {
                return (end, None);
            }
            if let Some(block) = unreadable(namespace, piece * PIECE) {
                return (End::Failed, Some(block));
            }
            let done = (index as u64 * 100 + piece * 100 / pieces) / namespaces.len() as u64;
            if let Some(running) = &mut lock(&drive.self_test.state).running {
                running.percent = done.min(99) as u8;
            }
        }
    }
    (End::Passed, None)
}

/// The first block of a piece that cannot be read.
fn unreadable(namespace: &Namespace, offset: u64) -> Option<u64> {
    let shift = namespace.block_shift();
    let end = namespace.blocks() << shift;
    let length = PIECE.min(end.checked_sub(offset)?);
    if length == 0 {
        return None;
    }
    let mut buffer = vec![0; length as usize];
    let extent = Extent { offset, length };
    if namespace
        .read(extent, &[buffer.as_mut_slice().into()])
        .is_ok()
    {
        return None;
    }
    let (first, count) = (offset >> shift, length >> shift);
    Some(namespace.first_uncorrectable(first, count).unwrap_or(first))
}

fn finish(drive: &Arc<Drive>, number: u64, end: End, failing: Option<u64>) {
    let mut state = lock(&drive.self_test.state);
    let Some(running) = state.running.take_if(|running| running.number == number) else {
        return;
    };
    state.results.truncate(RESULTS - 1);
    state.results.push_front(Result {
        kind: running.kind as u8,
        end: end as u8,
        power_on_hours: drive.logs.power_on_hours(),
        nsid: running.nsid,
        failing,
    });
    drop(state);
    state::schedule(drive);
}

/// The log as bytes.
pub(crate) fn page(drive: &Drive) -> Vec<u8> {
    drive.self_test.log().as_bytes().to_vec()
}
