//! What the drive remembers of its life for Get Log Page: counters and the last errors. Kept in memory:
//! it starts anew with the process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use zerocopy::FromZeros;

use crate::gate::lock;
use crate::spec::log::{ErrorEntry, Smart};
use crate::spec::{BLOCK, Status, Submission};

/// Entries of the error log.
pub(crate) const ERROR_ENTRIES: usize = 64;
/// Composite temperature in kelvins: 25 °C, a drive in a cool room.
pub(crate) const TEMPERATURE: u16 = 298;

/// See the module's header.
pub(crate) struct Logs {
    since: Instant,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
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

impl Logs {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            power_cycles: AtomicU64::new(1),
            unsafe_shutdowns: AtomicU64::new(0),
            media_errors: AtomicU64::new(0),
            errors: Mutex::default(),
        }
    }

    pub(crate) fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_write(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// A reset of the machine is a power cycle to the drive, unsafe where the guest did not shut it down.
    pub(crate) fn count_power_cycle(&self, was_safe: bool) {
        self.power_cycles.fetch_add(1, Ordering::Relaxed);
        if !was_safe {
            self.unsafe_shutdowns.fetch_add(1, Ordering::Relaxed);
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
        smart.power_cycles = load(&self.power_cycles);
        smart.power_on_hours = u128::from(self.since.elapsed().as_secs() / 3600);
        smart.unsafe_shutdowns = load(&self.unsafe_shutdowns);
        smart.media_errors = load(&self.media_errors);
        smart.error_entries = u128::from(lock(&self.errors).count);
        smart
    }
}
