//! How a device is read: all fields of all device types at one level, so that one with a field that its
//! type does not have is refused by name.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::{
    Bridge, DeviceConfig, DeviceOptions, FaultsConfig, NamespaceConfig, NamespaceStore, NvmeConfig,
    OnTimeout, ShutdownModel, TeardownModel, VfioConfig, VfioUserConfig,
};

/// The types of devices, as `type` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DeviceType {
    RootPort,
    UpstreamPort,
    DownstreamPort,
    PciBridge,
    Nvme,
    Vfio,
    VfioUser,
}

impl DeviceType {
    /// What has the same fields.
    fn kind(self) -> &'static str {
        match self {
            Self::RootPort | Self::UpstreamPort | Self::DownstreamPort | Self::PciBridge => BRIDGE,
            Self::Nvme => NVME,
            Self::Vfio => VFIO,
            Self::VfioUser => VFIO_USER,
        }
    }
}

const BRIDGE: &str = "bridge";
const NVME: &str = "nvme";
const VFIO: &str = "vfio";
const VFIO_USER: &str = "vfio-user";

/// A device as it is written down. Serde refuses unknown fields only where nothing is flattened, and it
/// knows the path to a field only where nothing is buffered for a tag; hence one plain structure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceDocument {
    r#type: DeviceType,
    id: String,
    device: Option<u8>,
    function: Option<u8>,
    r#async: Option<bool>,
    #[serde(default)]
    parent_lock: bool,
    #[serde(default)]
    deferred: bool,
    deadline_ms: Option<u64>,
    #[serde(default)]
    on_timeout: OnTimeout,
    seed: Option<u64>,
    teardown: Option<TeardownModel>,
    children: Option<Vec<DeviceConfig>>,
    serial: Option<String>,
    model: Option<String>,
    firmware: Option<String>,
    volatile_write_cache: Option<bool>,
    io_queues: Option<u16>,
    interrupt_vectors: Option<u16>,
    namespaces: Option<Vec<NamespaceConfig>>,
    namespace_store: Option<NamespaceStore>,
    state: Option<PathBuf>,
    shutdown: Option<ShutdownModel>,
    faults: Option<FaultsConfig>,
    path: Option<String>,
    socket: Option<PathBuf>,
    request_timeout_ms: Option<u64>,
    fence: Option<bool>,
    expected_reset_ms: Option<u64>,
}

impl<'de> Deserialize<'de> for DeviceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = DeviceDocument::deserialize(deserializer)?;
        document.check_fields()?;
        document.into_config()
    }
}

impl DeviceDocument {
    /// Refuses a field that the device's type does not have.
    fn check_fields<E: de::Error>(&self) -> Result<(), E> {
        let kind = self.r#type.kind();
        /// Each field with whether it is given, and the kinds of devices that have it.
        macro_rules! given {
            ($($field:ident: $kinds:expr),* $(,)?) => {
                [$((stringify!($field), self.$field.is_some(), &$kinds as &[&str])),*]
            };
        }
        let given = given! {
            seed: [BRIDGE, NVME],
            teardown: [BRIDGE, NVME],
            children: [BRIDGE],
            serial: [NVME],
            model: [NVME],
            firmware: [NVME],
            volatile_write_cache: [NVME],
            io_queues: [NVME],
            interrupt_vectors: [NVME],
            namespaces: [NVME],
            namespace_store: [NVME],
            state: [NVME],
            shutdown: [NVME],
            faults: [NVME],
            path: [VFIO],
            socket: [VFIO_USER],
            request_timeout_ms: [VFIO_USER],
            fence: [VFIO_USER],
            expected_reset_ms: [VFIO, VFIO_USER],
        };
        let mut given = given.into_iter();
        match given.find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((field, _, _)) => Err(E::custom(format_args!(
                "unknown field `{field}` for `{}`: a {kind} has none",
                self.id
            ))),
            None => Ok(()),
        }
    }

    fn into_config<E: de::Error>(self) -> Result<DeviceConfig, E> {
        // By name: a new field does not compile until it has found its place.
        let Self {
            r#type,
            id,
            device,
            function,
            r#async: asynchronous,
            parent_lock,
            deferred,
            deadline_ms,
            on_timeout,
            seed,
            teardown,
            children,
            serial,
            model,
            firmware,
            volatile_write_cache,
            io_queues,
            interrupt_vectors,
            namespaces,
            namespace_store,
            state,
            shutdown,
            faults,
            path,
            socket,
            request_timeout_ms,
            fence,
            expected_reset_ms,
        } = self;
        let missing =
            |field: &str, id: &str| E::custom(format_args!("missing field `{field}` for `{id}`"));
        let options = DeviceOptions {
            id,
            device,
            function,
            asynchronous,
            parent_lock,
            deferred,
            deadline_ms,
            on_timeout,
            seed,
        };
        let make: fn(Bridge) -> DeviceConfig = match r#type {
            DeviceType::RootPort => DeviceConfig::RootPort,
            DeviceType::UpstreamPort => DeviceConfig::UpstreamPort,
            DeviceType::DownstreamPort => DeviceConfig::DownstreamPort,
            DeviceType::PciBridge => DeviceConfig::PciBridge,
            DeviceType::Nvme => {
                return Ok(DeviceConfig::Nvme(NvmeConfig {
                    namespaces: namespaces.ok_or_else(|| missing("namespaces", &options.id))?,
                    options,
                    serial,
                    model,
                    firmware,
                    volatile_write_cache,
                    io_queues,
                    interrupt_vectors,
                    namespace_store,
                    state,
                    shutdown: shutdown.unwrap_or_default(),
                    teardown: teardown.unwrap_or_default(),
                    faults: faults.unwrap_or_default(),
                }));
            }
            DeviceType::Vfio => {
                return Ok(DeviceConfig::Vfio(VfioConfig {
                    path: path.ok_or_else(|| missing("path", &options.id))?,
                    options,
                    expected_reset_ms,
                }));
            }
            DeviceType::VfioUser => {
                return Ok(DeviceConfig::VfioUser(VfioUserConfig {
                    socket: socket.ok_or_else(|| missing("socket", &options.id))?,
                    options,
                    request_timeout_ms,
                    fence: fence.unwrap_or_default(),
                    expected_reset_ms,
                }));
            }
        };
        Ok(make(Bridge {
            options,
            teardown: teardown.unwrap_or_default(),
            children: children.unwrap_or_default(),
        }))
    }
}
