//! The device model of Sundown: what a virtual machine's devices are, what they ask of the machine
//! (guest memory, interrupts, events), the legacy devices of a PC, and the PCI hierarchy.
//!
//! This crate knows no KVM and no configuration file. Everything a device needs from the machine
//! comes through the small traits in [`interrupt`], [`io_event`], [`direct_map`], [`memory`] and [`event`].

pub mod direct_map;
pub mod event;
pub mod guest_acts;
pub mod interrupt;
pub mod io_event;
pub mod latency;
pub mod legacy;
pub mod lifecycle;
pub mod memory;
pub mod pci;
pub mod shared_event;
