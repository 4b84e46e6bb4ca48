//! What firmware does to the PCI hierarchy before a kernel starts: bridges get their bus numbers and
//! forward; windows and BARs are left to the kernel.

use super::bridge::BUS_NUMBERS;
use super::bus::Bus;
use super::config_space::{COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY};
use super::root_complex::RootComplex;

/// What a bridge forwards from the start: memory accesses, into windows that are closed after power-on, and
/// DMA. Linux, which probes drives in parallel, turns both on by read, change and write, without a lock,
/// when the first drive behind a bridge is probed: of two drives at once, one may undo the other's change,
/// and neither is found. What is on already is not written.
const FORWARDING: u16 = COMMAND_MEMORY | COMMAND_BUS_MASTER;

/// Why buses cannot be numbered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// More buses than there are numbers.
    #[error("the bus behind {0} would be number 256: remove bridges, there are 256 bus numbers")]
    TooManyBuses(String),
}

/// Numbers all buses depth-first and turns forwarding on, so that a kernel finds every bridge configured.
/// Returns the highest number. Call it before each start of a guest, after [`RootComplex::reset`].
pub fn number_buses(root: &RootComplex) -> Result<u8, FirmwareError> {
    let highest = number_behind(root.bus(), 0)?;
    root.place();
    Ok(highest)
}

/// Numbers what is behind the bridges on `bus`, whose number is `number` and the highest so far.
fn number_behind(bus: &Bus, number: u8) -> Result<u8, FirmwareError> {
    let mut highest = number;
    for node in bus.nodes() {
        let Some(behind) = node.behind() else {
            continue;
        };
        let too_many = || FirmwareError::TooManyBuses(node.id().to_owned());
        let secondary = highest.checked_add(1).ok_or_else(too_many)?;
        highest = number_behind(&behind.bus, secondary)?;
        let numbers = u32::from_le_bytes([number, secondary, highest, 0]);
        // The caller places BARs once, after all bridges.
        let _ = node.write_config(BUS_NUMBERS, numbers, 0x00FF_FFFF);
        let _ = node.write_config(COMMAND, FORWARDING.into(), 0xFFFF);
    }
    Ok(highest)
}

#[cfg(test)]
mod tests;
