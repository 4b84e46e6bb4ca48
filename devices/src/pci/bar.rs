//! Base address registers: memory BARs of 32 and 64 bits, their sizing and their addresses.

use super::config_space::{COMMAND_MEMORY, ConfigSpace};
use super::function::BarRange;

const FIRST_BAR: u16 = 0x10;
const TYPE_64_BIT: u32 = 0b100;
const PREFETCHABLE: u32 = 0b1000;

/// How wide a BAR's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Bits32,
    Bits64,
}

/// A memory BAR of a type 0 function (PCI local bus 3.0, 6.2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    index: u8,
    width: Width,
    size: u64,
    prefetchable: bool,
}

impl Bar {
    /// A 32-bit memory BAR. `size` is rounded up to a power of two of 16 bytes to 2 GiB.
    pub fn memory32(index: u8, size: u64) -> Self {
        let size = size.clamp(16, 1 << 31).next_power_of_two();
        Self {
            index,
            width: Width::Bits32,
            size,
            prefetchable: false,
        }
    }

    /// A 64-bit memory BAR, in the registers `index` and `index + 1`. `size` is rounded up to a power
    /// of two of 16 bytes to 8 EiB.
    pub fn memory64(index: u8, size: u64) -> Self {
        let size = size.clamp(16, 1 << 63).next_power_of_two();
        Self {
            index,
            width: Width::Bits64,
            size,
            prefetchable: false,
        }
    }

    /// The same BAR, prefetchable.
    pub fn prefetchable(self) -> Self {
        Self {
            prefetchable: true,
            ..self
        }
    }

    /// The BAR's index, 0 to 5.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Size in bytes, a power of two.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The indices of the registers that the BAR takes.
    pub fn registers(&self) -> std::ops::RangeInclusive<u8> {
        match self.width {
            Width::Bits32 => self.index..=self.index,
            Width::Bits64 => self.index..=self.index.saturating_add(1),
        }
    }

    /// Lays the BAR out in `space`. Sizing needs nothing more: address bits below the size are not
    /// writable, so all-ones read back as the size's complement.
    pub fn define(&self, space: &mut ConfigSpace) {
        let address = !(self.size - 1);
        let mut kind = 0;
        if self.prefetchable {
            kind |= PREFETCHABLE;
        }
        match self.width {
            Width::Bits32 => space.define(self.offset(), kind, address as u32),
            Width::Bits64 => {
                space.define(self.offset(), kind | TYPE_64_BIT, address as u32);
                space.define(self.offset() + 4, 0, (address >> 32) as u32);
            }
        }
    }

    /// The address that the guest programmed, whether decoded or not.
    pub fn base(&self, space: &ConfigSpace) -> u64 {
        let low = u64::from(space.read(self.offset()) & !0xF);
        match self.width {
            Width::Bits32 => low,
            Width::Bits64 => low | u64::from(space.read(self.offset() + 4)) << 32,
        }
    }

    fn offset(&self) -> u16 {
        FIRST_BAR + 4 * u16::from(self.index)
    }
}

/// The ranges that `bars` decode: none while memory decoding is off.
pub fn decoded(bars: &[Bar], space: &ConfigSpace) -> Vec<BarRange> {
    if space.command() & COMMAND_MEMORY == 0 {
        return Vec::new();
    }
    bars.iter()
        .map(|bar| BarRange {
            bar: bar.index,
            base: bar.base(space),
            size: bar.size,
            prefetchable: bar.prefetchable,
        })
        .collect()
}

#[cfg(test)]
mod tests;
