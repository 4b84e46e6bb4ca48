//! What a vCPU's port and memory accesses reach: fixed ranges first, then the PCI hierarchy.

use std::sync::Arc;

use devices::pci::RootComplex;
use vm_device::bus::{MmioAddress, PioAddress};
use vm_device::device_manager::{IoManager, MmioManager, PioManager};
use vm_memory::GuestAddress;

/// The guest's ports and memory-mapped devices. Shared read-only by the vCPUs.
pub struct AddressSpace {
    fixed: IoManager,
    root_complex: Arc<RootComplex>,
}

impl AddressSpace {
    /// `fixed` holds the ranges that never move, `root_complex` places those that do.
    pub fn new(fixed: IoManager, root_complex: Arc<RootComplex>) -> Self {
        Self {
            fixed,
            root_complex,
        }
    }

    /// Reads a port: all-ones where nobody answers.
    pub fn read_port(&self, port: u16, data: &mut [u8]) {
        if self.fixed.pio_read(PioAddress(port), data).is_err() {
            data.fill(0xFF);
        }
    }

    /// Writes a port.
    pub fn write_port(&self, port: u16, data: &[u8]) {
        if self.fixed.pio_write(PioAddress(port), data).is_err() {
            tracing::trace!(port, ?data, "write to a port without a device");
        }
    }

    /// Reads device memory: all-ones where nobody answers.
    pub fn read_memory(&self, address: u64, data: &mut [u8]) {
        if !self.root_complex.read(GuestAddress(address), data)
            && self.fixed.mmio_read(MmioAddress(address), data).is_err()
        {
            data.fill(0xFF);
        }
    }

    /// Writes device memory.
    pub fn write_memory(&self, address: u64, data: &[u8]) {
        if !self.root_complex.write(GuestAddress(address), data)
            && self.fixed.mmio_write(MmioAddress(address), data).is_err()
        {
            tracing::trace!(address, ?data, "write to memory without a device");
        }
    }
}
