//! The lab: a real KVM and VFIO host on any machine, and the guest image that runs in it.
//! Layers, top down: `host` (what a user asks for), `qemu` and `image` (how it is done),
//! `guest`, `artifacts`, `parts` (what goes in), `cpio` (the archive format). Beside them, what runs in
//! it: `suite` takes `scenarios`, the system tests, there and back.
//! Not implemented: running L1 on a machine's own KVM; it is always emulated.

pub mod artifacts;
pub mod cpio;
pub mod guest;
pub mod host;
mod image;
pub mod kvm;
pub mod parts;
mod pulse;
mod qemu;
mod run_folder;
pub mod scenarios;
pub mod suite;
pub mod vmlinux;
pub mod workspace;

pub use artifacts::build_static;
pub use guest::GuestImage;
pub use host::{Drive, Job, LabHost};
pub use kvm::host_kvm_runs_linux;
