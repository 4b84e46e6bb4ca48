//! From configuration to devices: one match over the device types, one walk over the tree.

mod error;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::config::{
    Bridge as BridgeConfig, BridgePort, DeviceConfig, NvmeConfig, VmConfig, assign_slots,
};
use devices::interrupt::IntxLine;
use devices::latency::seed_of;
use devices::legacy::{Ports, ResetControl};
use devices::lifecycle::Device;
use devices::memory::GuestMemory;
use devices::pci::{
    Attachment, Bridge, BridgeKind, Bus, ConfigPorts, DevFn, IntxPin, Node, RootComplex, intx_gsi,
    root_pin,
};
use kvm_ioctls::VmFd;
use nvme::{Connections, Controller, Engine};
use passthrough::Function;
use vm_device::bus::{MmioAddress, MmioRange};
use vm_device::device_manager::{IoManager, MmioManager};

use super::behaviour::{Tunable, latency};
use super::drive;
use super::legacy::{Legacy, register};
use super::list::{ListError, Listing};
use super::passthrough::{Opened, Passthrough};
use super::teardown::Graph;
use super::{DeviceManager, Parts};
use crate::address_space::AddressSpace;
use crate::direct_map::DirectMap;
use crate::interrupts::InterruptRouting;
use crate::io_events::IoEventTable;
use crate::mailbox::Mailbox;
use crate::memory::{ECAM, GuestRam, MMIO32};

pub use error::BuildError;

/// What devices are built on.
pub struct Host {
    /// The virtual machine.
    pub vm: Arc<VmFd>,
    /// Its memory, as devices look it up.
    pub memory: GuestMemory,
    /// The same, as it is given to other processes and to the IOMMU.
    pub ram: GuestRam,
    /// Where devices' memory is mapped into the guest.
    pub mapper: Arc<DirectMap>,
    /// Its interrupt routing.
    pub routing: Arc<InterruptRouting>,
    /// Where guest events go.
    pub events: Arc<Mailbox>,
    /// The 64-bit window of the PCI host bridge: base and size.
    pub mmio64: (u64, u64),
}

impl DeviceManager {
    /// Builds every device of `config` and says where the guest reaches them.
    pub fn build(config: &VmConfig, host: &Host) -> Result<(Self, AddressSpace), BuildError> {
        let (passthrough, opened) = Passthrough::open(config, host)?;
        Self::build_with(config, host, passthrough, opened)
    }

    /// The same with the devices that are passed through open already.
    pub(super) fn build_with(
        config: &VmConfig,
        host: &Host,
        passthrough: Passthrough,
        opened: HashMap<String, Opened>,
    ) -> Result<(Self, AddressSpace), BuildError> {
        let mut ports = IoManager::new();
        let legacy = Legacy::build(config, host, &mut ports)?;
        let builder = Builder {
            host,
            io_events: Arc::new(IoEventTable::new(host.vm.clone())),
            engine: Engine::new(None).map_err(BuildError::Engine)?,
            config,
            tunables: RefCell::default(),
            passthrough: RefCell::new(passthrough),
            opened: RefCell::new(opened),
        };
        let bus = Bus::root(builder.bus(None, &[], &config.pci)?)?;
        let windows = [MMIO32, host.mmio64].map(|(base, size)| window(base, size));
        let root_complex = RootComplex::new(Arc::new(bus), windows.to_vec())
            .with_io_events(builder.io_events.clone());
        let root_complex = Arc::new(root_complex);
        register_pci(&mut ports, &root_complex, &legacy.reset_control)?;

        let list = Listing::of_config(config)?
            .graph()
            .map_err(ListError::from)?;
        let devices = by_number(&list, root_complex.bus(), &legacy)?;
        let space = AddressSpace::new(ports, root_complex.clone());
        let manager = Self::new(
            list,
            devices,
            root_complex,
            legacy,
            Parts {
                routing: host.routing.clone(),
                engine: builder.engine,
                tunables: builder.tunables.into_inner(),
                passthrough: builder.passthrough.into_inner(),
            },
        );
        Ok((manager, space))
    }
}

fn window(base: u64, size: u64) -> RangeInclusive<u64> {
    base..=base + size.saturating_sub(1)
}

fn register_pci(
    ports: &mut IoManager,
    root_complex: &Arc<RootComplex>,
    reset_control: &Arc<ResetControl>,
) -> Result<(), BuildError> {
    let config_ports = ConfigPorts::new(root_complex.clone(), reset_control.clone());
    register(
        ports,
        Ports {
            first: 0xCF8,
            count: 8,
        },
        Arc::new(config_ports),
    )?;
    MmioRange::new(MmioAddress(ECAM.0), ECAM.1)
        .and_then(|range| ports.register_mmio(range, root_complex.clone()))
        .map_err(|error| BuildError::Ports {
            first: 0,
            reason: format!("ECAM: {error}"),
        })
}

/// The devices by their numbers in the list.
fn by_number(list: &Graph, bus: &Bus, legacy: &Legacy) -> Result<Vec<Arc<dyn Device>>, BuildError> {
    let visits = bus.walk();
    let pci = visits
        .iter()
        .map(|visit| (visit.node.id(), visit.node.device()));
    let legacy = legacy.devices.iter().map(|(id, device)| (*id, device));
    let mut made: HashMap<&str, &Arc<dyn Device>> = pci.chain(legacy).collect();
    let devices = list.nodes().iter().map(|node| {
        let device = made.remove(node.id.as_str()).cloned();
        device.ok_or_else(|| BuildError::NotMade(node.id.clone()))
    });
    devices.collect()
}

struct Builder<'a> {
    host: &'a Host,
    io_events: Arc<IoEventTable>,
    engine: Arc<Engine>,
    config: &'a VmConfig,
    tunables: RefCell<HashMap<String, Tunable>>,
    passthrough: RefCell<Passthrough>,
    /// Devices that are passed through and have no function yet.
    opened: RefCell<HashMap<String, Opened>>,
}

impl Builder<'_> {
    fn tunable(&self, id: &str, device: Tunable) {
        self.tunables.borrow_mut().insert(id.to_owned(), device);
    }

    /// The functions of one bus, with what is behind them. `path` leads to the bridge above.
    fn bus(
        &self,
        above: Option<BridgePort>,
        path: &[DevFn],
        devices: &[DeviceConfig],
    ) -> Result<Vec<Node>, BuildError> {
        let slots = assign_slots(above, devices)?;
        let mut nodes = Vec::with_capacity(devices.len());
        for (device, slot) in devices.iter().zip(slots) {
            // In range, or `assign_slots` would have refused it.
            let devfn = DevFn::from(slot.device << 3 | slot.function);
            let path = [path, &[devfn]].concat();
            nodes.push(match device {
                DeviceConfig::RootPort(bridge) => {
                    self.bridge(BridgePort::Root, above, bridge, devfn, &path)?
                }
                DeviceConfig::UpstreamPort(bridge) => {
                    self.bridge(BridgePort::Upstream, above, bridge, devfn, &path)?
                }
                DeviceConfig::DownstreamPort(bridge) => {
                    self.bridge(BridgePort::Downstream, above, bridge, devfn, &path)?
                }
                DeviceConfig::PciBridge(bridge) => {
                    self.bridge(BridgePort::Pci, above, bridge, devfn, &path)?
                }
                DeviceConfig::Vfio(_) | DeviceConfig::VfioUser(_) => {
                    let function = self.passed_through(device, above, &path)?;
                    Node::endpoint(device.id().to_owned(), devfn, function)
                }
                DeviceConfig::Nvme(nvme) => {
                    let controller = self.nvme(nvme, above, &path)?;
                    self.tunable(&nvme.options.id, Tunable::Drive(controller.clone()));
                    Node::endpoint(nvme.options.id.clone(), devfn, controller)
                }
            });
        }
        Ok(nodes)
    }

    fn bridge(
        &self,
        port: BridgePort,
        above: Option<BridgePort>,
        config: &BridgeConfig,
        devfn: DevFn,
        path: &[DevFn],
    ) -> Result<Node, BuildError> {
        let kind = match port {
            BridgePort::Root => BridgeKind::RootPort,
            BridgePort::Upstream => BridgeKind::Upstream,
            BridgePort::Downstream => BridgeKind::Downstream,
            BridgePort::Pci if above == Some(BridgePort::Pci) => BridgeKind::ConventionalBridge,
            BridgePort::Pci => BridgeKind::PciBridge,
        };
        let behind = self.bus(Some(port), path, &config.children)?;
        let number = devfn.device() << 3 | devfn.function();
        let id = &config.options.id;
        let seed = config.options.seed.unwrap_or_else(|| seed_of(id));
        let latency = latency(&config.teardown.latency);
        let bridge = Arc::new(Bridge::new(kind, number).with_reset_latency(latency, seed));
        self.tunable(id, Tunable::Bridge(bridge.clone()));
        Ok(Node::bridge(id.clone(), devfn, bridge, behind)?)
    }

    /// The line that INTA of the function at `path` arrives at.
    fn intx(&self, path: &[DevFn]) -> Arc<dyn IntxLine> {
        let (device, pin) = root_pin(path, IntxPin::A);
        self.host.routing.line(intx_gsi(device, pin))
    }

    fn passed_through(
        &self,
        config: &DeviceConfig,
        above: Option<BridgePort>,
        path: &[DevFn],
    ) -> Result<Arc<Function>, BuildError> {
        let id = config.id();
        let opened = self.opened.borrow_mut().remove(id);
        let opened = opened.ok_or_else(|| BuildError::NotMade(id.to_owned()))?;
        let (device, pin) = root_pin(path, IntxPin::A);
        let line = self.host.routing.resampled_line(intx_gsi(device, pin));
        let mut passthrough = self.passthrough.borrow_mut();
        let place = (attachment(above), line);
        Ok(passthrough.function(config, opened, place, self.io_events.clone(), self.host)?)
    }

    fn nvme(
        &self,
        config: &NvmeConfig,
        above: Option<BridgePort>,
        path: &[DevFn],
    ) -> Result<Arc<Controller>, BuildError> {
        let place = self.config.place_of(&config.options.id).unwrap_or_default();
        let queues = u16::from(self.config.cpus.boot_vcpus);
        let connections = Connections {
            engine: self.engine.clone(),
            memory: self.host.memory.clone(),
            router: self.host.routing.clone(),
            intx: Some((IntxPin::A, self.intx(path))),
            io_events: Some(self.io_events.clone()),
        };
        Ok(drive::controller(
            config,
            &place,
            (queues, attachment(above)),
            connections,
        )?)
    }
}

/// What a function behind `above` is attached to.
fn attachment(above: Option<BridgePort>) -> Attachment {
    match above {
        None => Attachment::RootComplex,
        Some(BridgePort::Pci) => Attachment::Conventional,
        Some(_) => Attachment::Express,
    }
}
