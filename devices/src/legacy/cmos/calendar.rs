//! The date and time of the clock's registers: to and from seconds, in BCD or binary, 12 or 24 hours.

use crate::legacy::CMOS_CENTURY;

const DAY: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const DAYS_OF_400_YEARS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
const AFTERNOON: u8 = 1 << 7;

/// How registers hold numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub binary: bool,
    pub hours_24: bool,
}

/// A date and time in UTC, of the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Calendar {
    /// The time `seconds` after 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        // Years are counted from March on, so that the leap day is the last of its year.
        let days = seconds.div_euclid(DAY) + DAYS_TO_1970;
        let era = days.div_euclid(DAYS_OF_400_YEARS);
        let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - days_before(year_of_era);
        let month = (5 * day_of_year + 2) / 153;
        let (month_of_year, next_year) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        let time = seconds.rem_euclid(DAY);
        Self {
            year: (era * 400 + year_of_era + next_year).clamp(0, 9999),
            month: month_of_year as u8,
            day: (day_of_year - (153 * month + 2) / 5 + 1) as u8,
            hour: (time / 3_600) as u8,
            minute: (time / 60 % 60) as u8,
            second: (time % 60) as u8,
        }
    }

    /// Seconds since 1970.
    pub fn to_seconds(self) -> i64 {
        let month = i64::from(self.month.clamp(1, 12));
        let (year, march_based) = if month > 2 {
            (self.year, month - 3)
        } else {
            (self.year - 1, month + 9)
        };
        let day_of_year = (153 * march_based + 2) / 5 + i64::from(self.day.max(1)) - 1;
        let days = year.div_euclid(400) * DAYS_OF_400_YEARS
            + days_before(year.rem_euclid(400))
            + day_of_year
            - DAYS_TO_1970;
        days * DAY
            + i64::from(self.hour) * 3_600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// 1 for Sunday to 7 for Saturday.
    pub fn weekday(self) -> u8 {
        // 1970 began on a Thursday.
        ((self.to_seconds().div_euclid(DAY) + 4).rem_euclid(7) + 1) as u8
    }

    /// The time registers: which, and what it holds.
    pub fn encode(self, encoding: Encoding) -> [(u8, u8); 8] {
        let number = |value: u8| encode_number(value, encoding);
        let hour = match (encoding.hours_24, self.hour) {
            (true, hour) => number(hour),
            (false, 0) => number(12),
            (false, hour @ 1..=11) => number(hour),
            (false, 12) => number(12) | AFTERNOON,
            (false, hour) => number(hour - 12) | AFTERNOON,
        };
        [
            (0x00, number(self.second)),
            (0x02, number(self.minute)),
            (0x04, hour),
            (0x06, number(self.weekday())),
            (0x07, number(self.day)),
            (0x08, number(self.month)),
            (0x09, number((self.year % 100) as u8)),
            (CMOS_CENTURY, number((self.year / 100) as u8)),
        ]
    }

    /// The time that the registers hold. Numbers beyond their range run over into the next field.
    pub fn decode(encoding: Encoding, register: impl Fn(u8) -> u8) -> Self {
        let number = |index: u8| decode_number(register(index), encoding);
        let hour = if encoding.hours_24 {
            number(0x04)
        } else {
            let raw = register(0x04);
            let hour = decode_number(raw & !AFTERNOON, encoding) % 12;
            hour + if raw & AFTERNOON != 0 { 12 } else { 0 }
        };
        let year = i64::from(number(CMOS_CENTURY)) * 100 + i64::from(number(0x09));
        Self {
            year: year.min(9999),
            month: number(0x08),
            day: number(0x07),
            hour,
            minute: number(0x02),
            second: number(0x00),
        }
    }
}

/// Days of the March-based years of an era before `year`.
fn days_before(year: i64) -> i64 {
    year * 365 + year / 4 - year / 100
}

fn encode_number(value: u8, encoding: Encoding) -> u8 {
    if encoding.binary {
        value
    } else {
        ((value / 10) << 4) | (value % 10)
    }
}

fn decode_number(value: u8, encoding: Encoding) -> u8 {
    if encoding.binary {
        value
    } else {
        (value >> 4) * 10 + (value & 0x0F)
    }
}
