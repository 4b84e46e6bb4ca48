//! The vfio-user protocol, version 0.1: one device, emulated in one process and used by another over a
//! Unix socket.
//!
//! Layers, each knowing only those before it: [`protocol`] (layouts, no behaviour); [`wire`] (whole
//! messages with descriptors, over a socket that never blocks for long); [`dma`] (asking the other side
//! for its memory); [`server`] (one client's connection to one device); [`client`] (the other end of it).
//!
//! The other side is not trusted. Sizes, counts and descriptors are checked before they are used, each wait
//! has an end, and what cannot be answered with an error closes the connection.
//!
//! Not implemented: twin sockets, migration, dirty page logging, device features, ioregionfds.

pub mod client;
pub mod dma;
pub mod protocol;
pub mod server;
pub mod wire;

pub use rustix::io::Errno;
