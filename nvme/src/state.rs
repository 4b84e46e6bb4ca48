//! What a drive remembers over restarts, in a file that is replaced whole: counters of its life, formats, the
//! last sanitize operation and self-tests. Saved when something changes that must not be forgotten, and every minute.
//!
//! While the guest uses the drive the file says so. Found that way at a start, the last use ended without a
//! shutdown: the process was killed, or the host lost its power.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::drive::Drive;
use crate::engine::{TimerKey, TimerKind};
use crate::gate::lock;
use crate::logs::Life;
use crate::sanitize::Past;
use crate::spec::BLOCK_SIZES;
use crate::{selftest, stable};

const VERSION: u32 = 1;
const MINUTE: Duration = Duration::from_secs(60);

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The host refused.
    #[error("cannot {doing} the state file {path}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// It is none that this program wrote.
    #[error(
        "{path} is no drive's state of this version ({reason}); remove it, and the drive begins a new life"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// The guest uses the drive and has not shut it down.
    in_use: bool,
    pub(crate) life: Life,
    /// Formats of configured namespaces that differ from the configuration's.
    formats: Vec<Format>,
    pub(crate) sanitize: Past,
    pub(crate) self_tests: Vec<selftest::Result>,
}

/// A configured namespace that the guest has formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    namespace: u32,
    /// The block size in the configuration. Where that changes, it counts again.
    configured: u32,
    block_size: u32,
}

/// The place of a drive's state, and when it is saved.
pub(crate) struct Memory {
    path: Option<PathBuf>,
    in_use: AtomicBool,
    formats: Mutex<Vec<Format>>,
    /// A save stands on the drive's lane.
    scheduled: AtomicBool,
    /// Keeps two saves in order, and knows what the last one wrote.
    saved: Mutex<Option<State>>,
}

impl Memory {
    /// Reads the state at `path`, where one is given.
    pub(crate) fn open(path: Option<&Path>) -> Result<(Self, State), StateError> {
        let mut state = match path {
            Some(path) => read(path)?,
            None => State::default(),
        };
        state.life.begin(std::mem::take(&mut state.in_use));
        let memory = Self {
            path: path.map(Path::to_path_buf),
            in_use: AtomicBool::new(false),
            formats: Mutex::new(state.formats.clone()),
            scheduled: AtomicBool::new(false),
            saved: Mutex::default(),
        };
        Ok((memory, state))
    }

    /// The block size of a namespace that the configuration gives blocks of `configured` bytes.
    pub(crate) fn block_size(&self, namespace: u32, configured: u32) -> u32 {
        let formats = lock(&self.formats);
        let of_it =
            |format: &&Format| (format.namespace, format.configured) == (namespace, configured);
        let found = formats.iter().find(of_it);
        found.map_or(configured, |format| format.block_size)
    }

    /// A namespace that the configuration gives blocks of `configured` bytes was formatted.
    pub(crate) fn set_block_size(&self, namespace: u32, configured: u32, block_size: u32) {
        let mut formats = lock(&self.formats);
        formats.retain(|format| format.namespace != namespace);
        if block_size != configured {
            formats.push(Format {
                namespace,
                configured,
                block_size,
            });
        }
    }
}

/// The guest begins to use the drive, or has shut it down, or its machine went away.
pub(crate) fn note_use(drive: &Arc<Drive>, in_use: bool) {
    if in_use {
        drive.logs.power_on();
    }
    if drive.state.in_use.swap(in_use, Ordering::AcqRel) != in_use {
        schedule(drive);
    }
}

/// Saves soon, on the drive's lane.
pub(crate) fn schedule(drive: &Arc<Drive>) {
    let memory = &drive.state;
    if memory.path.is_none() || memory.scheduled.swap(true, Ordering::AcqRel) {
        return;
    }
    // By way of the control thread: this may be a vCPU under the registers' lock, and a lane may make a thread.
    let saved = Arc::clone(drive);
    drive.engine.post(Box::new(move || {
        let lane = Arc::clone(&saved.lane);
        lane.submit(Box::new(move || save(&saved)));
    }));
}

/// Saves now. A failure is logged, and tried again in a minute.
pub(crate) fn save(drive: &Drive) {
    let memory = &drive.state;
    let Some(path) = &memory.path else { return };
    let mut saved = lock(&memory.saved);
    memory.scheduled.swap(false, Ordering::AcqRel);
    let state = State {
        version: VERSION,
        in_use: memory.in_use.load(Ordering::Acquire),
        life: drive.logs.life(),
        formats: lock(&memory.formats).clone(),
        sanitize: drive.sanitize.past(drive),
        self_tests: drive.self_test.results(),
    };
    if saved.as_ref() == Some(&state) {
        return;
    }
    let text = serde_json::to_vec_pretty(&state).map_err(std::io::Error::other);
    let replaced = text.and_then(|text| stable::replace(path, &text, stable::sync_folder));
    match replaced.and_then(stable::Replaced::sure) {
        Ok(()) => *saved = Some(state),
        Err(failure) => warn!(drive = %drive.id, "its state cannot be saved: {failure}"),
    }
}

/// Counts minutes, and saves in each.
pub(crate) fn begin_minutes(drive: &Arc<Drive>) {
    let key = TimerKey {
        owner: drive.number,
        kind: TimerKind::Minute,
    };
    let passing = Arc::downgrade(drive);
    let job = Box::new(move || minute(&passing));
    drive.engine.arm(key, Instant::now() + MINUTE, job);
}

fn minute(drive: &Weak<Drive>) {
    let Some(drive) = drive.upgrade() else { return };
    drive.logs.count_minute();
    schedule(&drive);
    begin_minutes(&drive);
}

fn read(path: &Path) -> Result<State, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(failure) if failure.kind() == ErrorKind::NotFound => return Ok(State::default()),
        Err(source) => {
            return Err(StateError::Host {
                doing: "read",
                path: path.to_path_buf(),
                source,
            });
        }
    };
    let wrong = |reason: String| StateError::Content {
        path: path.to_path_buf(),
        reason,
    };
    let state: State =
        serde_json::from_slice(&text).map_err(|failure| wrong(failure.to_string()))?;
    if state.version != VERSION {
        return Err(wrong(format!("its version is {}", state.version)));
    }
    let sizes = state.formats.iter().map(|format| format.block_size);
    if let Some(size) = sizes.into_iter().find(|size| !BLOCK_SIZES.contains(size)) {
        return Err(wrong(format!("it has blocks of {size} bytes")));
    }
    Ok(state)
}
