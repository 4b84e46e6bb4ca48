//! The PCI hierarchy: functions, the bridges they sit behind, and the root complex that routes
//! configuration accesses to them and places their BARs in the guest's address space.
//!
//! Layers, each knowing only those before it: registers ([`config_space`], [`bar`], [`capability`],
//! [`msix`]); functions ([`function`], [`endpoint`], [`bridge`]); the tree ([`bus`], [`intx`]); the
//! machine's side ([`placement`], [`root_complex`], [`firmware`]).
//!
//! Locks, in the order in which they may be taken: placement, a function's own lock. An MSI-X table and
//! the state of an INTx line are taken alone, and held while the machine is told of a change. Reads of
//! registers and BARs take no lock that is shared between functions.
//!
//! Not implemented: hot-plug, AER, ARI, ASPM, I/O windows and I/O BARs, expansion ROMs, SR-IOV.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod bar;
pub mod bridge;
pub mod bus;
pub mod capability;
pub mod config_space;
pub mod endpoint;
pub mod firmware;
pub mod function;
pub mod intx;
pub mod msix;
pub mod placement;
pub mod root_complex;

#[cfg(test)]
mod tests;

pub use bar::Bar;
pub use bridge::{Bridge, BridgeKind, BusNumbers};
pub use bus::{Address, Behind, Bus, DevFn, Node, TopologyError, Visit};
pub use capability::PowerState;
pub use config_space::{ConfigSpace, Identity};
pub use endpoint::{Attachment, EndpointConfig, EndpointError, EndpointWrite};
pub use firmware::{FirmwareError, number_buses};
pub use function::{BarRange, Decode, PciFunction};
pub use intx::{IntxPin, intx_gsi, root_pin};
pub use msix::{Msix, MsixLayout, TableEntry};
pub use root_complex::{ConfigPorts, RootComplex};

/// A thread that panicked leaves no register half written: go on with what is there.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The 32-bit registers that an access of `len` bytes at `offset` touches: for each its offset, the
/// bytes of the access that fall into it, and the first byte's place in the register.
fn registers(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset.checked_add(done as u64)?;
        let lane = (at % 4) as usize;
        let bytes = done..len.min(done + 4 - lane);
        done = bytes.end;
        Some((at - lane as u64, bytes, lane))
    })
}

/// Reads `data.len()` bytes at `offset` from 32-bit registers: `read(register)`, a multiple of 4.
pub fn read_registers(offset: u64, data: &mut [u8], mut read: impl FnMut(u64) -> u32) {
    for (register, bytes, lane) in registers(offset, data.len()) {
        let value = read(register).to_le_bytes();
        let count = bytes.len();
        data[bytes].copy_from_slice(&value[lane..lane + count]);
    }
}

/// Writes `data` at `offset` to 32-bit registers: `write(register, value, mask)`.
pub fn write_registers(offset: u64, data: &[u8], mut write: impl FnMut(u64, u32, u32)) {
    for (register, bytes, lane) in registers(offset, data.len()) {
        let mut value = [0; 4];
        let mut mask = [0; 4];
        let count = bytes.len();
        value[lane..lane + count].copy_from_slice(&data[bytes]);
        mask[lane..lane + count].fill(0xFF);
        write(
            register,
            u32::from_le_bytes(value),
            u32::from_le_bytes(mask),
        );
    }
}
