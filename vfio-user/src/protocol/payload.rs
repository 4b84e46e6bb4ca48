//! Payloads of commands and replies. Those named after VFIO structures have their layouts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What VERSION begins with; capabilities as JSON may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Version {
    /// The major version.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
}

/// Bits of [`DmaMap::flags`].
pub mod map_flag {
    /// The device may read.
    pub const READ: u32 = 1;
    /// The device may write.
    pub const WRITE: u32 = 1 << 1;
}

/// DMA_MAP. A descriptor comes with it where the memory can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DmaMap {
    /// Size of this structure.
    pub argsz: u32,
    /// See [`map_flag`].
    pub flags: u32,
    /// Where in the file the range begins.
    pub offset: u64,
    /// The range's first address as the device knows it.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Bits of [`DmaUnmap::flags`].
pub mod unmap_flag {
    /// Report dirty pages.
    pub const GET_DIRTY_BITMAP: u32 = 1;
    /// Take everything back; address and size are zero.
    pub const ALL: u32 = 1 << 1;
}

/// DMA_UNMAP and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DmaUnmap {
    /// Most bytes of a reply's payload.
    pub argsz: u32,
    /// See [`unmap_flag`].
    pub flags: u32,
    /// The range's first address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Bits of [`DeviceInfo::flags`].
pub mod device_flag {
    /// The device can be reset.
    pub const RESET: u32 = 1;
    /// It is a PCI device.
    pub const PCI: u32 = 1 << 1;
}

/// DEVICE_GET_INFO and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceInfo {
    /// Most bytes of a reply's payload; in a reply its size.
    pub argsz: u32,
    /// See [`device_flag`].
    pub flags: u32,
    /// Regions.
    pub regions: u32,
    /// Interrupt types.
    pub irqs: u32,
}

/// Regions of a PCI device.
pub mod region {
    /// BAR 0; the others follow it.
    pub const BAR0: u32 = 0;
    /// The expansion ROM.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// VGA.
    pub const VGA: u32 = 8;
    /// How many there are.
    pub const COUNT: u32 = 9;
}

/// Bits of [`RegionInfo::flags`].
pub mod region_flag {
    /// It can be read.
    pub const READ: u32 = 1;
    /// It can be written.
    pub const WRITE: u32 = 1 << 1;
    /// It can be mapped, in whole or in part, through the descriptor that comes with the reply.
    pub const MMAP: u32 = 1 << 2;
    /// Capabilities follow.
    pub const CAPS: u32 = 1 << 3;
}

/// DEVICE_GET_REGION_INFO and its reply, which capabilities may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegionInfo {
    /// Most bytes of a reply's payload; in a reply the size of a whole one.
    pub argsz: u32,
    /// See [`region_flag`].
    pub flags: u32,
    /// The region: see [`region`].
    pub index: u32,
    /// Where the first capability is, from the start of this structure.
    pub cap_offset: u32,
    /// Size of the region in bytes.
    pub size: u64,
    /// What to give to mmap as offset for the region's start.
    pub offset: u64,
}

/// The capability that says which parts of a region can be mapped; [`Area`]s follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SparseMmap {
    /// [`SparseMmap::ID`].
    pub id: u16,
    /// 1.
    pub version: u16,
    /// Where the next capability is; 0 for none.
    pub next: u32,
    /// How many areas follow.
    pub areas: u32,
    /// Zero.
    pub reserved: u32,
}

impl SparseMmap {
    /// The capability's number.
    pub const ID: u16 = 1;
}

/// A part of a region that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Area {
    /// Where it begins in the region.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// DEVICE_GET_REGION_IO_FDS and its reply, which [`IoEventFd`]s follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegionIoFds {
    /// Most bytes of a reply's payload; in a reply the size of a whole one.
    pub argsz: u32,
    /// Zero.
    pub flags: u32,
    /// The region.
    pub index: u32,
    /// How many entries follow.
    pub count: u32,
}

/// A part of a region whose writes a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IoEventFd {
    /// Where it begins in the region.
    pub offset: u64,
    /// Its size in bytes; 0 where the access may have any.
    pub size: u64,
    /// Which of the descriptors that come with the reply.
    pub fd_index: u32,
    /// 0, an ioeventfd.
    pub kind: u32,
    /// Flags of KVM_IOEVENTFD.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
    /// The value to be matched, where the flags say so.
    pub datamatch: u64,
}

/// Interrupt types of a PCI device.
pub mod irq {
    /// The pin.
    pub const INTX: u32 = 0;
    /// MSI.
    pub const MSI: u32 = 1;
    /// MSI-X.
    pub const MSIX: u32 = 2;
    /// The device met an error that it cannot recover from.
    pub const ERR: u32 = 3;
    /// The server wants the device back.
    pub const REQ: u32 = 4;
    /// How many there are.
    pub const COUNT: u32 = 5;
}

/// Bits of [`IrqInfo::flags`].
pub mod irq_flag {
    /// It can be connected to an eventfd.
    pub const EVENTFD: u32 = 1;
    /// It can be masked.
    pub const MASKABLE: u32 = 1 << 1;
    /// It masks itself when it is triggered.
    pub const AUTOMASKED: u32 = 1 << 2;
    /// Its interrupts are connected as a set.
    pub const NORESIZE: u32 = 1 << 3;
}

/// DEVICE_GET_IRQ_INFO and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IrqInfo {
    /// Most bytes of a reply's payload; in a reply its size.
    pub argsz: u32,
    /// See [`irq_flag`].
    pub flags: u32,
    /// The type: see [`irq`].
    pub index: u32,
    /// How many interrupts of the type there are.
    pub count: u32,
}

/// Bits of [`IrqSet::flags`]: one of data and one of actions.
pub mod irq_set_flag {
    /// No data: all in the range.
    pub const DATA_NONE: u32 = 1;
    /// A byte each: those that are not zero.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// A descriptor each, or none to disconnect them.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// Mask them; with descriptors, say when they are.
    pub const ACTION_MASK: u32 = 1 << 3;
    /// Unmask them; with descriptors, when those are signalled.
    pub const ACTION_UNMASK: u32 = 1 << 4;
    /// Trigger them; with descriptors, signal those when they are triggered.
    pub const ACTION_TRIGGER: u32 = 1 << 5;
}

/// DEVICE_SET_IRQS; a byte for each interrupt may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IrqSet {
    /// Size of this structure and what follows it.
    pub argsz: u32,
    /// See [`irq_set_flag`].
    pub flags: u32,
    /// The type.
    pub index: u32,
    /// The first interrupt.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// REGION_READ, REGION_WRITE and their replies; data may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegionAccess {
    /// Where in the region.
    pub offset: u64,
    /// The region.
    pub region: u32,
    /// How many bytes.
    pub count: u32,
}

/// DMA_READ, DMA_WRITE and their replies; data may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DmaAccess {
    /// The first address.
    pub address: u64,
    /// How many bytes. In the reply to DMA_WRITE some peers send no more than its lower half.
    pub count: u64,
}

/// What REGION_WRITE_MULTI begins with, and its reply; [`SmallWrite`]s follow in the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct WriteMulti {
    /// How many writes.
    pub count: u64,
}

/// A write of at most eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SmallWrite {
    /// Where in the region.
    pub offset: u64,
    /// The region.
    pub region: u32,
    /// How many bytes of `data`.
    pub count: u32,
    /// The data.
    pub data: [u8; 8],
}
