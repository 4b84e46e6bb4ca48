//! The register file of one function: values, write masks and power-on values, and the two headers
//! that it begins with.

/// Command register: memory decoding (PCI local bus 3.0, 6.2.2).
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command register: bus mastering.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command register: parity error response.
pub const COMMAND_PARITY: u16 = 1 << 6;
/// Command register: SERR# enable.
pub const COMMAND_SERR: u16 = 1 << 8;
/// Command register: INTx disable.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
/// Status register: an INTx interrupt is pending.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// Status register: the function has a capability list.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Where the command and status registers are.
pub const COMMAND: u16 = 0x04;
/// Where cache line size, latency timer, header type and BIST are.
pub const HEADER_TYPE: u16 = 0x0C;
/// Where interrupt line, interrupt pin and (type 1) bridge control are.
pub const INTERRUPT: u16 = 0x3C;

/// The writable bits of the command register. Nothing here decodes I/O ports.
const COMMAND_WRITABLE: u16 =
    COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE;
/// The error bits of the status and secondary status registers, cleared by writing 1.
const STATUS_ERRORS: u16 = 0xF900;
const CAPABILITY_POINTER: u16 = 0x34;
const FIRST_CAPABILITY: u16 = 0x40;
const FIRST_EXTENDED_CAPABILITY: u16 = 0x100;

/// Who a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Base class, sub-class and programming interface, as in `0x01_08_02`.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
}

/// The bits of a register that a guest's write changes.
#[derive(Clone, Copy, Debug, Default)]
struct Register {
    value: u32,
    power_on: u32,
    /// Bits that take the value written.
    writable: u32,
    /// Bits that a written 1 clears.
    clearable: u32,
}

/// A function's configuration registers. Registers that nobody defined read zero and ignore writes.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    registers: Vec<Register>,
    size: u16,
    /// Where the next capability goes, and the byte that shall point to it.
    next_capability: u16,
    capability_link: u16,
    next_extended: u16,
    extended_link: u16,
}

impl ConfigSpace {
    /// Registers of a conventional function: 256 bytes, all-ones beyond.
    pub fn conventional() -> Self {
        Self::with_size(256)
    }

    /// Registers of a PCI Express function: 4096 bytes.
    pub fn express() -> Self {
        Self::with_size(4096)
    }

    fn with_size(size: u16) -> Self {
        Self {
            registers: Vec::new(),
            size,
            next_capability: FIRST_CAPABILITY,
            capability_link: CAPABILITY_POINTER,
            next_extended: FIRST_EXTENDED_CAPABILITY,
            extended_link: 0,
        }
    }

    /// Whether this is a PCI Express function's register file.
    pub fn is_express(&self) -> bool {
        self.size > 256
    }

    /// Lays out a type 0 header (PCI local bus 3.0, 6.1). `pin` is 0 for none, 1 to 4 for INTA to INTD.
    pub fn define_type0(&mut self, identity: &Identity, pin: u8) {
        self.define_common(identity, 0, pin);
        let subsystem = u32::from(identity.subsystem) << 16 | u32::from(identity.subsystem_vendor);
        self.define(0x2C, subsystem, 0);
    }

    /// Lays out a type 1 header (PCI-to-PCI bridge 1.2, 3.2) without I/O window. Both memory windows
    /// are closed at power-on: base above limit. `conventional_secondary` is for bridges to PCI.
    pub fn define_type1(&mut self, identity: &Identity, pin: u8, conventional_secondary: bool) {
        self.define_common(identity, 1, pin);
        let latency = if conventional_secondary {
            0xF800_0000
        } else {
            0
        };
        self.define(0x18, 0, 0x00FF_FFFF | latency);
        self.define_clearable(0x1C, u32::from(STATUS_ERRORS) << 16);
        self.define(0x20, 0x0000_FFF0, 0xFFF0_FFF0);
        self.define(0x24, 0x0001_FFF1, 0xFFF0_FFF0);
        self.define(0x28, 0, u32::MAX);
        self.define(0x2C, 0, u32::MAX);
        // Bridge control: parity error response, SERR# enable, secondary bus reset.
        self.define(INTERRUPT, u32::from(pin) << 8, 0x0043_00FF);
    }

    fn define_common(&mut self, identity: &Identity, header: u8, pin: u8) {
        self.define(
            0x00,
            u32::from(identity.device) << 16 | u32::from(identity.vendor),
            0,
        );
        self.define(COMMAND, 0, u32::from(COMMAND_WRITABLE));
        self.define_clearable(COMMAND, u32::from(STATUS_ERRORS) << 16);
        self.define(0x08, identity.class << 8 | u32::from(identity.revision), 0);
        // The latency timer is hardwired to zero in PCI Express functions.
        let latency = if self.is_express() { 0 } else { 0xF800 };
        self.define(HEADER_TYPE, u32::from(header) << 16, 0xFF | latency);
        self.define(INTERRUPT, u32::from(pin) << 8, 0xFF);
    }

    /// Gives the register at `offset` its power-on value and its writable bits.
    pub fn define(&mut self, offset: u16, power_on: u32, writable: u32) {
        if let Some(register) = self.register_mut(offset) {
            *register = Register {
                value: power_on,
                power_on,
                writable,
                ..*register
            };
        }
    }

    /// Makes a written 1 clear these bits of the register at `offset`.
    pub fn define_clearable(&mut self, offset: u16, bits: u32) {
        if let Some(register) = self.register_mut(offset) {
            register.clearable = bits;
        }
    }

    /// Appends a capability of `length` bytes (header included) to the list and returns its offset.
    /// `header` is the upper half of its first register.
    pub fn add_capability(&mut self, id: u8, header: u16, length: u16) -> u16 {
        let at = self.next_capability;
        self.define(at, u32::from(header) << 16 | u32::from(id), 0);
        let link = self.capability_link;
        self.preset(
            link & !3,
            0xFF << (8 * (link % 4)),
            u32::from(at) << (8 * (link % 4)),
        );
        self.preset(COMMAND, 0, u32::from(STATUS_CAPABILITIES) << 16);
        self.capability_link = at + 1;
        self.next_capability = at + length.next_multiple_of(4);
        at
    }

    /// Appends an extended capability of `length` bytes (header included) and returns its offset.
    pub fn add_extended_capability(&mut self, id: u16, version: u8, length: u16) -> u16 {
        let at = self.next_extended;
        self.define(at, u32::from(version & 0xF) << 16 | u32::from(id), 0);
        if self.extended_link != 0 {
            self.preset(self.extended_link, 0xFFF0_0000, u32::from(at) << 20);
        }
        self.extended_link = at;
        self.next_extended = at + length.next_multiple_of(4);
        at
    }

    /// The register at `offset` (rounded down to a multiple of 4), all-ones beyond the register file.
    pub fn read(&self, offset: u16) -> u32 {
        if offset >= self.size {
            return u32::MAX;
        }
        self.registers
            .get(usize::from(offset / 4))
            .map_or(0, |register| register.value)
    }

    /// A guest's write of the bytes of `value` that `mask` selects.
    pub fn write(&mut self, offset: u16, value: u32, mask: u32) {
        if let Some(register) = self.registers.get_mut(usize::from(offset / 4)) {
            let taken = register.writable & mask;
            let cleared = register.clearable & mask & value;
            register.value = (register.value & !taken & !cleared) | (value & taken);
        }
    }

    /// Changes bits of a register from the device's side: their value now, not at power-on.
    pub fn set(&mut self, offset: u16, clear: u32, set: u32) {
        if let Some(register) = self.register_mut(offset) {
            register.value = (register.value & !clear) | set;
        }
    }

    /// Changes bits of a register now and at power-on.
    pub fn preset(&mut self, offset: u16, clear: u32, set: u32) {
        self.set(offset, clear, set);
        if let Some(register) = self.register_mut(offset) {
            register.power_on = (register.power_on & !clear) | set;
        }
    }

    /// Puts every register back to its power-on value.
    pub fn reset(&mut self) {
        for register in &mut self.registers {
            register.value = register.power_on;
        }
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        self.read(COMMAND) as u16
    }

    fn register_mut(&mut self, offset: u16) -> Option<&mut Register> {
        let index = usize::from(offset / 4);
        if offset >= self.size {
            return None;
        }
        if index >= self.registers.len() {
            self.registers.resize(index + 1, Register::default());
        }
        self.registers.get_mut(index)
    }
}

#[cfg(test)]
mod tests;
