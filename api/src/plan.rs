//! What a teardown would take, before it is run: the body of `vm.plan`. Times are nanoseconds of a virtual
//! clock, counted from the begin of the teardown unless their name says otherwise.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::TeardownPolicy;

/// The answer of `vm.plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plans {
    /// The policy that is set; the plans cover every policy.
    pub policy: TeardownPolicy,
    /// The VMM's teardown. A device takes its `teardown.latency`; one that varies its mean or median, as
    /// `assumptions` tells.
    pub host: PlanReport,
    /// The guest kernel's own shutdown, had it the policy's rules: the same tree, links, list and flags, but
    /// a drive takes its `shutdown.latency`, and nothing is given up. None if no drive has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<PlanReport>,
}

/// What one hierarchy of devices takes under each policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanReport {
    /// How many devices there are.
    pub devices: u64,
    /// The most worker threads that blocking work may use at once.
    pub workers: u16,
    /// What all devices take one after the other.
    pub serial_sum_ns: u64,
    /// No order that keeps the tree and the links is faster: the longest chain of devices, each after its
    /// children and consumers, or all blocking work spread over the workers and the calling thread,
    /// whichever is longer. `cookie` can get below it where it lets a parent go before its child.
    pub lower_bound_ns: u64,
    /// A plan for each policy.
    pub policies: Vec<PolicyPlan>,
    /// What was assumed of devices whose latencies vary, and of faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
    /// What is odd about the devices under every policy.
    pub warnings: Vec<String>,
}

/// What one policy makes of the devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyPlan {
    /// The policy.
    pub policy: TeardownPolicy,
    /// When the last device ends.
    pub total_ns: u64,
    /// The same with as many workers as there are devices.
    pub critical_path_ns: u64,
    /// The devices that the end hangs on, first to last, each held up by the one before it.
    pub critical: Vec<String>,
    /// The most workers used at once.
    pub workers_used: u64,
    /// The devices in the order in which they start.
    pub order: Vec<PlannedDevice>,
    /// The single changes that save most, best first; at most ten, none that saves nothing. With more than
    /// 256 devices only changes to those that the end hangs on are tried, the costliest first.
    pub savings: Vec<Saving>,
    /// What is ordered otherwise than the tree and the links ask for, and what waits for a worker.
    pub warnings: Vec<String>,
}

/// One device's part in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedDevice {
    /// The device's name.
    pub id: String,
    /// The device that it is behind.
    pub parent: Option<String>,
    /// Whether this policy shuts it down asynchronously.
    #[serde(rename = "async")]
    pub asynchronous: bool,
    /// The number of its task, from 1, under `cookie`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// When nothing that it waits for is left.
    pub ready_ns: u64,
    /// When it starts; later than `ready_ns` if it waits for a worker.
    pub start_ns: u64,
    /// When it ends.
    pub end_ns: u64,
    /// The device that it waits for longest.
    pub held_up_by: Option<String>,
    /// Whether the end of the teardown hangs on it.
    pub critical: bool,
    /// Whether it is given up at its deadline.
    pub timed_out: bool,
}

/// A change to the machine and what it saves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saving {
    /// What is changed.
    pub change: Change,
    /// When the last device then ends.
    pub total_ns: u64,
    /// How much earlier that is.
    pub saved_ns: u64,
}

/// One change to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A synchronous device becomes asynchronous.
    MakeAsync {
        /// The device.
        device: String,
    },
    /// A link goes, and with it the move in the list that it made.
    RemoveLink {
        /// The link's consumer.
        consumer: String,
        /// The link's supplier.
        supplier: String,
    },
    /// A device takes half as long.
    HalveLatency {
        /// The device.
        device: String,
        /// What it takes now.
        from_ns: u64,
        /// What it takes then.
        to_ns: u64,
    },
    /// Blocking work may use more workers at once.
    AddWorkers {
        /// How many it may use now.
        from: u16,
        /// How many then.
        to: u16,
    },
}
