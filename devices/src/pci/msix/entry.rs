//! One entry of an MSI-X table (PCI local bus 3.0, 6.8.2.9).

use crate::interrupt::MsiMessage;

/// Size of an entry in bytes.
pub const ENTRY_SIZE: u64 = 16;
/// Vector control: the vector is masked.
const MASKED: u32 = 1;

/// The registers of an entry: its message, and whether its vector is masked. All are at power-on: empty, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The message.
    pub message: MsiMessage,
    control: u32,
}

impl Default for TableEntry {
    fn default() -> Self {
        Self {
            message: MsiMessage::default(),
            control: MASKED,
        }
    }
}

impl TableEntry {
    /// Whether its vector is masked.
    pub fn is_masked(&self) -> bool {
        self.control & MASKED != 0
    }

    /// Masks or unmasks its vector.
    pub fn set_masked(&mut self, masked: bool) {
        self.control = u32::from(masked);
    }

    /// Reads the 32-bit register at `offset` (below [`ENTRY_SIZE`], a multiple of 4).
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            0 => self.message.address as u32,
            4 => (self.message.address >> 32) as u32,
            8 => self.message.data,
            _ => self.control,
        }
    }

    /// Writes the bytes of `value` that `mask` selects to the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u32, mask: u32) {
        let value = (self.read(offset) & !mask) | (value & mask);
        let address = self.message.address;
        match offset {
            0 => self.message.address = address & !0xFFFF_FFFF | u64::from(value & !0b11),
            4 => self.message.address = address & 0xFFFF_FFFF | u64::from(value) << 32,
            8 => self.message.data = value,
            _ => self.control = value & MASKED,
        }
    }
}
