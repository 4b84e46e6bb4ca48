//! Passed-through PCI functions: one function for the guest, over the VFIO interface that the kernel or a
//! vfio-user server offers.
//!
//! Layers, each knowing only those before it: [`client`] (the interface, whoever is behind it); the two who are
//! behind it, the kernel and a server; the function that the guest sees, with its reset.

pub mod client;
pub mod function;
mod naps;
pub mod vfio;
pub mod vfio_user;

pub use client::{Area, Client, ClientError, IrqType, Observer, Region};
pub use function::{Function, FunctionConfig, FunctionError, Machine};
