//! Devices: one tree, and the links beside it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FaultsConfig, Identifier, ShutdownModel, TeardownModel, VfioConfig, VfioUserConfig};

/// A device on a PCI bus and what is behind it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "a machine has as many drives as bridges, and few of either"
)]
pub enum DeviceConfig {
    /// A PCI Express root port. On the root bus only.
    RootPort(Bridge),
    /// The upstream port of a switch. Behind a root port or a downstream port.
    UpstreamPort(Bridge),
    /// A downstream port of a switch. Behind an upstream port only.
    DownstreamPort(Bridge),
    /// A bridge from PCI Express to PCI. Behind a port, or behind another PCI bridge.
    PciBridge(Bridge),
    /// An emulated NVMe controller.
    Nvme(NvmeConfig),
    /// A device of the host, passed through.
    Vfio(VfioConfig),
    /// A device of a vfio-user server, passed through.
    VfioUser(VfioUserConfig),
}

impl DeviceConfig {
    /// What the device has as every device.
    pub fn options(&self) -> &DeviceOptions {
        match self {
            Self::RootPort(bridge)
            | Self::UpstreamPort(bridge)
            | Self::DownstreamPort(bridge)
            | Self::PciBridge(bridge) => &bridge.options,
            Self::Nvme(nvme) => &nvme.options,
            Self::Vfio(vfio) => &vfio.options,
            Self::VfioUser(vfio_user) => &vfio_user.options,
        }
    }

    /// The device's name.
    pub fn id(&self) -> &str {
        &self.options().id
    }

    /// The devices behind it.
    pub fn children(&self) -> &[DeviceConfig] {
        self.bridge().map_or(&[], |(_, bridge)| &bridge.children)
    }

    /// The same, to be changed.
    pub(super) fn children_mut(&mut self) -> &mut [DeviceConfig] {
        self.bus_mut().map_or(&mut [], Vec::as_mut_slice)
    }

    /// The bus behind it, to be changed; none for an endpoint.
    pub(super) fn bus_mut(&mut self) -> Option<&mut Vec<DeviceConfig>> {
        match self {
            Self::RootPort(bridge)
            | Self::UpstreamPort(bridge)
            | Self::DownstreamPort(bridge)
            | Self::PciBridge(bridge) => Some(&mut bridge.children),
            Self::Nvme(_) | Self::Vfio(_) | Self::VfioUser(_) => None,
        }
    }

    /// The bridge that the device is, and its kind; none for an endpoint.
    pub fn bridge(&self) -> Option<(BridgePort, &Bridge)> {
        match self {
            Self::RootPort(bridge) => Some((BridgePort::Root, bridge)),
            Self::UpstreamPort(bridge) => Some((BridgePort::Upstream, bridge)),
            Self::DownstreamPort(bridge) => Some((BridgePort::Downstream, bridge)),
            Self::PciBridge(bridge) => Some((BridgePort::Pci, bridge)),
            Self::Nvme(_) | Self::Vfio(_) | Self::VfioUser(_) => None,
        }
    }

    /// The modelled host side of its teardown; none for a device that is passed through, which takes what it takes.
    pub fn teardown(&self) -> Option<&TeardownModel> {
        match self {
            Self::RootPort(bridge)
            | Self::UpstreamPort(bridge)
            | Self::DownstreamPort(bridge)
            | Self::PciBridge(bridge) => Some(&bridge.teardown),
            Self::Nvme(nvme) => Some(&nvme.teardown),
            Self::Vfio(_) | Self::VfioUser(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn teardown_mut(&mut self) -> Option<&mut TeardownModel> {
        match self {
            Self::RootPort(bridge)
            | Self::UpstreamPort(bridge)
            | Self::DownstreamPort(bridge)
            | Self::PciBridge(bridge) => Some(&mut bridge.teardown),
            Self::Nvme(nvme) => Some(&mut nvme.teardown),
            Self::Vfio(_) | Self::VfioUser(_) => None,
        }
    }

    /// What it is, as its `type` names it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::RootPort(_) => "root-port",
            Self::UpstreamPort(_) => "upstream-port",
            Self::DownstreamPort(_) => "downstream-port",
            Self::PciBridge(_) => "pci-bridge",
            Self::Nvme(_) => "nvme",
            Self::Vfio(_) => "vfio",
            Self::VfioUser(_) => "vfio-user",
        }
    }
}

/// What a device of any type can be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct DeviceOptions {
    /// The device's name, unique in the machine: letters, digits, `-`, `_`, `.`; at most 64 bytes.
    pub id: String,
    /// Device number on its bus, 0 to 31. Unless given, the first that is free.
    pub device: Option<u8>,
    /// Function number, 0 to 7. Unless given, 0.
    pub function: Option<u8>,
    /// Whether the device is shut down asynchronously. On unless given.
    #[serde(rename = "async")]
    pub asynchronous: Option<bool>,
    /// Whether its teardown locks the bridge it is behind, as that of a USB device does in the kernel: one
    /// at a time with others that do. Refused on the root bus, where there is no bridge.
    #[serde(default)]
    pub parent_lock: bool,
    /// Whether its probe was deferred: it goes to the tail of the list, with its children and consumers,
    /// when all others are registered and linked.
    #[serde(default)]
    pub deferred: bool,
    /// How long its teardown may take, in milliseconds. 30,000 unless given.
    pub deadline_ms: Option<u64>,
    /// What is done when the teardown takes longer.
    #[serde(default)]
    pub on_timeout: OnTimeout,
    /// What latencies that vary are drawn from: the same seed gives the same latencies. Made from the id
    /// unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl DeviceOptions {
    /// How long a teardown may take unless `deadline_ms` says otherwise, in milliseconds.
    pub const DEFAULT_DEADLINE_MS: u64 = 30_000;

    /// Whether the device is shut down asynchronously.
    pub fn is_async(&self) -> bool {
        self.asynchronous.unwrap_or(true)
    }

    /// How long its teardown may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.unwrap_or(Self::DEFAULT_DEADLINE_MS))
    }
}

/// What is done with a device that is not shut down by its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// The machine boots without it: it reads all-ones from then on.
    #[default]
    Quarantine,
    /// The machine stays stopped: for a device that may still write to guest memory.
    Stop,
}

/// A bridge: a port or a PCI bridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Bridge {
    /// What every device has.
    #[serde(flatten)]
    pub options: DeviceOptions,
    /// A modelled teardown of the bridge itself.
    #[serde(default)]
    pub teardown: TeardownModel,
    /// The devices behind the bridge.
    #[serde(default)]
    #[schema(no_recursion)]
    pub children: Vec<DeviceConfig>,
}

/// The kind of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgePort {
    /// A PCI Express root port.
    Root,
    /// The upstream port of a switch.
    Upstream,
    /// A downstream port of a switch.
    Downstream,
    /// A bridge from PCI Express to PCI.
    Pci,
}

/// An emulated NVMe controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct NvmeConfig {
    /// What every device has.
    #[serde(flatten)]
    pub options: DeviceOptions,
    /// The serial number, at most 20 printable ASCII characters. Unless given, made from the id.
    pub serial: Option<String>,
    /// The model name, at most 40 printable ASCII characters. `Sundown NVMe` unless given.
    pub model: Option<String>,
    /// The firmware revision, at most 8 printable ASCII characters. Sundown's version unless given.
    pub firmware: Option<String>,
    /// Whether the drive has a volatile write cache. Without one, a write is on the host's stable storage
    /// when it completes. On unless given.
    pub volatile_write_cache: Option<bool>,
    /// I/O queue pairs, 1 to 64. One for each vCPU unless given.
    pub io_queues: Option<u16>,
    /// MSI-X vectors, 1 to 65. One for the admin queue and one for each pair of I/O queues unless given. Linux
    /// makes no more I/O queues than there are vectors beside the first; on x86 it has about 200 vectors a CPU,
    /// and of each queue's it takes one on every CPU that the queue serves.
    pub interrupt_vectors: Option<u16>,
    /// The namespaces, numbered from 1.
    pub namespaces: Vec<NamespaceConfig>,
    /// Where namespaces are kept that the guest creates. Unless given, it cannot create any.
    pub namespace_store: Option<NamespaceStore>,
    /// A file for what the drive remembers over restarts: its SMART counters, formats, the last sanitize
    /// operation. Made where it is missing. Unless given, its life begins anew with the process.
    #[schema(value_type = Option<String>)]
    pub state: Option<PathBuf>,
    /// The guest-visible shutdown handshake.
    #[serde(default)]
    pub shutdown: ShutdownModel,
    /// The host side of a teardown.
    #[serde(default)]
    pub teardown: TeardownModel,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "FaultsConfig::is_empty")]
    pub faults: FaultsConfig,
}

/// A namespace of an NVMe controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceConfig {
    /// The raw file behind the namespace. Its size is the namespace's size.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Refuse writes.
    #[serde(default)]
    pub readonly: bool,
    /// Go past the host's page cache (O_DIRECT) for what is aligned as the host needs it.
    #[serde(default)]
    pub direct: bool,
    /// Bytes of a block, 512 or 4096. 512 unless given. The guest may format the namespace with the other.
    pub block_size: Option<u32>,
    /// EUI-64 as 16 hexadecimal digits. Derived from the drive's id, serial number and model unless given.
    #[schema(value_type = Option<String>)]
    pub eui64: Option<Identifier<8>>,
    /// NGUID as 32 hexadecimal digits. Derived from the drive's id, serial number and model unless given.
    #[schema(value_type = Option<String>)]
    pub nguid: Option<Identifier<16>>,
    /// UUID, with its hyphens or without. Derived from the drive's id, serial number and model unless given.
    #[schema(value_type = Option<String>)]
    pub uuid: Option<Identifier<16>>,
}

/// A folder for namespaces that the guest creates, a sparse raw file each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceStore {
    /// The folder. Made where it is missing. One drive's alone.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Bytes that the created namespaces may have together.
    pub capacity: u64,
}

/// A supplier link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The device that needs the other; shut down first.
    pub consumer: String,
    /// The device that is needed; shut down last.
    pub supplier: String,
    /// The link tells of state only: it orders nothing.
    #[serde(default)]
    pub sync_state_only: bool,
}
