//! The configuration of a virtual machine: plain data, as it stands in `vm.create` and `vm.json`.

mod device;
mod devices;
mod document;
mod drive;
mod error;
mod identifier;
mod machine;
mod order;
mod slots;
mod tree;
mod validate;

#[cfg(test)]
mod tests;

pub use device::{
    Bridge, BridgePort, DeviceConfig, DeviceOptions, Latency, Link, NamespaceConfig, NvmeConfig,
    OnTimeout, ShutdownModel, TeardownModel,
};
pub use devices::RESERVED_IDS;
pub use error::ConfigError;
pub use identifier::Identifier;
pub use machine::{
    CpusConfig, MemoryConfig, OnPowerOff, OnReset, PayloadConfig, SerialConfig, SerialMode,
    TeardownConfig, TeardownPolicy, VmConfig,
};
pub use slots::{Slot, assign_slots};
pub use tree::Devices;
