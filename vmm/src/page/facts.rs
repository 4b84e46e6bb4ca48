//! Figures as the page shows them, and what several of its parts need to know of a report.

use api::report::{Cause, DeviceReport, GuestOrder, GuestReport, Outcome, TeardownReport};
use maud::{Markup, html};

use crate::picture::milliseconds;

/// A time with its exact nanoseconds in the title, to be selected and copied.
pub(super) fn time(ns: u64) -> Markup {
    html! { data value=(ns) title={ (grouped(ns)) " ns" } { (milliseconds(ns)) } }
}

/// A time, or a dash where there is none.
pub(super) fn some_time(ns: Option<u64>) -> Markup {
    ns.map_or_else(|| html! { "–" }, time)
}

/// A moment as people read it, with a true minus sign.
pub(super) fn moment(ns: i64) -> String {
    let sign = if ns < 0 { "−" } else { "" };
    format!("{sign}{}", milliseconds(ns.unsigned_abs()))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun, in the plural where needed.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number as u64))
}

/// How long a device's teardown took.
pub(super) fn took(device: &DeviceReport) -> u64 {
    device.end_ns.saturating_sub(device.start_ns)
}

/// What asked for the teardown, as people call it.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::I8042 => "the keyboard controller (i8042)",
        Cause::PciReset => "port 0xCF9",
        Cause::AcpiReset => "the ACPI reset register",
        Cause::TripleFault => "a triple fault",
        Cause::Api => "the API (vm.reboot)",
        Cause::PowerOff => "a power-off (S5)",
        Cause::Shutdown => "the API (a shutdown)",
        Cause::Crash => "a crashed vCPU",
        Cause::Boot => "the API (a boot)",
    }
}

/// How a device's teardown ended, in a word; none if as it should.
pub(super) fn trouble(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Done => None,
        Outcome::Failed { .. } => Some("failed"),
        Outcome::TimedOut => Some("timed out"),
        Outcome::Removed => Some("removed"),
    }
}

/// How the guest's handshakes lie to each other, in a word.
pub(super) fn order(order: GuestOrder) -> &'static str {
    match order {
        GuestOrder::None => "no handshake",
        GuestOrder::Single => "one drive",
        GuestOrder::Serial => "serial",
        GuestOrder::Parallel => "parallel",
    }
}

/// How many drives the guest shut down.
pub(super) fn handshakes(guest: &GuestReport) -> usize {
    let devices = guest.devices.iter();
    devices.filter(|device| device.handshake.is_some()).count()
}

/// The device on the critical path that took longest.
pub(super) fn longest_critical(report: &TeardownReport) -> Option<&DeviceReport> {
    let critical = report.devices.iter().filter(|device| device.critical);
    critical.max_by_key(|device| took(device))
}

/// A part of a whole, in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.0} %", part as f64 * 100.0 / whole.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(1, "device"), "1 device");
        assert_eq!(count(1512, "device"), "1,512 devices");
        assert_eq!(moment(-1_612_340_000), "−1,612.3 ms");
        assert_eq!(percent(1, 0), "100 %");
        assert_eq!(
            time(1_612_345_678).into_string(),
            r#"<data value="1612345678" title="1,612,345,678 ns">1,612.3 ms</data>"#
        );
    }
}
