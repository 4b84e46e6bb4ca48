//! From configuration to devices: one match over the device types, one walk over the tree.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::config::{
    Bridge as BridgeConfig, BridgePort, ConfigError, DeviceConfig, Latency, NvmeConfig, SerialMode,
    VmConfig, assign_slots,
};
use api::error::{ApiError, ErrorCode};
use devices::interrupt::IntxLine;
use devices::legacy::{Ports, ResetControl};
use devices::lifecycle::Device;
use devices::memory::GuestMemory;
use devices::pci::{
    Attachment, Bridge, BridgeKind, Bus, ConfigPorts, DevFn, IntxPin, Node, RootComplex,
    TopologyError, intx_gsi, root_pin,
};
use kvm_ioctls::VmFd;
use nvme::{
    BackendError, Connections, Controller, ControllerConfig, ControllerError, Engine, FileBackend,
    NamespaceConfig, ShutdownModel,
};
use vm_device::bus::{MmioAddress, MmioRange};
use vm_device::device_manager::{IoManager, MmioManager};

use super::DeviceManager;
use super::legacy::{Legacy, register};
use super::list::{ListError, Listing};
use super::teardown::Graph;
use crate::address_space::AddressSpace;
use crate::interrupts::InterruptRouting;
use crate::mailbox::Mailbox;
use crate::memory::{ECAM, MMIO32};

/// What devices are built on.
pub struct Host {
    /// The virtual machine.
    pub vm: Arc<VmFd>,
    /// Its memory.
    pub memory: GuestMemory,
    /// Its interrupt routing.
    pub routing: Arc<InterruptRouting>,
    /// Where guest events go.
    pub events: Arc<Mailbox>,
    /// The 64-bit window of the PCI host bridge: base and size.
    pub mmio64: (u64, u64),
}

/// Why the devices could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A place on a bus is wrong; validation should have seen it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hierarchy does not fit together; validation should have seen it.
    #[error("building the PCI hierarchy: {0}")]
    Topology(#[from] TopologyError),
    /// The devices cannot be listed; validation should have seen it.
    #[error(transparent)]
    List(#[from] ListError),
    /// A device is in the list and was not made: the two walks over the configuration differ.
    #[error("the device `{0}` is listed and was not built")]
    NotMade(String),
    /// A namespace's file cannot be used.
    #[error("device `{id}`, namespace {number}: {source}")]
    Backend {
        /// The device.
        id: String,
        /// The namespace, from 1.
        number: usize,
        /// Where its file is configured.
        field: String,
        /// Why.
        source: BackendError,
    },
    /// A controller could not be made.
    #[error("device `{id}`: {source}")]
    Controller {
        /// The device.
        id: String,
        /// Why.
        source: ControllerError,
    },
    /// The threads of the NVMe controllers could not be started.
    #[error("starting the I/O threads: {0}")]
    Engine(io::Error),
    /// The serial port's other end cannot be used.
    #[error("the serial port (mode {mode:?}{}): {source}", path.as_ref().map(|path| format!(", {}", path.display())).unwrap_or_default())]
    Serial {
        /// Its mode.
        mode: SerialMode,
        /// The file or socket.
        path: Option<PathBuf>,
        /// The host's error.
        source: io::Error,
    },
    /// Two devices claim a port.
    #[error("registering the ports from {first:#x}: {reason}")]
    Ports {
        /// The first port.
        first: u16,
        /// Why.
        reason: String,
    },
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Config(error) => error.into(),
            BuildError::List(error) => error.into(),
            BuildError::Backend {
                ref id,
                ref field,
                ref source,
                ..
            } => {
                let code = match source {
                    BackendError::Locked { .. } => ErrorCode::FileLocked,
                    BackendError::Missing { .. } => ErrorCode::FileMissing,
                    _ => ErrorCode::BadFile,
                };
                ApiError::from_error(code, &error)
                    .with_device(id)
                    .with_field(field)
            }
            BuildError::Controller { ref id, .. } => {
                ApiError::from_error(ErrorCode::Internal, &error).with_device(id)
            }
            BuildError::Serial { ref source, .. } => {
                let code = match source.kind() {
                    io::ErrorKind::NotFound => ErrorCode::FileMissing,
                    io::ErrorKind::AddrInUse => ErrorCode::FileLocked,
                    _ => ErrorCode::BadFile,
                };
                ApiError::from_error(code, &error).with_field("serial")
            }
            error => ApiError::from_error(ErrorCode::Internal, &error),
        }
    }
}

impl DeviceManager {
    /// Builds every device of `config` and says where the guest reaches them.
    pub fn build(config: &VmConfig, host: &Host) -> Result<(Self, AddressSpace), BuildError> {
        let mut ports = IoManager::new();
        let legacy = Legacy::build(config, host, &mut ports)?;
        let builder = Builder {
            host,
            engine: Engine::new(None).map_err(BuildError::Engine)?,
            config,
        };
        let bus = Bus::root(builder.bus(None, &[], &config.pci)?)?;
        let windows = [MMIO32, host.mmio64].map(|(base, size)| window(base, size));
        let root_complex = Arc::new(RootComplex::new(Arc::new(bus), windows.to_vec()));
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
            host.routing.clone(),
            builder.engine,
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
    engine: Arc<Engine>,
    config: &'a VmConfig,
}

impl Builder<'_> {
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
                DeviceConfig::Nvme(nvme) => {
                    let controller = self.nvme(nvme, above, &path)?;
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
        let bridge = Bridge::new(kind, number).with_reset_latency(fixed(&config.teardown.latency));
        Ok(Node::bridge(
            config.options.id.clone(),
            devfn,
            Arc::new(bridge),
            behind,
        )?)
    }

    /// The line that INTA of the function at `path` arrives at.
    fn intx(&self, path: &[DevFn]) -> Arc<dyn IntxLine> {
        let (device, pin) = root_pin(path, IntxPin::A);
        self.host.routing.line(intx_gsi(device, pin))
    }

    fn nvme(
        &self,
        config: &NvmeConfig,
        above: Option<BridgePort>,
        path: &[DevFn],
    ) -> Result<Arc<Controller>, BuildError> {
        let id = &config.options.id;
        let place = self.config.place_of(id).unwrap_or_default();
        let mut namespaces = Vec::with_capacity(config.namespaces.len());
        for (index, namespace) in config.namespaces.iter().enumerate() {
            let backend =
                FileBackend::open(&namespace.path, namespace.readonly).map_err(|source| {
                    BuildError::Backend {
                        id: id.clone(),
                        number: index + 1,
                        field: format!("{place}.namespaces[{index}].path"),
                        source,
                    }
                })?;
            namespaces.push(NamespaceConfig {
                backend: Arc::new(backend),
                block_size: namespace.block_size.unwrap_or(512),
                eui64: namespace.eui64.map(|id| id.0),
                nguid: namespace.nguid.map(|id| id.0),
                uuid: namespace.uuid.map(|id| id.0),
            });
        }
        let latency = fixed(&config.shutdown.latency);
        let controller = ControllerConfig {
            id: id.clone(),
            serial: config.serial.clone().unwrap_or_else(|| serial_of(id)),
            model: text(&config.model, "Sundown NVMe"),
            firmware: text(&config.firmware, env!("CARGO_PKG_VERSION")),
            namespaces,
            write_cache: config.volatile_write_cache.unwrap_or(true),
            shutdown: ShutdownModel {
                latency,
                abrupt_latency: config
                    .shutdown
                    .abrupt_latency
                    .as_ref()
                    .map_or(latency, fixed),
            },
            teardown_latency: fixed(&config.teardown.latency),
            queue_limit: u16::from(self.config.cpus.boot_vcpus),
            attachment: match above {
                None => Attachment::RootComplex,
                Some(BridgePort::Pci) => Attachment::Conventional,
                Some(_) => Attachment::Express,
            },
        };
        let connections = Connections {
            engine: self.engine.clone(),
            memory: self.host.memory.clone(),
            router: self.host.routing.clone(),
            intx: Some((IntxPin::A, self.intx(path))),
        };
        Controller::new(controller, connections).map_err(|source| BuildError::Controller {
            id: id.clone(),
            source,
        })
    }
}

/// The serial number of a drive that was given none: its id, or, where that is longer than the 20
/// characters there are, its beginning and a checksum.
fn serial_of(id: &str) -> String {
    const LONGEST: usize = 20;
    if id.len() <= LONGEST {
        return id.to_owned();
    }
    let hash = id.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{}-{hash:08x}", &id[..LONGEST - 9])
}

fn text(given: &Option<String>, otherwise: &str) -> String {
    given.clone().unwrap_or_else(|| otherwise.to_owned())
}

fn fixed(latency: &Latency) -> Duration {
    match latency {
        Latency::Fixed { ms } => Duration::from_millis(*ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_fits_and_long_ids_stay_distinct() {
        assert_eq!(serial_of("drive0"), "drive0");
        let long = |end: &str| serial_of(&format!("a-drive-with-a-rather-long-name-{end}"));
        assert_eq!(long("1").len(), 20);
        assert_ne!(long("1"), long("2"));
    }
}
