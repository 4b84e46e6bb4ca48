//! Times and percentages as they are written, read exactly: no digit is rounded away.

use std::time::Duration;

/// The longest that one device may take.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The units, and their nanoseconds. Where one ends as another does, the longer one comes first.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("ms", 1_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A time such as `4.5s`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let refused = |why: &str| {
        format!(
            "`{text}` {why}; a time is a number and a unit, such as `4.5s`: ns, us, ms, s, min and h are allowed"
        )
    };
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let &(unit, nanos) = unit.ok_or_else(|| refused("has no unit"))?;
    let number = text.strip_suffix(unit).unwrap_or_default();
    let (whole, fraction) =
        decimal(number).ok_or_else(|| refused("does not begin with a number"))?;
    let parts = u128::from(fraction) * u128::from(nanos);
    if parts % u128::from(FRACTION) != 0 {
        return Err(refused("is finer than a nanosecond"));
    }
    let total = u128::from(whole) * u128::from(nanos) + parts / u128::from(FRACTION);
    // What does not fit is out of any range.
    Ok(Duration::from_nanos(
        u64::try_from(total).unwrap_or(u64::MAX),
    ))
}

/// A time that a device can take.
pub(super) fn device_time(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time > LONGEST {
        return Err(format!(
            "`{text}` is too long for one device; up to 24h is allowed"
        ));
    }
    Ok(time)
}

/// A percentage such as `2.5%`, in hundredths of a percent.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let refused =
        || format!("`{text}` is no tolerance; `± 1%` is one, from 0 to 100 % with two decimals");
    let number = text.strip_suffix('%').ok_or_else(refused)?;
    let (whole, fraction) = decimal(number.trim_end()).ok_or_else(refused)?;
    let step = FRACTION / 100;
    if whole > 100 || (whole == 100 && fraction > 0) || fraction % step != 0 {
        return Err(refused());
    }
    Ok(whole as u32 * 100 + (fraction / step) as u32)
}

/// What a whole is in fractions: nine decimals.
const FRACTION: u64 = 1_000_000_000;

/// A number with at most nine decimals: the whole, and the rest in billionths.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || whole.len() > 18 {
        return None;
    }
    let fraction = format!("{fraction:0<9}");
    Some((whole.parse().ok()?, fraction.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_exactly() {
        let read = |text: &str| time(text).unwrap().as_nanos();
        assert_eq!(read("7ns"), 7);
        assert_eq!(read("10us"), 10_000);
        assert_eq!(read("0.001µs"), 1);
        assert_eq!(read("76.143ms"), 76_143_000);
        assert_eq!(read("4.5s"), 4_500_000_000);
        assert_eq!(read("11min"), 660_000_000_000);
        assert_eq!(read("1.5h"), 5_400_000_000_000);
    }

    #[test]
    fn what_is_no_time_is_told_with_what_is_one() {
        for text in [
            "", "5", "s", "-1s", "1e3s", ".5s", "5.s", "0.1ns", "1 s", "٣s", "5m",
        ] {
            let message = time(text).unwrap_err();
            assert!(message.contains("such as `4.5s`"), "{text}: {message}");
        }
        assert!(device_time("25h").unwrap_err().contains("up to 24h"));
        assert!(device_time("999999999999999999h").is_err());
    }

    #[test]
    fn percentages_have_two_decimals() {
        assert_eq!(percent("1%"), Ok(100));
        assert_eq!(percent("2.25 %"), Ok(225));
        assert_eq!(percent("100%"), Ok(10_000));
        for text in ["1", "%", "100.1%", "0.001%", "-1%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
