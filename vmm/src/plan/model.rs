//! What is planned for: devices, what each takes, how many workers there are.

use std::collections::HashMap;
use std::time::Duration;

use api::config::{DeviceConfig, Latency, TeardownPolicy, VmConfig};
use api::plan::PlanReport;

use super::{assumption, report};
use crate::device_manager::list::{ListError, Listing};
use crate::device_manager::resets::Resets;
use crate::device_manager::teardown::{Cost, GraphError, Node};

/// Devices with their costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The devices and their order.
    pub listing: Listing,
    /// What each takes, by number.
    pub costs: Vec<Cost>,
    /// The most calls that may block at once beside the calling thread's.
    pub workers: u16,
    /// What is assumed of latencies that vary, and of faults.
    pub assumptions: Vec<String>,
}

impl Model {
    /// The VMM's teardown of the machine of `config`. A latency that varies counts as its mean or median, and the
    /// reset of a device that is passed through as what is expected of it.
    pub fn host(config: &VmConfig) -> Result<Self, ListError> {
        let mut model = Self::of_config(config, |device| Some(&device.teardown()?.latency))?;
        let devices = || config.devices().map(|(_, device)| device);
        let expected: HashMap<&str, Duration> = devices()
            .filter_map(|device| Some((device.id(), device.expected_reset()?)))
            .collect();
        for (node, cost) in model.listing.nodes.iter().zip(&mut model.costs) {
            if let Some(&reset) = expected.get(node.id.as_str()) {
                // A call that blocks: it holds a worker.
                *cost = Cost::work(reset);
            }
        }
        model.assumptions.extend(assumption::of_resets(devices()));
        Ok(model)
    }

    /// The same with devices that are reset together: that takes what the slowest of them does, once, and falls to the
    /// one that comes last where all go one by one. The others are done at once.
    pub fn with_resets(mut self, resets: &Resets) -> Self {
        for set in &resets.sets {
            let is_member = |node: &Node| set.ids.contains(&node.id);
            let members = self.listing.nodes.iter().zip(&mut self.costs);
            let mut costs: Vec<_> = members
                .filter_map(|(node, cost)| is_member(node).then_some(cost))
                .collect();
            let whole = costs.iter().map(|cost| cost.work).max();
            for (place, cost) in costs.iter_mut().enumerate() {
                // The list is walked backward.
                let reset = whole.filter(|_| place == 0);
                **cost = Cost::work(reset.unwrap_or_default());
            }
            self.assumptions
                .push(format!("{set}; planned with one reset"));
        }
        self
    }

    /// The shutdown of its guest's kernel: a drive takes its normal handshake, anything else nothing, and
    /// there are no deadlines. None if no handshake is modelled.
    pub fn guest(config: &VmConfig) -> Result<Option<Self>, ListError> {
        let mut model = Self::of_config(config, |device| match device {
            DeviceConfig::Nvme(nvme) => Some(&nvme.shutdown.latency),
            DeviceConfig::RootPort(_)
            | DeviceConfig::UpstreamPort(_)
            | DeviceConfig::DownstreamPort(_)
            | DeviceConfig::PciBridge(_)
            | DeviceConfig::Vfio(_)
            | DeviceConfig::VfioUser(_) => None,
        })?;
        for node in &mut model.listing.nodes {
            node.deadline = Duration::MAX;
        }
        let nothing = model.costs.iter().all(|cost| *cost == Cost::default());
        Ok((!nothing).then_some(model))
    }

    fn of_config(
        config: &VmConfig,
        latency: impl Fn(&DeviceConfig) -> Option<&Latency>,
    ) -> Result<Self, ListError> {
        let listing = Listing::of_config(config)?;
        let modelled = || {
            let devices = config.devices();
            devices.filter_map(|(_, device)| Some((device, latency(device)?)))
        };
        let latencies: HashMap<&str, Duration> = modelled()
            .map(|(device, latency)| (device.id(), assumption::typical(latency)))
            .collect();
        let mut assumptions = assumption::of_latencies(modelled());
        assumptions.extend(assumption::of_faults(
            config.devices().map(|(_, device)| device),
        ));
        let costs = listing.nodes.iter().map(|node| {
            let latency = latencies.get(node.id.as_str()).copied();
            Cost::latency(latency.unwrap_or_default())
        });
        Ok(Self {
            costs: costs.collect(),
            listing,
            workers: config.workers(),
            assumptions,
        })
    }

    /// What it takes under every policy.
    ///
    /// # Errors
    /// The listing is no graph.
    pub fn report(&self) -> Result<PlanReport, GraphError> {
        report::report(self, &TeardownPolicy::ALL)
    }

    /// What it takes under some policies.
    ///
    /// # Errors
    /// The listing is no graph.
    pub fn report_on(&self, policies: &[TeardownPolicy]) -> Result<PlanReport, GraphError> {
        report::report(self, policies)
    }
}
