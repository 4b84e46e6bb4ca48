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
    /// a handshake that ended, and where those that did took no time.
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

impl GuestDevice {
    /// When the guest was done with the handshake, in nanoseconds from the reset request and not before
    /// CC.SHN was written; none without a handshake. That is when CSTS.SHST came to 10b. Of a handshake that
    /// never came to it, it is the last read of CSTS, where the guest gave up waiting; without a read, the
    /// write of CC.SHN: a guest that does not look does not wait.
    pub fn handshake_end_ns(&self) -> Option<i64> {
        let handshake = self.handshake?;
        let polls = self.events.iter().find(|event| event.act == GuestAct::Poll);
        let end = handshake
            .completed_ns
            .or_else(|| polls.map(|polls| polls.last_ns));
        let requested = handshake.requested_ns;
        Some(end.map_or(requested, |end| end.max(requested)))
    }
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
    /// CC.EN went from 0 to 1 (NVMe base 2.0, section 3.1.3.5).
    Enable,
    /// Delete I/O Submission Queue (NVMe base 2.0, section 5.7).
    DeleteSubmissionQueue,
    /// Delete I/O Completion Queue (NVMe base 2.0, section 5.6).
    DeleteCompletionQueue,
    /// CC.SHN was set to 01b, a normal shutdown.
    ShutdownNormal,
    /// CC.SHN was set to 10b, an abrupt shutdown.
    ShutdownAbrupt,
    /// A read of CSTS while the shutdown was occurring, and the first that saw it complete.
    Poll,
    /// CC.EN went from 1 to 0.
    Disable,
    /// Bus mastering was switched off in the command register (PCI 3.0, section 6.2.2).
    BusMasterOff,
    /// A function level reset (PCIe base 6.0, section 6.6.2).
    FunctionReset,
    /// Secondary Bus Reset was set in a bridge's control register (PCIe base 6.0, section 7.5.1.3.13).
    SecondaryBusReset,
    /// The NVM subsystem was reset by its register NSSR (NVMe base 2.0, section 3.7.1).
    SubsystemReset,
}

/// An NVMe shutdown handshake (NVMe base 2.0, section 3.6.1).
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
    /// Whether it was asked to be abrupt (SHN = 10b).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abrupt: bool,
    /// What the drive was made to take, by its `shutdown`; its flush may take longer.
    #[serde(default)]
    pub modelled_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(completed_ns: Option<i64>, last_poll: Option<i64>) -> GuestDevice {
        let poll = |last_ns| GuestEvent {
            act: GuestAct::Poll,
            first_ns: -90,
            last_ns,
            count: 2,
        };
        GuestDevice {
            id: "nvme0".to_owned(),
            class: "nvme".to_owned(),
            address: None,
            events: last_poll.map(poll).into_iter().collect(),
            handshake: Some(ShutdownHandshake {
                requested_ns: -100,
                completed_ns,
                seen_ns: None,
                polls: 2,
                abrupt: false,
                modelled_ns: 0,
            }),
        }
    }

    #[test]
    fn a_handshake_ends_when_it_completed_else_with_the_last_look_else_where_it_began() {
        let end = |device: GuestDevice| device.handshake_end_ns();
        assert_eq!(end(device(Some(-60), Some(-50))), Some(-60));
        assert_eq!(end(device(None, Some(-50))), Some(-50));
        assert_eq!(end(device(None, None)), Some(-100));
        let mut none = device(None, Some(-50));
        none.handshake = None;
        assert_eq!(end(none), None);
    }

    #[test]
    fn a_handshake_does_not_end_before_it_began() {
        // A look at an earlier handshake.
        assert_eq!(device(None, Some(-400)).handshake_end_ns(), Some(-100));
        assert_eq!(device(Some(-101), None).handshake_end_ns(), Some(-100));
    }
}
