//! The server's side: what a device must be able to do to be served, and the connection of one client.
//!
//! One thread runs a connection. It takes commands in their order and answers each before the next, but
//! for DMA_UNMAP, which is answered when nobody uses the memory any more. It never asks for the client's
//! memory itself, and so can always take the answer that another thread waits for.

mod commands;
mod connection;
mod irqs;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

pub use connection::{Connection, Ended};
pub use irqs::{IrqAction, IrqData, IrqRequest};

use crate::dma::PeerMemory;
use crate::protocol::{Area, DmaMap};

/// Most descriptors that are taken in one message.
pub const MOST_DESCRIPTORS: u32 = 16;
/// Most ranges of memory at a time.
pub const MOST_MAPS: u32 = 4096;

/// A region of a device.
pub struct Region<'a> {
    /// Its size in bytes; 0 where the device has no such region.
    pub size: u64,
    /// [`READ`](crate::protocol::region_flag::READ) and [`WRITE`](crate::protocol::region_flag::WRITE).
    pub flags: u32,
    /// The file behind the parts that can be mapped, at the same offsets as in the region.
    pub file: Option<BorrowedFd<'a>>,
    /// Those parts.
    pub areas: Vec<Area>,
}

/// Writes of `size` bytes at `offset` in a region, which `event` may stand for.
pub struct IoEvent {
    /// Where in the region.
    pub offset: u64,
    /// The width of the write.
    pub size: u64,
    /// What is signalled.
    pub event: OwnedFd,
}

/// Memory that a client gives: with a descriptor where it can be mapped.
#[derive(Debug)]
pub struct MapRequest {
    /// What the message says; its range is not empty and does not pass the end of the address space.
    pub map: DmaMap,
    /// The file.
    pub file: Option<OwnedFd>,
}

/// Memory that a client takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapRequest {
    /// This range: first address and size in bytes.
    Range(u64, u64),
    /// All of it.
    All,
}

/// Called when memory that was taken back is no longer used.
pub type Unmapped = Box<dyn FnOnce() + Send + Sync>;

/// A PCI device as it is served. Called by the thread of its connection alone.
pub trait Device {
    /// A client has come; its memory, where it is not mapped, is asked for through `memory`.
    fn attach(&self, memory: &PeerMemory);

    /// The server closes the connection of its own accord, soon after this.
    fn leave(&self);

    /// The client has gone: its memory, its descriptors and what it did to the device go too. Returns
    /// when nothing of the device uses them, or when that has taken too long.
    fn detach(&self);

    /// The region `index`, below [`region::COUNT`](crate::protocol::region::COUNT).
    fn region(&self, index: u32) -> Region<'_>;

    /// Reads from a region. All of it is inside.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes to a region. All of it is inside.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Writes to a region that eventfds may stand for now. The protocol has no way to take them back: what ends
    /// them is the device's to say.
    fn io_events(&self, region: u32) -> Vec<IoEvent>;

    /// Flags ([`irq_flag`](crate::protocol::irq_flag)) and number of the interrupts of type `index`, below
    /// [`irq::COUNT`](crate::protocol::irq::COUNT).
    fn irqs(&self, index: u32) -> (u32, u32);

    /// Does what `request` says. Its range is inside the type's.
    fn set_irqs(&self, request: IrqRequest) -> Result<(), Errno>;

    /// Takes memory.
    fn map(&self, request: MapRequest) -> Result<(), Errno>;

    /// Gives memory back: calls `then` when nothing uses it any more, on any thread.
    fn unmap(&self, request: UnmapRequest, then: Unmapped) -> Result<(), Errno>;

    /// Resets the device to its state after power-on. Memory and interrupts stay connected.
    fn reset(&self) -> Result<(), Errno>;

    /// The descriptors that the connection's thread waits for on the device's behalf.
    fn wakers(&self) -> Vec<Arc<OwnedFd>>;

    /// One of them, by its place, can be read.
    fn woken(&self, waker: usize);
}

#[cfg(test)]
mod tests;
