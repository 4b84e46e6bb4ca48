//! What a teardown was measured to take. Times are nanoseconds on the host's monotonic clock, counted
//! from the guest's reset request (`at_ns` of the report) unless their name says otherwise.

mod guest;

pub use guest::{GuestAct, GuestDevice, GuestEvent, GuestOrder, GuestReport, ShutdownHandshake};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::TeardownPolicy;

/// Why a teardown was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Command 0xFE to the keyboard controller (port 0x64).
    I8042,
    /// Port 0xCF9.
    PciReset,
    /// The ACPI reset register.
    AcpiReset,
    /// A triple fault.
    TripleFault,
    /// `vm.reboot`.
    Api,
    /// The guest entered S5.
    PowerOff,
    /// `vm.shutdown`, `vm.delete` or `vmm.shutdown`.
    Shutdown,
    /// A vCPU could not go on.
    Crash,
    /// `vm.boot`, of a machine whose passed-through devices were gone when they were last shut down: those that are
    /// back are the guest's again.
    Boot,
}

/// How one device's teardown ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// The device is quiesced and reset.
    Done,
    /// The device said that it could not be shut down.
    Failed {
        /// What it said.
        error: String,
    },
    /// The device had not ended at its deadline and was given up (`on_timeout`).
    TimedOut,
    /// The device was removed from the machine before its turn came; it was not called.
    Removed,
}

/// A stretch of a device's teardown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseReport {
    /// What was done.
    pub name: String,
    /// Its begin.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
}

/// One device's part in a teardown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceReport {
    /// The device's name.
    pub id: String,
    /// Segment, bus, device, function as the guest numbered them before the teardown; none for a legacy device.
    pub address: Option<String>,
    /// What it is: `nvme`, `root-port`, `serial`, …
    pub class: String,
    /// The device before it in the tree.
    pub parent: Option<String>,
    /// The devices it is a consumer of (links that order).
    pub suppliers: Vec<String>,
    /// Whether it was shut down asynchronously.
    #[serde(rename = "async")]
    pub asynchronous: bool,
    /// Its place in the list of devices, 0 the head. The backward walk of the list is the synchronous order.
    pub position: u64,
    /// Whether it was shut down with its parent locked: one at a time with others of the same parent.
    #[serde(default)]
    pub parent_lock: bool,
    /// Under `cookie`, the number of the task it was shut down by, from 1. Synchronous devices share one.
    #[serde(default)]
    pub cookie: Option<u64>,
    /// Under `cookie`, the task up to which every older task had to end first; none if it waited for none.
    #[serde(default)]
    pub waited_for_cookie: Option<u64>,
    /// When it could start: the last device it had to wait for had ended, and its parent's lock was free.
    pub ready_ns: u64,
    /// When its teardown began.
    pub start_ns: u64,
    /// When its teardown ended.
    pub end_ns: u64,
    /// What it was doing.
    pub phases: Vec<PhaseReport>,
    /// What it was made to take this time, by its `teardown.latency`; none without one. Real work and a
    /// deadline may have it take longer or shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modelled_ns: Option<u64>,
    /// The devices that it had to wait for. Under `cookie` without those that `waited_for_cookie` covers.
    pub waited_on: Vec<String>,
    /// The device whose end it waited for longest.
    pub held_up_by: Option<String>,
    /// Whether it lies on the critical path.
    pub critical: bool,
    /// What it was reset with, such as `slot 0000:03:00`; none for a device that is reset by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_set: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// One teardown of the whole machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeardownReport {
    /// Number of the teardown, from 1, over the life of the process.
    pub number: u64,
    /// Number of the boot that it ended, from 1.
    pub boot: u64,
    /// Why.
    pub cause: Cause,
    /// The policy it ran under.
    pub policy: TeardownPolicy,
    /// The bound on worker threads.
    pub workers: u16,
    /// The most worker threads that were used at once.
    pub workers_used: u16,
    /// The guest's reset request, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// From the request until all vCPUs stood still.
    pub vcpu_pause_ns: u64,
    /// From the first device's start to the last device's end.
    pub teardown_ns: u64,
    /// When the teardown began.
    pub teardown_start_ns: u64,
    /// Everything else until the vCPUs ran again; none if they did not.
    pub reset_rest_ns: Option<u64>,
    /// From the request until the vCPUs ran again; none if they did not.
    pub reset_ns: Option<u64>,
    /// From the request until the guest's first boot marker; none until it is seen.
    pub reset_to_ready_ns: Option<u64>,
    /// The sum of all devices' times.
    pub serial_sum_ns: u64,
    /// The longest chain of devices that had to wait for each other under this policy's rules with
    /// unlimited workers. Under `serial`, what `completion` would have needed.
    pub critical_path_ns: u64,
    /// Critical path ÷ teardown.
    pub efficiency: f64,
    /// The devices, in the order in which they ended.
    pub devices: Vec<DeviceReport>,
    /// What was done otherwise than asked for.
    pub warnings: Vec<String>,
    /// What the guest did to its devices before it asked for the reset.
    #[serde(default)]
    pub guest: GuestReport,
}

/// A teardown in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TeardownSummary {
    /// Number of the teardown.
    pub number: u64,
    /// Number of the boot that it ended.
    pub boot: u64,
    /// Why.
    pub cause: Cause,
    /// The policy it ran under.
    pub policy: TeardownPolicy,
    /// From the first device's start to the last device's end.
    pub teardown_ns: u64,
    /// From the request until the vCPUs ran again.
    pub reset_ns: Option<u64>,
    /// From the request until the guest's first boot marker.
    pub reset_to_ready_ns: Option<u64>,
    /// Devices that failed or were given up.
    pub failed: u64,
    /// How the guest's own shutdown handshakes lay to each other.
    #[serde(default)]
    pub guest_order: GuestOrder,
    /// From the guest's first CC.SHN to the last CSTS.SHST = 10b.
    #[serde(default)]
    pub guest_span_ns: u64,
}
