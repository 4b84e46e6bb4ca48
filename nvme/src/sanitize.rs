//! Sanitize (base 2.0, section 8.21): every namespace erased in the background, by an operation that no reset
//! ends. While it runs, and after it failed, the drive serves few commands.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::admin::{Event, raise_event};
use crate::drive::Drive;
use crate::erase::{Cut, Erasure, erase};
use crate::gate::lock;
use crate::session::Session;
use crate::spec::Status;
use crate::spec::log::SanitizeStatus;
use crate::state;

/// How long commands that were under way may hold the beginning up before the operation fails.
const DRAIN_BOUND: Duration = Duration::from_secs(10);
/// No estimate of how long an operation takes.
const NO_ESTIMATE: u32 = u32::MAX;
/// SSTAT: nothing was written since the operation.
const GLOBAL_DATA_ERASED: u16 = 1 << 8;
/// SPROG where no operation is under way.
const WHOLE: u16 = u16::MAX;

/// What a drive knows of its sanitize operations.
pub(crate) struct Sanitize {
    /// The stage, for those who look at every command.
    stage: AtomicU8,
    state: Mutex<State>,
    /// Whom to tell of the end.
    session: Mutex<Weak<Session>>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    /// Passes of an overwrite that ended.
    passes: u8,
    /// Bytes erased, and to erase.
    done: u64,
    total: u64,
    /// It failed and the host left it at that.
    left: bool,
    /// Bytes written to namespaces when the last operation ended well.
    written_then: Option<u64>,
}

/// Where a drive's last operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There was none.
    Never = 0,
    /// It ended well.
    Completed = 1,
    /// It runs.
    Running = 2,
    /// It failed, and the drive serves nothing but another one.
    Failed = 3,
    /// It failed, and the host may leave it at that.
    FailedUnrestricted = 4,
}

/// What the host ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// Dword 10 of the command.
    pub(crate) dword: u32,
    /// The pattern of an overwrite.
    pub(crate) pattern: u32,
}

impl Order {
    const OVERWRITE: u32 = 3;

    /// SANACT.
    pub(crate) fn action(self) -> u32 {
        self.dword & 0b111
    }

    /// AUSE: the host may leave a failure without another operation.
    fn is_unrestricted(self) -> bool {
        self.dword & 1 << 3 != 0
    }

    fn erasures(self) -> Vec<Erasure> {
        if self.action() != Self::OVERWRITE {
            return vec![Erasure::Zeroes];
        }
        let passes = match self.dword >> 4 & 0xF {
            0 => 16,
            passes => passes,
        };
        let inverts = self.dword & 1 << 8 != 0;
        let pattern = |pass| match inverts && pass % 2 == 1 {
            true => !self.pattern,
            false => self.pattern,
        };
        (0..passes)
            .map(|pass| Erasure::Pattern(pattern(pass)))
            .collect()
    }
}

/// A drive's last operation, as it is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Past {
    stage: u8,
    order: Order,
    passes: u8,
    left: bool,
    /// Nothing was written since it ended well.
    is_clean: bool,
}

impl Sanitize {
    /// What there is to know of the last operation.
    pub(crate) fn new(past: &Past) -> Self {
        let state = State {
            order: past.order,
            passes: past.passes,
            left: past.left,
            // Nothing has been written by this process.
            written_then: past.is_clean.then_some(0),
            ..State::default()
        };
        Self {
            stage: past.stage.into(),
            state: Mutex::new(state),
            session: Mutex::default(),
        }
    }

    /// What is to be known of it at the next start.
    pub(crate) fn past(&self, drive: &Drive) -> Past {
        let state = lock(&self.state);
        Past {
            stage: self.stage() as u8,
            order: state.order,
            passes: state.passes,
            left: state.left,
            is_clean: state.written_then == Some(drive.written_bytes()),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Never,
            1 => Stage::Completed,
            2 => Stage::Running,
            3 => Stage::Failed,
            _ => Stage::FailedUnrestricted,
        }
    }

    /// Refuses a command that no drive serves while it is sanitized, or when that failed.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Status> {
        match self.stage() {
            Stage::Never | Stage::Completed => Ok(()),
            Stage::Running => Err(Status::SANITIZE_IN_PROGRESS),
            Stage::Failed | Stage::FailedUnrestricted => Err(Status::SANITIZE_FAILED),
        }
    }

    fn check_idle(&self) -> Result<(), Status> {
        match self.stage() {
            Stage::Running => Err(Status::SANITIZE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// The controller was enabled: its host is told from now on.
    pub(crate) fn attend(&self, session: &Arc<Session>) {
        *lock(&self.session) = Arc::downgrade(session);
    }

    /// Leaves a failure behind. Its status stays in the log.
    pub(crate) fn leave_failure(&self) {
        self.stage.store(Stage::Completed as u8, Ordering::Release);
        lock(&self.state).left = true;
    }

    /// Log page 81h.
    pub(crate) fn status(&self, drive: &Drive) -> SanitizeStatus {
        let state = lock(&self.state);
        let stage = self.stage();
        let progress = match stage {
            Stage::Running => (u128::from(state.done) << 16) / u128::from(state.total.max(1)),
            _ => WHOLE.into(),
        };
        let told = match stage {
            Stage::Completed if state.left => Stage::Failed as u16,
            Stage::FailedUnrestricted => Stage::Failed as u16,
            stage => stage as u16,
        };
        let mut status = told | u16::from(state.passes) << 3;
        if stage == Stage::Completed && state.written_then == Some(drive.written_bytes()) {
            status |= GLOBAL_DATA_ERASED;
        }
        SanitizeStatus::new(
            progress.min(u128::from(WHOLE)) as u16,
            status,
            state.order.dword,
            NO_ESTIMATE,
        )
    }
}

/// Begins an operation, on the drive's lane. It is remembered when this returns.
///
/// # Errors
/// Another one is under way.
pub(crate) fn begin(
    drive: &Arc<Drive>,
    order: Order,
    session: &Arc<Session>,
) -> Result<(), Status> {
    let mut state = lock(&drive.sanitize.state);
    drive.sanitize.check_idle()?;
    start(drive, order, &mut state);
    drop(state);
    state::save(drive);
    let (drive, session) = (Arc::clone(drive), Arc::clone(session));
    let lane = Arc::clone(&drive.lane);
    lane.submit(Box::new(move || run(&drive, order, Some(session))));
    Ok(())
}

/// Begins an operation anew that the end of the process cut off.
pub(crate) fn resume(drive: &Arc<Drive>, past: &Past) {
    if drive.sanitize.stage() != Stage::Running {
        return;
    }
    start(drive, past.order, &mut lock(&drive.sanitize.state));
    let (drive, order) = (Arc::clone(drive), past.order);
    let lane = Arc::clone(&drive.lane);
    lane.submit(Box::new(move || run(&drive, order, None)));
}

fn start(drive: &Drive, order: Order, state: &mut State) {
    let namespaces = drive.namespaces.all();
    let size: u64 = namespaces.iter().map(|one| one.backend().size()).sum();
    *state = State {
        order,
        total: size.saturating_mul(order.erasures().len() as u64),
        ..State::default()
    };
    let stage = &drive.sanitize.stage;
    stage.store(Stage::Running as u8, Ordering::Release);
}

fn run(drive: &Arc<Drive>, order: Order, session: Option<Arc<Session>>) {
    let drained = session.is_none_or(|session| drain(&session));
    let result = match drained {
        true => erase_all(drive, order),
        false => Err(Cut::Failed(Status::INTERNAL_ERROR)),
    };
    // The drive was taken away: it is as if its power had gone.
    if result == Err(Cut::Stopped) || drive.is_released() {
        return;
    }
    let sanitize = &drive.sanitize;
    let mut state = lock(&sanitize.state);
    let stage = match result {
        Ok(()) => {
            state.written_then = Some(drive.written_bytes());
            Stage::Completed
        }
        Err(_) if order.is_unrestricted() => Stage::FailedUnrestricted,
        Err(_) => Stage::Failed,
    };
    sanitize.stage.store(stage as u8, Ordering::Release);
    drop(state);
    if stage != Stage::Completed {
        warn!(drive = %drive.id, "a sanitize operation failed");
    }
    state::save(drive);
    let session = lock(&sanitize.session).upgrade();
    if let Some(session) = session {
        raise_event(&session, Event::Sanitized);
    }
}

/// Waits until commands that were under way have ended. No new ones begin.
fn drain(session: &Session) -> bool {
    let by = Instant::now() + DRAIN_BOUND;
    for queue in session.submissions.iter().skip(1) {
        let Some(queue) = queue.load_full() else {
            continue;
        };
        while !queue.gate.is_empty() {
            if Instant::now() > by {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    true
}

fn erase_all(drive: &Drive, order: Order) -> Result<(), Cut> {
    for erasure in order.erasures() {
        for namespace in drive.namespaces.all() {
            erase(&namespace, erasure, |bytes| {
                lock(&drive.sanitize.state).done += bytes;
                !drive.is_released()
            })?;
        }
        if order.action() == Order::OVERWRITE {
            let mut state = lock(&drive.sanitize.state);
            state.passes = (state.passes + 1) & 0x1F;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overwrite_begins_with_the_pattern_itself() {
        let order = |passes: u32, inverts: u32| Order {
            dword: 3 | passes << 4 | inverts << 8,
            pattern: 0xA5,
        };
        let (plain, inverted) = (Erasure::Pattern(0xA5), Erasure::Pattern(!0xA5));
        assert_eq!(order(2, 0).erasures(), [plain, plain]);
        assert_eq!(
            order(3, 1).erasures(),
            [plain, inverted, plain].map(|one| one)
        );
        assert_eq!(order(0, 1).erasures().len(), 16);
        assert_eq!(order(0, 1).erasures()[15], inverted);
    }
}
