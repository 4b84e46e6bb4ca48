//! What the VMM tells of itself and its machine: the bodies of `vmm.ping`, `vm.info`, `vm.topology` and
//! `vm.teardown-policy`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::{OnTimeout, TeardownPolicy, VmConfig};
use crate::error::{ApiError, ErrorCode};

/// The answer of `vmm.ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmmPing {
    /// The version with what it was built from.
    pub build_version: String,
    /// The version.
    pub version: String,
    /// The process.
    pub pid: i64,
    /// What it was built with.
    pub features: Vec<String>,
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum VmState {
    /// It has not been booted yet.
    Created,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs stand still, by `vm.pause`.
    Paused,
    /// Its devices are shut down; it can be booted again.
    Shutdown,
    /// A teardown or a reset is under way.
    Rebooting,
}

/// The answer of `vm.info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VmInfo {
    /// What the machine was created with.
    pub config: VmConfig,
    /// What it is doing.
    pub state: VmState,
    /// Guest memory, in bytes.
    pub memory_actual_size: u64,
    /// Number of the boot, from 1; 0 before the first.
    pub boot: u64,
    /// The latest boot markers that the guest wrote, oldest first.
    #[serde(default)]
    pub boot_markers: Vec<BootMarker>,
    /// What of guest memory the IOMMU has; none without a device of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma: Option<DmaInfo>,
}

/// Guest memory that devices of the host reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DmaInfo {
    /// Bytes that are pinned and mapped.
    pub bytes: u64,
    /// In how many ranges.
    pub ranges: u64,
    /// How long that took, in nanoseconds.
    pub took_ns: u64,
    /// Calls to the kernel that mapped something, since the machine was made. Memory is mapped once: a reboot adds
    /// none.
    pub maps: u64,
}

/// A write of the guest to the boot-marker port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootMarker {
    /// The byte it wrote.
    pub value: u8,
    /// The boot it was written in.
    pub boot: u64,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// From the reset request that led to this boot; none in a boot that no reset led to.
    pub since_reset_ns: Option<u64>,
}

/// The answer of `vm.topology`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Topology {
    /// The devices on the root bus, each with what is behind it.
    pub pci: Vec<TopologyNode>,
    /// The devices on no PCI bus.
    pub legacy: Vec<LegacyNode>,
}

/// A PCI function and what is behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopologyNode {
    /// The device's name.
    pub id: String,
    /// What it is: `nvme`, `vfio`, `vfio-user`, `root-port`, `upstream-port`, `downstream-port`, `pci-bridge`.
    pub class: String,
    /// Segment, bus, device, function, such as `0000:01:00.0`; none before the guest has numbered the bus.
    pub address: Option<String>,
    /// Whether it is shut down asynchronously.
    #[serde(rename = "async")]
    pub asynchronous: bool,
    /// How long its teardown may take, in milliseconds.
    pub deadline_ms: u64,
    /// What is done when it takes longer.
    pub on_timeout: OnTimeout,
    /// The devices it needs.
    pub suppliers: Vec<String>,
    /// The devices that need it.
    pub consumers: Vec<String>,
    /// Whether it was given up at its deadline, failed or is gone, and so is gone from the guest.
    pub quarantined: bool,
    /// What is behind a device that is passed through; none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<PassthroughNode>,
    /// The devices behind it.
    #[schema(no_recursion)]
    pub children: Vec<TopologyNode>,
}

/// What is behind a device that is passed through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassthroughNode {
    /// The device of the host by its address, or the server by its socket.
    pub host: String,
    /// Why it is gone; none if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
    /// What is reset with it, such as `slot 0000:03:00`; none for a device that is reset by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_set: Option<String>,
}

/// A device on no PCI bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LegacyNode {
    /// The device's name.
    pub id: String,
    /// What it is: `serial`, `i8042`, …
    pub class: String,
    /// Whether it is shut down asynchronously.
    #[serde(rename = "async")]
    pub asynchronous: bool,
}

/// The answer of `vm.teardown-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeardownPolicyInfo {
    /// The order in which devices are shut down.
    pub policy: TeardownPolicy,
    /// The most worker threads that blocking work may use at once.
    pub workers: u16,
}

/// The body of `vm.teardown-policy`: what is to change, at least one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyUpdate {
    /// The order in which devices are shut down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<TeardownPolicy>,
    /// The most worker threads that blocking work may use at once, 1 to 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
}

impl PolicyUpdate {
    /// Checks that the update changes something and is in range.
    pub fn validate(&self) -> Result<(), ApiError> {
        if self.policy.is_none() && self.workers.is_none() {
            return Err(ApiError::new(
                ErrorCode::MissingField,
                "changing the teardown policy: neither `policy` nor `workers` is given; give at least one of them",
            ));
        }
        match self.workers {
            Some(workers) if !(1..=1024).contains(&workers) => Err(ApiError::new(
                ErrorCode::OutOfRange,
                format!("changing the teardown policy: {workers} workers; 1 to 1024 are allowed"),
            )
            .with_field("workers")),
            _ => Ok(()),
        }
    }
}
