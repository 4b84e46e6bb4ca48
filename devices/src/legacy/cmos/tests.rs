//! The guest's side of the clock, against a host clock that the tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const PORT: PioAddress = PioAddress(crate::legacy::CMOS.first);
const GIB: u64 = 1 << 30;
/// 2024-02-29 13:59:58 UTC, a Thursday.
const LEAP_DAY: u64 = 1_709_215_198;

struct Guest {
    cmos: Cmos,
    millis: Arc<AtomicU64>,
}

impl Guest {
    fn at(seconds: u64) -> Self {
        let millis = Arc::new(AtomicU64::new(seconds * 1000));
        let clock = millis.clone();
        let size = MemorySize {
            low: 3 * GIB,
            high: 3 * GIB,
        };
        let clock = move || Duration::from_millis(clock.load(Ordering::Relaxed));
        Self {
            cmos: Cmos::with_clock(size, Box::new(clock)),
            millis,
        }
    }

    fn pass(&self, millis: u64) {
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    fn read(&self, index: u8) -> u8 {
        self.cmos.pio_write(PORT, 0, &[index | 0x80]);
        let mut byte = [0];
        self.cmos.pio_read(PORT, 1, &mut byte);
        byte[0]
    }

    fn write(&self, index: u8, value: u8) {
        self.cmos.pio_write(PORT, 0, &[index]);
        self.cmos.pio_write(PORT, 1, &[value]);
    }

    /// Century, year, month, day, weekday, hour, minute, second.
    fn time(&self) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| self.read(index))
    }

    fn shut_down(&self) {
        let by = Deadline::after(Duration::from_secs(1));
        self.cmos.shut_down(by, &mut Phases::default()).unwrap();
    }
}

#[test]
fn time_reads_in_bcd_and_24_hours_after_power_on() {
    let guest = Guest::at(LEAP_DAY);
    assert_eq!(
        guest.time(),
        [0x20, 0x24, 0x02, 0x29, 0x05, 0x13, 0x59, 0x58]
    );
    guest.pass(2000);
    assert_eq!(guest.time()[5..], [0x14, 0x00, 0x00]);
    guest.pass(10 * 3600 * 1000);
    assert_eq!(guest.time()[..6], [0x20, 0x24, 0x03, 0x01, 0x06, 0x00]);
}

#[test]
fn binary_and_12_hours_are_honoured() {
    let guest = Guest::at(LEAP_DAY);
    guest.write(REGISTER_B, BINARY);
    assert_eq!(guest.time(), [20, 24, 2, 29, 5, 1 | 0x80, 59, 58]);
    guest.pass(11 * 3600 * 1000);
    assert_eq!(guest.read(4), 12, "midnight");
    guest.pass(12 * 3600 * 1000);
    assert_eq!(guest.read(4), 12 | 0x80, "noon");
    guest.write(4, 11);
    guest.write(REGISTER_B, BINARY | HOURS_24);
    assert_eq!(guest.read(4), 11);
}

#[test]
fn uip_announces_the_update() {
    let guest = Guest::at(0);
    assert_eq!(guest.read(REGISTER_A), 0x26);
    guest.pass(999);
    assert_eq!(guest.read(REGISTER_A), 0x26);
    let late = Cmos::with_clock(
        MemorySize { low: 0, high: 0 },
        Box::new(|| Duration::from_nanos(999_900_000)),
    );
    late.pio_write(PORT, 0, &[REGISTER_A]);
    let mut byte = [0];
    late.pio_read(PORT, 1, &mut byte);
    assert_eq!(byte[0], 0xA6);
}

/// As Linux sets the time: SET, divider held, registers, SET off, divider let go.
#[test]
fn the_guest_sets_its_clock_and_a_reset_keeps_it() {
    let guest = Guest::at(LEAP_DAY);
    guest.write(REGISTER_B, HOURS_24 | SET);
    guest.write(REGISTER_A, 0x76);
    guest.pass(3000);
    assert_eq!(guest.read(0), 0x58, "stopped");
    for (index, value) in [(9, 0x31), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59)] {
        guest.write(index, value);
    }
    guest.write(0, 0x59);
    guest.write(0x32, 0x20);
    guest.write(REGISTER_B, HOURS_24);
    guest.write(REGISTER_A, 0x26);
    assert_eq!(guest.time()[5..], [0x23, 0x59, 0x59]);
    guest.pass(499);
    assert_eq!(guest.read(0), 0x59);
    guest.pass(1);
    assert_eq!(guest.time(), [0x20, 0x32, 1, 1, 5, 0, 0, 0]);

    guest.write(SHUTDOWN_STATUS, 0x0A);
    guest.write(0x40, 0x77);
    guest.write(REGISTER_B, SET);
    guest.shut_down();
    assert_eq!(guest.read(SHUTDOWN_STATUS), 0);
    assert_eq!(guest.read(0x40), 0x77);
    assert_eq!(guest.read(REGISTER_B), B_AFTER_RESET);
    assert_eq!(guest.time(), [0x20, 0x32, 1, 1, 5, 0, 0, 0]);
}

#[test]
fn memory_sizes_and_fixed_registers() {
    let guest = Guest::at(0);
    let word = |index| u16::from_le_bytes([guest.read(index), guest.read(index + 1)]);
    assert_eq!(word(0x15), 640);
    assert_eq!(word(0x17), 0xFC00);
    assert_eq!(word(0x30), 0xFC00);
    assert_eq!(u64::from(word(0x34)) << 16, 3 * GIB - (16 << 20));
    assert_eq!(u64::from(word(0x5B)) << 16, 3 * GIB);
    guest.write(REGISTER_D, 0);
    assert_eq!(guest.read(REGISTER_D), 0x80);
    assert_eq!(guest.read(REGISTER_C), 0);
    guest.write(5, 0xC0);
    assert_eq!(guest.read(5), 0xC0, "alarm registers hold what is written");
}

#[test]
fn calendar_goes_there_and_back() {
    for encoding in [(false, false), (false, true), (true, false), (true, true)] {
        let encoding = Encoding {
            binary: encoding.0,
            hours_24: encoding.1,
        };
        for seconds in (-62_000_000_000..250_000_000_000).step_by(7_654_321) {
            let there = Calendar::from_seconds(seconds);
            let registers = there.encode(encoding);
            let register = |index| registers.iter().find(|r| r.0 == index).unwrap().1;
            let back = Calendar::decode(encoding, register);
            assert_eq!(back, there);
            assert_eq!(back.to_seconds(), seconds);
        }
    }
}

#[test]
fn nonsense_does_no_harm() {
    let guest = Guest::at(LEAP_DAY);
    for value in [0, 0x0F, 0x99, 0xAA, 0xFF] {
        for b in [0, HOURS_24, BINARY, BINARY | HOURS_24] {
            guest.write(REGISTER_B, b | SET);
            for index in 0..=0x7F {
                if index != REGISTER_B {
                    guest.write(index, value);
                }
            }
            guest.write(REGISTER_A, 0x26);
            guest.write(REGISTER_B, b);
            guest.time();
        }
    }
    for offset in [0, 1, 2, u16::MAX] {
        for len in [0, 1, 2, 4, 8] {
            guest.cmos.pio_read(PORT, offset, &mut vec![0; len]);
            guest.cmos.pio_write(PORT, offset, &vec![0xFF; len]);
        }
    }
}
