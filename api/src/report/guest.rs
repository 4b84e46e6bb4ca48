//! What the guest did to its devices on its way down, seen at their registers. Times are nanoseconds on
//! the host's monotonic clock, counted from the guest's reset request: what lies before it is negative.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The guest's part of a reset: from its first act on a device to the reset request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GuestReport {
    /// How the guest's shutdown handshakes lie to each other. One that never ended lasts until the guest
    /// last looked at it.
    pub order: GuestOrder,
    /// The sum of the handshakes that ended, each from CC.SHN to CSTS.SHST = 10b.
    pub handshake_sum_ns: u64,
    /// From the first CC.SHN to the last CSTS.SHST = 10b, of those.
    pub span_ns: u64,
    /// The sum ÷ the span: 1 for one after the other, the number of drives for all at once. None without
    /// a handshake that ended.
    pub overlap: Option<f64>,
    /// The devices that the guest did something to, in the order in which it began to take them down.
    /// Those that it only started come last.
    pub devices: Vec<GuestDevice>,
}

/// How the shutdown handshakes of a guest lie to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestOrder {
    /// There was none.
    #[default]
    None,
    /// There was one.
    Single,
    /// No two of them overlapped: the guest shuts its drives down one after the other.
    Serial,
    /// Some overlapped.
    Parallel,
}

/// What the guest did to one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestDevice {
    /// The device's name.
    pub id: String,
    /// What it is: `nvme`, `root-port`, …
    pub class: String,
    /// Segment, bus, device, function as the guest numbered them.
    pub address: Option<String>,
    /// What was done, oldest first.
    pub events: Vec<GuestEvent>,
    /// The NVMe shutdown handshake that was begun last; none if the guest began none since it started the
    /// drive.
    pub handshake: Option<ShutdownHandshake>,
}

/// One kind of act on a device's registers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestEvent {
    /// What was done.
    pub act: GuestAct,
    /// When it was done first.
    pub first_ns: i64,
    /// When it was done last.
    pub last_ns: i64,
    /// How often.
    pub count: u64,
}

/// What a guest does to a device on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestAct {
    /// CC.EN went from 0 to 1 (NVMe 3.1.3.5).
    Enable,
    /// Delete I/O Submission Queue (NVMe 5.2.4).
    DeleteSubmissionQueue,
    /// Delete I/O Completion Queue (NVMe 5.2.3).
    DeleteCompletionQueue,
    /// CC.SHN was set to 01b, a normal shutdown.
    ShutdownNormal,
    /// CC.SHN was set to 10b, an abrupt shutdown.
    ShutdownAbrupt,
    /// A read of CSTS while the shutdown was occurring, and the first that saw it complete.
    Poll,
    /// CC.EN went from 1 to 0.
    Disable,
    /// Bus mastering was switched off in the command register (PCI 6.2.2).
    BusMasterOff,
    /// A function level reset (PCIe 6.6.2).
    FunctionReset,
    /// Secondary Bus Reset was set in a bridge's control register (PCIe 7.5.1.3.13).
    SecondaryBusReset,
}

/// An NVMe shutdown handshake (NVMe 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownHandshake {
    /// CC.SHN was written.
    pub requested_ns: i64,
    /// CSTS.SHST came to 10b; none if the guest reset before.
    pub completed_ns: Option<i64>,
    /// The guest's first read of CSTS that saw it; none if it did not look again.
    pub seen_ns: Option<i64>,
    /// Reads of CSTS from the request to that one.
    pub polls: u64,
}
