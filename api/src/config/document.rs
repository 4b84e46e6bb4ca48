//! How a device is read: all fields of all device types at one level, so that one with a field that its
//! type does not have is refused by name.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::{
    Bridge, DeviceConfig, DeviceOptions, FaultsConfig, NamespaceConfig, NamespaceStore, NvmeConfig,
    OnTimeout, ShutdownModel, TeardownModel,
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
}

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
    #[serde(default)]
    teardown: TeardownModel,
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
}

impl<'de> Deserialize<'de> for DeviceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DeviceDocument::deserialize(deserializer)?.into_config()
    }
}

impl DeviceDocument {
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
        } = self;
        let misplaced = |class: &str, field: &str, id: &str| {
            Err(E::custom(format_args!(
                "unknown field `{field}` for `{id}`: a {class} has none"
            )))
        };
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
        if r#type == DeviceType::Nvme {
            if children.is_some() {
                return misplaced("nvme", "children", &options.id);
            }
            let Some(namespaces) = namespaces else {
                return Err(E::custom(format_args!(
                    "missing field `namespaces` for `{}`",
                    options.id
                )));
            };
            let shutdown = shutdown.unwrap_or_default();
            return Ok(DeviceConfig::Nvme(NvmeConfig {
                options,
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
                teardown,
                faults: faults.unwrap_or_default(),
            }));
        }
        let given = [
            ("serial", serial.is_some()),
            ("model", model.is_some()),
            ("firmware", firmware.is_some()),
            ("volatile_write_cache", volatile_write_cache.is_some()),
            ("io_queues", io_queues.is_some()),
            ("interrupt_vectors", interrupt_vectors.is_some()),
            ("namespaces", namespaces.is_some()),
            ("namespace_store", namespace_store.is_some()),
            ("state", state.is_some()),
            ("shutdown", shutdown.is_some()),
            ("faults", faults.is_some()),
        ];
        if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
            return misplaced("bridge", field, &options.id);
        }
        let bridge = Bridge {
            options,
            teardown,
            children: children.unwrap_or_default(),
        };
        Ok(match r#type {
            DeviceType::RootPort => DeviceConfig::RootPort(bridge),
            DeviceType::UpstreamPort => DeviceConfig::UpstreamPort(bridge),
            DeviceType::DownstreamPort => DeviceConfig::DownstreamPort(bridge),
            _ => DeviceConfig::PciBridge(bridge),
        })
    }
}
