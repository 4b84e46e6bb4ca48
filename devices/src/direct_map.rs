//! Device memory that the guest reaches without an exit: parts of a BAR, mapped straight into its address space.

use std::io;
use std::sync::Arc;

use vm_memory::{GuestAddress, MmapRegion};

/// A mapping that the guest has: what [`GuestMapper::unmap`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapSlot(pub u32);

/// Maps device memory into the guest. One for a machine.
pub trait GuestMapper: Send + Sync {
    /// Has the guest find `memory` at `at`, both aligned to pages, until it is unmapped. Nothing else may be mapped
    /// there; accesses beside it reach the device as before.
    ///
    /// # Errors
    /// There are as many mappings as the machine takes, or the host refuses: accesses reach the device.
    fn map(&self, at: GuestAddress, memory: &Arc<MmapRegion>) -> io::Result<MapSlot>;

    /// Takes a mapping away: the guest does not reach the memory any more once this returns.
    ///
    /// # Errors
    /// The host refuses: the mapping stays.
    fn unmap(&self, slot: MapSlot) -> io::Result<()>;
}
