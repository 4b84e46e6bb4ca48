//! The real-time clock and its CMOS memory: an MC146818 that follows the host's clock in UTC.

mod calendar;

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::calendar::{Calendar, Encoding};
use super::{CMOS_CENTURY, lock};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

const CELLS: usize = 128;
const REGISTER_A: u8 = 0x0A;
const REGISTER_B: u8 = 0x0B;
const REGISTER_C: u8 = 0x0C;
const REGISTER_D: u8 = 0x0D;
const SHUTDOWN_STATUS: u8 = 0x0F;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const DIVIDER: u8 = 0x70;
const DIVIDER_RUNS: u8 = 0x20;
const A_AFTER_RESET: u8 = 0x26;
const SET: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const B_AFTER_RESET: u8 = HOURS_24;
const MEMORY_VALID: u8 = 1 << 7;

const SECOND: i128 = 1_000_000_000;
/// UIP goes up this long before the seconds change.
const UPDATE_NOTICE: i128 = 244_000;

type WallClock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The clock at [`CMOS`](super::CMOS). It raises no interrupt: register C reads as 0.
///
/// Its battery outlives resets: the guest's setting of the clock and the general cells stay.
pub struct Cmos {
    host_clock: WallClock,
    memory: MemorySize,
    state: Mutex<State>,
}

/// How much RAM the CMOS cells report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize {
    /// Bytes below 4 GiB, from address 0.
    pub low: u64,
    /// Bytes from 4 GiB on.
    pub high: u64,
}

struct State {
    index: u8,
    cells: [u8; CELLS],
    /// Nanoseconds by which the guest's clock is ahead of the host's.
    ahead: i128,
}

impl Cmos {
    /// A clock on the host's time, for a machine with this memory.
    pub fn new(memory: MemorySize) -> Self {
        Self::with_clock(
            memory,
            Box::new(|| {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
            }),
        )
    }

    /// A clock on `host_clock`, which gives the time since 1970 in UTC.
    pub fn with_clock(memory: MemorySize, host_clock: WallClock) -> Self {
        let mut state = State {
            index: 0,
            cells: [0; CELLS],
            ahead: 0,
        };
        state.reset(memory);
        Self {
            host_clock,
            memory,
            state: Mutex::new(state),
        }
    }

    fn host_now(&self) -> i128 {
        (self.host_clock)().as_nanos() as i128
    }
}

impl State {
    fn reset(&mut self, memory: MemorySize) {
        self.index = 0;
        self.cells[usize::from(REGISTER_A)] = A_AFTER_RESET;
        self.cells[usize::from(REGISTER_B)] = B_AFTER_RESET;
        self.cells[usize::from(SHUTDOWN_STATUS)] = 0;
        let kib = |bytes: u64, limit: u64| (bytes >> 10).min(limit).to_le_bytes();
        let chunks = |bytes: u64, limit: u64| (bytes >> 16).min(limit).to_le_bytes();
        let base = kib(memory.low, 640);
        let extended = kib(memory.low.saturating_sub(1 << 20), 0xFC00);
        let above_16_mib = chunks(memory.low.saturating_sub(16 << 20), 0xFFFF);
        let above_4_gib = chunks(memory.high, 0xFF_FFFF);
        self.cells[0x15..0x17].copy_from_slice(&base[..2]);
        self.cells[0x17..0x19].copy_from_slice(&extended[..2]);
        self.cells[0x30..0x32].copy_from_slice(&extended[..2]);
        self.cells[0x34..0x36].copy_from_slice(&above_16_mib[..2]);
        self.cells[0x5B..0x5E].copy_from_slice(&above_4_gib[..3]);
    }

    fn register(&self, index: u8) -> u8 {
        self.cells
            .get(usize::from(index))
            .copied()
            .unwrap_or_default()
    }

    fn encoding(&self) -> Encoding {
        let b = self.register(REGISTER_B);
        Encoding {
            binary: b & BINARY != 0,
            hours_24: b & HOURS_24 != 0,
        }
    }

    /// Whether the guest has stopped the clock: to set it, or by holding its divider.
    fn stopped(&self) -> bool {
        self.register(REGISTER_B) & SET != 0 || self.register(REGISTER_A) & DIVIDER != DIVIDER_RUNS
    }

    fn guest_now(&self, host_now: i128) -> i128 {
        host_now + self.ahead
    }

    /// Writes the running time to the time registers.
    fn store_time(&mut self, host_now: i128) {
        let seconds = self.guest_now(host_now).div_euclid(SECOND);
        let fields = Calendar::from_seconds(seconds as i64).encode(self.encoding());
        for (index, value) in fields {
            self.cells[usize::from(index)] = value;
        }
    }

    /// Takes the running time from the time registers, `fraction` nanoseconds into the second.
    fn take_time(&mut self, host_now: i128, fraction: i128) {
        let calendar = Calendar::decode(self.encoding(), |index| self.register(index));
        let guest = i128::from(calendar.to_seconds()) * SECOND + fraction;
        self.ahead = guest - host_now;
    }

    fn read(&mut self, host_now: i128) -> u8 {
        match self.index {
            REGISTER_A => {
                let fraction = self.guest_now(host_now).rem_euclid(SECOND);
                let updating = !self.stopped() && fraction >= SECOND - UPDATE_NOTICE;
                let a = self.register(REGISTER_A);
                if updating { a | UPDATE_IN_PROGRESS } else { a }
            }
            REGISTER_C => 0,
            REGISTER_D => MEMORY_VALID,
            index => {
                if is_time(index) && !self.stopped() {
                    self.store_time(host_now);
                }
                self.register(index)
            }
        }
    }

    fn write(&mut self, host_now: i128, value: u8) {
        let index = self.index;
        match index {
            REGISTER_A => self.control(REGISTER_A, value & !UPDATE_IN_PROGRESS, host_now),
            REGISTER_B => self.control(REGISTER_B, value, host_now),
            REGISTER_C | REGISTER_D => {}
            _ if is_time(index) && !self.stopped() => {
                self.store_time(host_now);
                self.cells[usize::from(index)] = value;
                self.take_time(host_now, self.guest_now(host_now).rem_euclid(SECOND));
            }
            _ => {
                if let Some(cell) = self.cells.get_mut(usize::from(index)) {
                    *cell = value;
                }
            }
        }
    }

    /// Writes register A or B, which may stop the clock or let it run again.
    fn control(&mut self, register: u8, value: u8, host_now: i128) {
        let stopped_before = self.stopped();
        if !stopped_before {
            self.store_time(host_now);
        }
        self.cells[usize::from(register)] = value;
        if stopped_before && !self.stopped() {
            // A divider let go makes its first update half a second later (MC146818A data sheet).
            let fraction = if register == REGISTER_A {
                SECOND / 2
            } else {
                self.guest_now(host_now).rem_euclid(SECOND)
            };
            self.take_time(host_now, fraction);
        }
    }
}

fn is_time(index: u8) -> bool {
    matches!(index, 0 | 2 | 4 | 6..=9 | CMOS_CENTURY)
}

impl DevicePio for Cmos {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0xFF);
        if let (1, Some(byte)) = (offset, data.first_mut()) {
            let now = self.host_now();
            *byte = lock(&self.state).read(now);
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let now = self.host_now();
        let mut state = lock(&self.state);
        for (register, &value) in (u32::from(offset)..).zip(data) {
            match register {
                // Bit 7 masks the NMI, which nothing here raises.
                0 => state.index = value & 0x7F,
                1 => state.write(now, value),
                _ => {}
            }
        }
    }
}

impl Device for Cmos {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        phases.run("reset", || lock(&self.state).reset(self.memory));
        Ok(Finish::Now)
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests;
