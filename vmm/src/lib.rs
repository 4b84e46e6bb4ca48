//! Sundown, a virtual machine monitor: KVM and policy. What the devices are is in `devices` and `nvme`,
//! what clients say in `api`; ARCHITECTURE.md has the map.

pub mod address_space;
pub mod assignment;
pub mod boot;
pub mod check;
pub mod clock;
pub mod descriptors;
pub mod device_manager;
pub mod direct_map;
pub mod exit;
pub mod interrupts;
pub mod io_events;
pub mod mailbox;
pub mod measure;
pub mod memory;
pub mod page;
pub mod picture;
pub mod plan;
mod prefault;
pub mod serial_input;
pub mod trace;
pub mod vcpu;
pub mod vm;
pub mod vmm;
