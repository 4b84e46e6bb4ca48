//! The configuration of a virtual machine: plain data, as it stands in `vm.create` and `vm.json`.

mod behaviour;
mod change;
mod device;
mod devices;
mod document;
mod drive;
mod error;
mod faults;
mod identifier;
mod machine;
mod order;
mod passthrough;
mod slots;
mod tree;
mod validate;

#[cfg(test)]
mod tests;

pub use behaviour::{BehaviourUpdate, DeviceBehaviour, Latency, ShutdownModel, TeardownModel};
pub use change::{AddDevice, AddUserDevice, DeviceAdded, RemoveDevice};
pub use device::{
    Bridge, BridgePort, DeviceConfig, DeviceOptions, Link, NamespaceConfig, NamespaceStore,
    NvmeConfig, OnTimeout,
};
pub use devices::RESERVED_IDS;
pub use error::ConfigError;
pub use faults::{
    CommandFault, Effect, FaultsConfig, FlushFault, MediaFault, QueueKind, ShutdownFault,
};
pub use identifier::Identifier;
pub use machine::{
    CpusConfig, MemoryConfig, OnPowerOff, OnReset, PayloadConfig, SerialConfig, SerialMode,
    TeardownConfig, TeardownPolicy, VmConfig,
};
pub use passthrough::{IommuInterface, PassthroughConfig, VfioConfig, VfioUserConfig};
pub use slots::{Slot, assign_slots};
pub use tree::Devices;
