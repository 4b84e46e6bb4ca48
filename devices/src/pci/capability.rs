//! Capability structures: PCI Express, power management, MSI, MSI-X, subsystem IDs, serial number.

use super::config_space::ConfigSpace;

const ID_POWER_MANAGEMENT: u8 = 0x01;
const ID_MSI: u8 = 0x05;
const ID_SUBSYSTEM: u8 = 0x0D;
const ID_EXPRESS: u8 = 0x10;
const ID_MSIX: u8 = 0x11;
const EXTENDED_ID_SERIAL_NUMBER: u16 = 0x0003;

/// All links of this machine: 8 GT/s, four lanes.
const LINK_SPEED: u32 = 3;
const LINK_WIDTH: u32 = 4;
/// What a slot supplies, in watts.
const SLOT_POWER: u32 = 25;

/// Register offsets in the PCI Express capability (PCIe base 6.0, 7.5.3).
pub mod express {
    /// Device Control and Device Status.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Link Capabilities.
    pub const LINK_CAPABILITIES: u16 = 0x0C;
    /// Link Control and Link Status.
    pub const LINK_CONTROL: u16 = 0x10;
    /// Slot Capabilities.
    pub const SLOT_CAPABILITIES: u16 = 0x14;
    /// Slot Control and Slot Status.
    pub const SLOT_CONTROL: u16 = 0x18;
    /// Link Control 2 and Link Status 2.
    pub const LINK_CONTROL_2: u16 = 0x30;

    /// Device Control: initiate a function level reset.
    pub const INITIATE_FLR: u32 = 1 << 15;
    /// Link Control: link disable.
    pub const LINK_DISABLE: u32 = 1 << 4;
    /// Slot Status, as part of the register pair: a device is in the slot.
    pub const PRESENCE: u32 = 1 << 22;
}

/// What a function is in the PCI Express fabric: the device/port type field and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressType {
    /// An endpoint at the end of a link.
    Endpoint,
    /// An endpoint inside the root complex: it has no link.
    RootComplexIntegrated,
    /// A root port, with its port and slot number.
    RootPort(u8),
    /// A switch's upstream port, with its port number.
    Upstream(u8),
    /// A switch's downstream port, with its port and slot number.
    Downstream(u8),
    /// A bridge from PCI Express to conventional PCI.
    PciBridge,
}

impl ExpressType {
    fn code(self) -> u16 {
        match self {
            Self::Endpoint => 0,
            Self::RootPort(_) => 4,
            Self::Upstream(_) => 5,
            Self::Downstream(_) => 6,
            Self::PciBridge => 7,
            Self::RootComplexIntegrated => 9,
        }
    }

    fn port(self) -> u32 {
        match self {
            Self::RootPort(port) | Self::Upstream(port) | Self::Downstream(port) => port.into(),
            Self::Endpoint | Self::RootComplexIntegrated | Self::PciBridge => 0,
        }
    }

    fn is_endpoint(self) -> bool {
        matches!(self, Self::Endpoint | Self::RootComplexIntegrated)
    }

    /// Whether a link leads downstream from here, and a slot sits at its end.
    fn has_slot(self) -> bool {
        matches!(self, Self::RootPort(_) | Self::Downstream(_))
    }
}

/// Adds the PCI Express capability, version 2, and returns its offset.
pub fn add_express(space: &mut ConfigSpace, kind: ExpressType) -> u16 {
    let slot = u16::from(kind.has_slot()) << 8;
    let at = space.add_capability(ID_EXPRESS, 2 | kind.code() << 4 | slot, 0x3C);

    // Device: 256-byte payloads, extended tags, role-based error reporting.
    let mut device = 1 | 1 << 5 | 1 << 15;
    if kind.is_endpoint() {
        // No limit on L0s and L1 latencies; function level reset.
        device |= 0b111 << 6 | 0b111 << 9 | 1 << 28;
    }
    if matches!(
        kind,
        ExpressType::Endpoint | ExpressType::Upstream(_) | ExpressType::PciBridge
    ) {
        device |= SLOT_POWER << 18;
    }
    space.define(at + 0x04, device, 0);
    // Control at power-on: 512-byte reads, no snoop, extended tags, relaxed ordering.
    space.define(at + express::DEVICE_CONTROL, 0x2910, 0x79FF);
    space.define_clearable(at + express::DEVICE_CONTROL, 0xF << 16);

    if kind != ExpressType::RootComplexIntegrated {
        define_link(space, at, kind);
    }
    if kind.has_slot() {
        // No hot-plug, so no command completed either; the slot has its port's number.
        let slot = SLOT_POWER << 7 | 1 << 18 | kind.port() << 19;
        space.define(at + express::SLOT_CAPABILITIES, slot, 0);
        space.define(at + express::SLOT_CONTROL, 0, 0);
    }
    if matches!(kind, ExpressType::RootPort(_)) {
        // Root control; root capabilities: request retry status visible to software.
        space.define(at + 0x1C, 1 << 16, 0x1F);
        space.define_clearable(at + 0x20, 1 << 16);
    }
    if kind.is_endpoint() || matches!(kind, ExpressType::RootPort(_)) {
        // Completion timeout: all ranges, can be disabled.
        space.define(at + 0x24, 0x1F, 0);
        space.define(at + 0x28, 0, 0x1F);
    }
    at
}

fn define_link(space: &mut ConfigSpace, at: u16, kind: ExpressType) {
    // No ASPM, and that said in the way of 3.0 and later (ASPM optionality).
    let mut capabilities = LINK_SPEED | LINK_WIDTH << 4 | 1 << 22 | kind.port() << 24;
    // Link control: common clock, extended synch; the read completion boundary of an endpoint.
    let mut writable = 1 << 6 | 1 << 7;
    if kind.has_slot() {
        // Link active reporting and bandwidth notification, with their enables and link disable.
        capabilities |= 1 << 20 | 1 << 21;
        writable |= express::LINK_DISABLE | 1 << 10 | 1 << 11;
    } else {
        writable |= 1 << 3;
    }
    space.define(at + express::LINK_CAPABILITIES, capabilities, 0);
    space.define(at + express::LINK_CONTROL, 0, writable);
    // Link capabilities 2: 2.5, 5 and 8 GT/s. Link control 2: target speed.
    space.define(at + 0x2C, 0b1110, 0);
    space.define(at + express::LINK_CONTROL_2, LINK_SPEED, 0x0FBF);
    let (status, status2) = link_status(kind.has_slot(), !kind.has_slot());
    space.preset(at + express::LINK_CONTROL, 0xFFFF_0000, status);
    space.preset(at + express::LINK_CONTROL_2, 0xFFFF_0000, status2);
}

/// Link Status and Link Status 2, each in the upper half of its register pair. `downstream` is for
/// ports that report whether the link below them is active.
pub fn link_status(downstream: bool, up: bool) -> (u32, u32) {
    // Both ends use the slot's reference clock.
    let clock = 1 << 28;
    if !up {
        return (clock | 1 << 16, 0);
    }
    let active = u32::from(downstream) << 29;
    // Equalisation complete, phases 1 to 3 successful.
    (
        clock | active | (LINK_SPEED | LINK_WIDTH << 4) << 16,
        0x1E << 16,
    )
}

/// A function's power state (PCI power management 1.2, 5): the two that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// Working.
    D0,
    /// Answers configuration accesses only. Returning to D0 loses no state (No_Soft_Reset).
    D3Hot,
}

/// Offset of the control and status register in the power management capability.
const POWER_CONTROL: u16 = 4;

/// Adds the power management capability and returns its offset. `wakes` is for ports that pass PME on.
pub fn add_power_management(space: &mut ConfigSpace, wakes: bool) -> u16 {
    // Version 3; PME from D0, D3hot and D3cold.
    let capabilities = if wakes { 0xC803 } else { 0x0003 };
    let at = space.add_capability(ID_POWER_MANAGEMENT, capabilities, 8);
    let enable = if wakes { 1 << 8 } else { 0 };
    space.define(at + POWER_CONTROL, 1 << 3, 0b11 | enable);
    if wakes {
        space.define_clearable(at + POWER_CONTROL, 1 << 15);
    }
    at
}

/// The power state that the capability at `at` says.
pub fn power_state(space: &ConfigSpace, at: u16) -> PowerState {
    if space.read(at + POWER_CONTROL) & 0b11 == 0 {
        PowerState::D0
    } else {
        PowerState::D3Hot
    }
}

/// A guest's write to any register, with the one rule that masks cannot say: a write of a power state
/// that is not supported leaves the state as it was (PCI power management 1.2, 3.2.4).
pub fn write_with_power(space: &mut ConfigSpace, at: u16, offset: u16, value: u32, mask: u32) {
    let unsupported = offset == at + POWER_CONTROL && matches!(value & 0b11, 1 | 2);
    let mask = if unsupported { mask & !0b11 } else { mask };
    space.write(offset, value, mask);
}

/// Adds an MSI capability of one vector with a 64-bit address (PCI local bus 3.0, 6.8.1).
pub fn add_msi(space: &mut ConfigSpace) -> u16 {
    let at = space.add_capability(ID_MSI, 1 << 7, 14);
    space.define(at, space.read(at), 1 << 16 | 0b111 << 20);
    space.define(at + 4, 0, !0b11);
    space.define(at + 8, 0, u32::MAX);
    space.define(at + 12, 0, 0xFFFF);
    at
}

/// Adds the capability that gives a bridge its subsystem IDs (PCI-to-PCI bridge 1.2, 3.2.3.13).
pub fn add_subsystem(space: &mut ConfigSpace, vendor: u16, subsystem: u16) -> u16 {
    let at = space.add_capability(ID_SUBSYSTEM, 0, 8);
    space.define(at + 4, u32::from(subsystem) << 16 | u32::from(vendor), 0);
    at
}

/// Adds the MSI-X capability: `vectors` is 1 to 2048, the offsets are multiples of 8 in the BAR. The
/// enable and mask bits live with the table: see [`super::msix::Msix::control`].
pub fn add_msix(space: &mut ConfigSpace, vectors: u16, bar: u8, table: u32, pba: u32) -> u16 {
    let at = space.add_capability(ID_MSIX, vectors.saturating_sub(1) & 0x7FF, 12);
    space.define(at + 4, table & !7 | u32::from(bar & 7), 0);
    space.define(at + 8, pba & !7 | u32::from(bar & 7), 0);
    at
}

/// Adds the device serial number extended capability (PCIe base 6.0, 7.9.3).
pub fn add_serial_number(space: &mut ConfigSpace, serial: u64) -> u16 {
    let at = space.add_extended_capability(EXTENDED_ID_SERIAL_NUMBER, 1, 12);
    space.define(at + 4, serial as u32, 0);
    space.define(at + 8, (serial >> 32) as u32, 0);
    at
}
