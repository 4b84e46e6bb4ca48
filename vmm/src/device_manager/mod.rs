//! The device manager: builds the hierarchy, finds devices in it, and shuts it down.

pub mod behaviour;
pub mod build;
pub mod drive;
mod legacy;
pub mod list;
pub mod passthrough;
pub mod resets;
pub mod teardown;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::config::{DeviceConfig, TeardownPolicy, VmConfig};
use api::report::DeviceReport;
use api::state::{DmaInfo, LegacyNode, Topology, TopologyNode};
use devices::guest_acts::GuestActs;
use devices::legacy::AcpiPm;
use devices::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};
use devices::pci::{Address, Bus, FirmwareError, Node, RootComplex, number_buses};
use nvme::Engine;

use crate::interrupts::InterruptRouting;
use crate::serial_input::SerialInput;
use behaviour::Tunable;
use legacy::Legacy;
use passthrough::Passthrough;
use resets::Resets;
use teardown::{Graph, Observer, Target, Teardown};
pub use verdict::{LeftOut, Noted, Stuck, Until, Verdict};

/// All devices of a machine. The tree is in the root complex; the list gives every device its number and
/// what a teardown has to know of it.
pub struct DeviceManager {
    list: Graph,
    targets: Arc<Targets>,
    root_complex: Arc<RootComplex>,
    acpi_pm: Arc<AcpiPm>,
    serial_input: Option<SerialInput>,
    routing: Arc<InterruptRouting>,
    /// The devices whose behaviour can be changed, by name.
    tunables: HashMap<String, Tunable>,
    passthrough: Passthrough,
    /// Ends its threads when the last controller is gone.
    _engine: Arc<Engine>,
}

/// What devices are made with, and found by.
struct Parts {
    routing: Arc<InterruptRouting>,
    engine: Arc<Engine>,
    tunables: HashMap<String, Tunable>,
    passthrough: Passthrough,
}

/// A little before `by`: a device whose call waits until its deadline says itself what it has waited for.
fn early(by: Deadline) -> Deadline {
    const MOST: Duration = Duration::from_millis(20);
    let margin = (by.remaining() / 50).min(MOST);
    let before = by.instant().checked_sub(margin);
    Deadline::at(before.unwrap_or(by.instant()))
}

/// The devices by their numbers in the list.
struct Targets(Vec<Listed>);

struct Listed {
    device: Arc<dyn Device>,
    /// Not called again: the call that was given up may still hold a thread.
    given_up: AtomicBool,
    /// A call of it is under way.
    called: AtomicBool,
    /// It may be called again after all once the call that was given up has returned: what is behind it may have
    /// come back.
    may_return: bool,
}

impl Listed {
    fn new(device: Arc<dyn Device>, may_return: bool) -> Self {
        Self {
            device,
            given_up: AtomicBool::new(false),
            called: AtomicBool::new(false),
            may_return,
        }
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn shut_down(&self, by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        if (self.is_given_up() && !self.may_return) || self.called.swap(true, Ordering::AcqRel) {
            return Err(ShutdownError::GivenUp);
        }
        self.given_up.store(false, Ordering::Release);
        let by = if self.may_return { early(by) } else { by };
        let ended = self.device.shut_down(by, phases);
        self.called.store(false, Ordering::Release);
        ended
    }
}

impl Targets {
    /// What the guest has done to the devices, by number. Nothing to one that was given up: the guest does
    /// not see it any more, and what it had noted is of an earlier boot because its teardown never ended.
    fn guest_acts(&self) -> Vec<GuestActs> {
        let acts = |listed: &Listed| match listed.is_given_up() {
            true => GuestActs::default(),
            false => listed.device.guest_acts(),
        };
        self.0.iter().map(acts).collect()
    }
}

impl Target for Targets {
    fn shut_down(
        &self,
        device: usize,
        by: Deadline,
        phases: &mut Phases,
    ) -> Result<Finish, ShutdownError> {
        match self.0.get(device) {
            Some(listed) => listed.shut_down(by, phases),
            None => Ok(Finish::Now),
        }
    }
}

impl DeviceManager {
    fn new(
        list: Graph,
        devices: Vec<Arc<dyn Device>>,
        root_complex: Arc<RootComplex>,
        legacy: Legacy,
        parts: Parts,
    ) -> Self {
        let targets = devices.into_iter().zip(list.nodes());
        let targets =
            targets.map(|(device, node)| Listed::new(device, parts.passthrough.has(&node.id)));
        let targets: Vec<_> = targets.collect();
        Self {
            list,
            targets: Arc::new(Targets(targets)),
            root_complex,
            acpi_pm: legacy.acpi_pm,
            serial_input: legacy.serial_input,
            routing: parts.routing,
            tunables: parts.tunables,
            passthrough: parts.passthrough,
            _engine: parts.engine,
        }
    }

    /// Has vCPUs that wait for a passed-through device in an access return at once; see [`Function::cancel_waits`].
    ///
    /// [`Function::cancel_waits`]: ::passthrough::Function::cancel_waits
    pub fn cancel_waits(&self) {
        self.passthrough.cancel_waits();
    }

    /// The names of the devices, by number.
    pub fn ids(&self) -> Vec<String> {
        self.list
            .nodes()
            .iter()
            .map(|node| node.id.clone())
            .collect()
    }

    /// What the guest has done to the devices in the present boot, by number. With all vCPUs paused, and
    /// before the teardown, which makes the devices forget it.
    pub fn guest_acts(&self) -> Vec<GuestActs> {
        self.targets.guest_acts()
    }

    /// The devices as a teardown has them.
    pub fn list(&self) -> &Graph {
        &self.list
    }

    /// A teardown of all devices, ready to run: policy, flags and links are frozen here.
    pub fn teardown(
        &self,
        policy: TeardownPolicy,
        workers: u16,
        observer: Arc<dyn Observer>,
    ) -> Teardown {
        let mut list = self.list.clone();
        for (id, address) in self.root_complex.addresses() {
            if let Some(number) = list.find(id) {
                list.set_address(number, Some(in_segment(address)));
            }
        }
        Teardown::new(
            Arc::new(list),
            policy,
            workers,
            self.targets.clone(),
            observer,
        )
    }

    /// Has the device of `config` behave as it says, from now on.
    pub fn behave(&self, config: &DeviceConfig) {
        let Some(device) = self.tunables.get(config.id()) else {
            return;
        };
        if device.behave(config) {
            // Those of a drive that was removed are gone; one that is back has none yet.
            self.root_complex.place();
        }
    }

    /// Does what firmware does before a kernel starts: BARs taken out of the address space, interrupt
    /// routes of the boot before forgotten, buses numbered.
    pub fn start_hierarchy(&self) -> Result<(), FirmwareError> {
        if let Err(error) = self.routing.settle() {
            tracing::warn!(%error, "taking old messages out of the interrupt routing");
        }
        self.root_complex.reset();
        number_buses(&self.root_complex).map(|_| ())
    }

    /// What is reset with a device that is passed through; none where it is reset by itself.
    pub fn reset_set(&self, id: &str) -> Option<String> {
        self.passthrough.reset_set(id)
    }

    /// How the devices of `config` that are passed through are reset.
    pub fn resets(&self, config: &VmConfig) -> Resets {
        self.passthrough.resets(config)
    }

    /// Has devices fail that ended well in a teardown and were not reset, since that of their set did not end well.
    /// Once a teardown.
    pub fn fail_without_reset(&self, devices: &mut [DeviceReport]) {
        let unfinished = self.passthrough.unfinished_resets();
        self.passthrough.fail_members(&unfinished, devices);
    }

    /// What of guest memory the IOMMU has.
    pub fn dma(&self) -> Option<DmaInfo> {
        self.passthrough.dma()
    }

    /// Presses the power button.
    pub fn press_power_button(&self) {
        self.acpi_pm.press_power_button();
    }

    /// The serial port's input, once.
    pub fn take_serial_input(&mut self) -> Option<SerialInput> {
        self.serial_input.take()
    }

    /// The devices as they stand.
    pub fn topology(&self) -> Topology {
        let legacy = self
            .list
            .nodes()
            .iter()
            .filter(|listed| self.root_complex.bus().find(&listed.id).is_none());
        let addresses = self.root_complex.addresses();
        Topology {
            pci: self.branch(self.root_complex.bus(), &addresses),
            legacy: legacy
                .map(|listed| LegacyNode {
                    id: listed.id.clone(),
                    class: listed.class.clone(),
                    asynchronous: listed.asynchronous,
                })
                .collect(),
        }
    }

    fn branch(&self, bus: &Bus, addresses: &HashMap<&str, Address>) -> Vec<TopologyNode> {
        bus.nodes()
            .iter()
            .filter_map(|node| self.topology_node(node, addresses))
            .collect()
    }

    fn topology_node(
        &self,
        node: &Node,
        addresses: &HashMap<&str, Address>,
    ) -> Option<TopologyNode> {
        let number = self.list.find(node.id())?;
        let listed = self.list.node(number);
        let names = |numbers: &[usize]| {
            numbers
                .iter()
                .map(|&number| self.list.node(number).id.clone())
                .collect()
        };
        Some(TopologyNode {
            id: listed.id.clone(),
            class: listed.class.clone(),
            address: addresses.get(node.id()).copied().map(in_segment),
            asynchronous: listed.asynchronous,
            deadline_ms: listed.deadline.as_millis() as u64,
            on_timeout: listed.on_timeout,
            suppliers: names(self.list.suppliers(number)),
            consumers: names(self.list.consumers(number)),
            quarantined: node.is_quarantined(),
            passthrough: self.passthrough.node(node.id()),
            children: node
                .behind()
                .map(|behind| self.branch(&behind.bus, addresses))
                .unwrap_or_default(),
        })
    }
}

/// The address with its segment: there is one.
fn in_segment(address: Address) -> String {
    format!("0000:{address}")
}

impl Drop for DeviceManager {
    fn drop(&mut self) {
        self.passthrough.release();
        for (listed, node) in self.targets.0.iter().zip(self.list.nodes()).rev() {
            if !self.passthrough.has(&node.id) {
                listed.device.release();
            }
        }
    }
}

#[cfg(test)]
mod tests;
