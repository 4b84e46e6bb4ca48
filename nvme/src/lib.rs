//! The emulated NVMe controller of Sundown: NVM Express base specification 2.0, NVM command set 1.0,
//! over PCI Express.
//!
//! Layers, each knowing only those before it: [`spec`] (layouts); [`backend`], `data_pointer`, `gate` and
//! [`engine`] (storage, guest memory, threads); `queue`, `namespace`, `drive` (what outlives a reset),
//! `session` (what a reset ends); `io` and `admin` (commands); [`faults`] (what is made to go wrong);
//! [`controller`] (registers, shutdown, teardown) and `pci` (the function).
//!
//! Not implemented, and not claimed by Identify:
//! - fused commands, metadata and protection information, reservations, the controller memory buffer.

pub mod backend;
pub mod controller;
pub mod engine;
pub mod faults;
pub mod shutdown;
pub mod spec;

mod admin;
mod coalescing;
mod data_pointer;
mod doorbell_events;
mod doorbells;
mod drive;
mod erase;
mod gate;
mod identity;
mod io;
mod logs;
mod namespace;
mod namespaces;
mod pci;
mod queue;
mod respond;
mod sanitize;
mod selftest;
mod session;
mod stable;
mod state;
mod store;
mod uncorrectable;

pub use backend::{Backend, BackendError, FileBackend, MemoryBackend, NullBackend};
pub use controller::{Connections, Controller, ControllerConfig, ControllerError, NamespaceConfig};
pub use devices::memory::GuestSlice;
pub use doorbell_events::DoorbellCounts;
pub use doorbells::PolledDoorbells;
pub use engine::{Engine, Steps};
pub use shutdown::{Behaviour, ShutdownModel};
pub use state::StateError;
pub use store::{NamespaceStore, StoreError};

#[cfg(test)]
mod tests;
