//! The PCI function: what an endpoint or a bridge is to the hierarchy that routes to it.

use vm_memory::GuestAddress;

/// What a configuration write did to the addresses that the hierarchy decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// Nothing.
    Same,
    /// BARs, windows, bus numbers or an enable bit changed: place the subtree anew.
    Changed,
    /// A bridge's secondary bus reset bit went from 0 to 1: reset every function behind it.
    ResetBehind,
}

/// A BAR as the function decodes it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    /// The BAR's index, 0 to 5.
    pub bar: u8,
    /// The guest-physical address that the guest programmed.
    pub base: u64,
    /// Size in bytes, a power of two.
    pub size: u64,
    /// Whether the BAR is prefetchable, and so is reached through a bridge's prefetchable window.
    pub prefetchable: bool,
}

/// A PCI function: an endpoint or a bridge. Methods run on vCPU threads and never wait for a device.
pub trait PciFunction: Send + Sync {
    /// Reads the 32-bit register at `offset` (a multiple of 4, below 4096).
    fn read_config(&self, offset: u16) -> u32;

    /// Writes the bytes of `value` that `mask` selects (0xFF a byte) to the register at `offset`.
    fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode;

    /// The memory BARs decoded now: none while memory decoding is off.
    fn decoded_bars(&self) -> Vec<BarRange>;

    /// Reads from a BAR. `data` does not cross its end.
    fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]);

    /// Writes to a BAR. `data` does not cross its end.
    fn write_bar(&self, bar: u8, offset: u64, data: &[u8]);

    /// Tells that a BAR is now visible to the guest at this address, or no longer visible.
    fn placed(&self, bar: u8, at: Option<GuestAddress>);

    /// Resets the function as a reset of its bus does: asked for by the guest, does not wait.
    fn bus_reset(&self);
}
