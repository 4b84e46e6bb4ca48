//! The figures of a reboot that are summed up and can be bounded.

use std::fmt;

use serde::Serialize;

use super::Reboot;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Nothing: a quotient.
    Ratio,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// From the first device's start to the last device's end.
    Teardown,
    /// The longest chain of devices that had to wait for each other.
    CriticalPath,
    /// Critical path ÷ teardown.
    Efficiency,
    /// From the reset request until all vCPUs stood still.
    VcpuPause,
    /// What is neither vCPU pause nor teardown, until the vCPUs ran again.
    Rest,
    /// From the reset request until the vCPUs ran again.
    Reset,
    /// From the reset request until the guest was ready.
    Ready,
    /// From the guest's first CC.SHN to its last CSTS.SHST = 10b.
    GuestSpan,
    /// The sum of the guest's handshakes ÷ their span.
    GuestOverlap,
    /// The teardown of `serial` in the same round ÷ this teardown.
    Speedup,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Teardown,
        Self::CriticalPath,
        Self::Efficiency,
        Self::VcpuPause,
        Self::Rest,
        Self::Reset,
        Self::Ready,
        Self::GuestSpan,
        Self::GuestOverlap,
        Self::Speedup,
    ];

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teardown => "teardown",
            Self::CriticalPath => "critical-path",
            Self::Efficiency => "efficiency",
            Self::VcpuPause => "vcpu-pause",
            Self::Rest => "rest",
            Self::Reset => "reset",
            Self::Ready => "ready",
            Self::GuestSpan => "guest-span",
            Self::GuestOverlap => "guest-overlap",
            Self::Speedup => "speedup",
        }
    }

    /// What it counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Efficiency | Self::GuestOverlap | Self::Speedup => Unit::Ratio,
            _ => Unit::Time,
        }
    }

    /// Its value in one reboot; times in nanoseconds. None where it was not seen, and for the speedup, which
    /// takes two reboots.
    pub fn of(self, reboot: &Reboot) -> Option<f64> {
        let report = &reboot.report;
        let ns = match self {
            Self::Teardown => Some(report.teardown_ns),
            Self::CriticalPath => Some(report.critical_path_ns),
            Self::VcpuPause => Some(report.vcpu_pause_ns),
            Self::Rest => report.reset_rest_ns,
            Self::Reset => report.reset_ns,
            Self::Ready => reboot.ready_ns,
            Self::GuestSpan => report.guest.overlap.map(|_| report.guest.span_ns),
            Self::Efficiency => return Some(report.efficiency),
            Self::GuestOverlap => return report.guest.overlap,
            Self::Speedup => None,
        };
        ns.map(|ns| ns as f64)
    }

    /// A value of it for people.
    pub fn show(self, value: f64) -> String {
        match self.unit() {
            Unit::Time => format!("{:.1} ms", value / 1e6),
            Unit::Ratio => format!("{value:.2}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
