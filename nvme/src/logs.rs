//! What the drive remembers of its life for Get Log Page: counters, which outlive the process where the drive
//! has a place for its state, and the last errors, which do not.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use zerocopy::FromZeros;

use crate::gate::lock;
use crate::namespace::Kind;
use crate::spec::log::{ErrorEntry, Smart};
use crate::spec::{BLOCK, Status, Submission};

/// Entries of the error log.
pub(crate) const ERROR_ENTRIES: usize = 64;
/// Composite temperature in kelvins: 25 °C, a drive in a cool room.
pub(crate) const TEMPERATURE: u16 = 298;

/// See the module's header.
pub(crate) struct Logs {
    since: Instant,
    /// Seconds powered on before.
    powered_before: u64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    busy_minutes: AtomicU64,
    /// Reads and writes when the last minute ended.
    moved_then: AtomicU64,
    /// The machine was reset and has not used the drive since.
    is_off: AtomicBool,
    power_cycles: AtomicU64,
    unsafe_shutdowns: AtomicU64,
    media_errors: AtomicU64,
    errors: Mutex<Errors>,
}

#[derive(Default)]
struct Errors {
    count: u64,
    last: VecDeque<ErrorEntry>,
}

/// What several commands moved.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
}

impl Moved {
    /// Adds a command that has moved its data, if it moves any.
    pub(crate) fn add(&mut self, kind: Kind, bytes: u64) {
        let (commands, all) = match kind {
            Kind::Read => (&mut self.reads, &mut self.read_bytes),
            Kind::Write { .. } => (&mut self.writes, &mut self.written_bytes),
            Kind::Flush { .. } => return,
        };
        *commands += 1;
        *all += bytes;
    }
}

/// The counters, as they are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Life {
    read_bytes: u64,
    written_bytes: u64,
    reads: u64,
    writes: u64,
    busy_minutes: u64,
    powered_seconds: u64,
    power_cycles: u64,
    unsafe_shutdowns: u64,
    media_errors: u64,
    errors: u64,
}

impl Life {
    /// The power comes on, after a loss of it in use or not.
    pub(crate) fn begin(&mut self, was_in_use: bool) {
        self.power_cycles += 1;
        self.unsafe_shutdowns += u64::from(was_in_use);
    }
}

impl Logs {
    /// Logs that go on from `life`.
    pub(crate) fn new(life: &Life) -> Self {
        Self {
            since: Instant::now(),
            powered_before: life.powered_seconds,
            read_bytes: life.read_bytes.into(),
            written_bytes: life.written_bytes.into(),
            reads: life.reads.into(),
            writes: life.writes.into(),
            busy_minutes: life.busy_minutes.into(),
            moved_then: (life.reads + life.writes).into(),
            is_off: AtomicBool::new(false),
            power_cycles: life.power_cycles.into(),
            unsafe_shutdowns: life.unsafe_shutdowns.into(),
            media_errors: life.media_errors.into(),
            errors: Mutex::new(Errors {
                count: life.errors,
                last: VecDeque::new(),
            }),
        }
    }

    /// The counters as they stand.
    pub(crate) fn life(&self) -> Life {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Life {
            read_bytes: load(&self.read_bytes),
            written_bytes: load(&self.written_bytes),
            reads: load(&self.reads),
            writes: load(&self.writes),
            busy_minutes: load(&self.busy_minutes),
            powered_seconds: self.powered_seconds(),
            power_cycles: load(&self.power_cycles),
            unsafe_shutdowns: load(&self.unsafe_shutdowns),
            media_errors: load(&self.media_errors),
            errors: lock(&self.errors).count,
        }
    }

    pub(crate) fn power_on_hours(&self) -> u64 {
        self.powered_seconds() / 3600
    }

    fn powered_seconds(&self) -> u64 {
        self.powered_before + self.since.elapsed().as_secs()
    }

    /// A minute has passed: it was a busy one where data was moved.
    pub(crate) fn count_minute(&self) {
        let moved = self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed);
        if self.moved_then.swap(moved, Ordering::Relaxed) != moved {
            self.busy_minutes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what several commands moved.
    pub(crate) fn count(&self, moved: &Moved) {
        let add = |counter: &AtomicU64, more: u64| {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.read_bytes, moved.read_bytes);
        add(&self.reads, moved.reads);
        add(&self.written_bytes, moved.written_bytes);
        add(&self.writes, moved.writes);
    }

    pub(crate) fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_write(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// A reset of the machine takes the drive's power away, unsafely where the guest did not shut it down.
    /// It comes back when the guest next uses the drive.
    pub(crate) fn power_off(&self, was_safe: bool) {
        self.is_off.store(true, Ordering::Relaxed);
        if !was_safe {
            self.unsafe_shutdowns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The guest uses the drive: where its power was away, this is another cycle of it.
    pub(crate) fn power_on(&self) {
        if self.is_off.swap(false, Ordering::Relaxed) {
            self.power_cycles.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An error of `command`, on the I/O queues about blocks from `first_block`.
    pub(crate) fn record_error(
        &self,
        sq_id: u16,
        command: &Submission,
        status: Status,
        first_block: u64,
    ) {
        if status.is_media() {
            self.media_errors.fetch_add(1, Ordering::Relaxed);
        }
        let mut errors = lock(&self.errors);
        errors.count += 1;
        let mut entry = ErrorEntry::new_zeroed();
        entry.count = errors.count;
        entry.sq_id = sq_id;
        entry.cid = command.cid;
        entry.status = status.bits() << 1;
        entry.parameter = status.parameter();
        entry.nsid = command.nsid;
        if sq_id != 0 {
            entry.lba = first_block;
        }
        errors.last.truncate(ERROR_ENTRIES - 1);
        errors.last.push_front(entry);
    }

    /// The last errors, newest first, as many as there are entries.
    pub(crate) fn errors(&self) -> Vec<ErrorEntry> {
        let errors = lock(&self.errors);
        let mut entries: Vec<_> = errors.last.iter().copied().collect();
        entries.resize_with(ERROR_ENTRIES, ErrorEntry::new_zeroed);
        entries
    }

    pub(crate) fn smart(&self, critical_warning: u8) -> Smart {
        let load = |counter: &AtomicU64| u128::from(counter.load(Ordering::Relaxed));
        let units = |counter| load(counter).div_ceil(1000 * u128::from(BLOCK));
        let mut smart = Smart::new_zeroed();
        smart.critical_warning = critical_warning;
        smart.temperature = TEMPERATURE;
        smart.spare = 100;
        smart.spare_threshold = 10;
        smart.data_units_read = units(&self.read_bytes);
        smart.data_units_written = units(&self.written_bytes);
        smart.read_commands = load(&self.reads);
        smart.write_commands = load(&self.writes);
        smart.busy_minutes = load(&self.busy_minutes);
        smart.power_cycles = load(&self.power_cycles);
        smart.power_on_hours = self.power_on_hours().into();
        smart.unsafe_shutdowns = load(&self.unsafe_shutdowns);
        smart.media_errors = load(&self.media_errors);
        smart.error_entries = u128::from(lock(&self.errors).count);
        smart
    }
}
