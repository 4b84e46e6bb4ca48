//! Controller registers of the PCIe transport (base 2.0, section 3.1.3).

use bitfield_struct::bitfield;

/// Byte offsets of the registers in BAR 0.
pub mod offset {
    /// Controller capabilities, 8 bytes.
    pub const CAP: u64 = 0x00;
    /// Upper half of the capabilities.
    pub const CAP_HIGH: u64 = 0x04;
    /// Version.
    pub const VS: u64 = 0x08;
    /// Interrupt mask set.
    pub const INTMS: u64 = 0x0C;
    /// Interrupt mask clear.
    pub const INTMC: u64 = 0x10;
    /// Controller configuration.
    pub const CC: u64 = 0x14;
    /// Controller status.
    pub const CSTS: u64 = 0x1C;
    /// NVM subsystem reset.
    pub const NSSR: u64 = 0x20;
    /// Admin queue attributes.
    pub const AQA: u64 = 0x24;
    /// Admin submission queue base address, 8 bytes.
    pub const ASQ: u64 = 0x28;
    /// Upper half of the admin submission queue base address.
    pub const ASQ_HIGH: u64 = 0x2C;
    /// Admin completion queue base address, 8 bytes.
    pub const ACQ: u64 = 0x30;
    /// Upper half of the admin completion queue base address.
    pub const ACQ_HIGH: u64 = 0x34;
    /// NVM subsystem shutdown.
    pub const NSSD: u64 = 0x64;
    /// Controller ready time-outs.
    pub const CRTO: u64 = 0x68;
    /// The first doorbell.
    pub const DOORBELLS: u64 = 0x1000;
}

/// Controller capabilities (3.1.3.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Capabilities {
    /// Maximum queue entries supported, zero-based.
    pub mqes_z: u16,
    /// Contiguous queues required.
    pub cqr: bool,
    /// Arbitration mechanisms beside round robin.
    #[bits(2)]
    pub ams: u8,
    #[bits(5)]
    __: u8,
    /// Time-out in 500 ms units.
    pub to: u8,
    /// Doorbell stride: 2^(2 + dstrd) bytes.
    #[bits(4)]
    pub dstrd: u8,
    /// NVM subsystem reset supported.
    pub nssrs: bool,
    /// Command sets supported: bit 0 NVM, bit 6 one or more I/O command sets.
    pub css: u8,
    /// Boot partition support.
    pub bps: bool,
    /// Controller power scope.
    #[bits(2)]
    pub cps: u8,
    /// Smallest memory page size: 2^(12 + mpsmin).
    #[bits(4)]
    pub mpsmin: u8,
    /// Largest memory page size: 2^(12 + mpsmax).
    #[bits(4)]
    pub mpsmax: u8,
    /// Persistent memory region supported.
    pub pmrs: bool,
    /// Controller memory buffer supported.
    pub cmbs: bool,
    /// NVM subsystem shutdown supported.
    pub nsss: bool,
    /// Controller ready modes: bit 0 with media, bit 1 independent of media.
    #[bits(2)]
    pub crms: u8,
    #[bits(3)]
    __: u8,
}

/// Controller configuration (3.1.3.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Configuration {
    /// Enable.
    pub en: bool,
    #[bits(3)]
    __: u8,
    /// I/O command set selected: 0 NVM, 6 all supported I/O command sets, 7 admin only.
    #[bits(3)]
    pub css: u8,
    /// Memory page size: 2^(12 + mps).
    #[bits(4)]
    pub mps: u8,
    /// Arbitration mechanism selected.
    #[bits(3)]
    pub ams: u8,
    /// Shutdown notification: 0 none, 1 normal, 2 abrupt.
    #[bits(2)]
    pub shn: u8,
    /// I/O submission queue entry size, a power of two.
    #[bits(4)]
    pub iosqes: u8,
    /// I/O completion queue entry size, a power of two.
    #[bits(4)]
    pub iocqes: u8,
    /// Controller ready independent of media enable.
    pub crime: bool,
    #[bits(7)]
    __: u8,
}

/// Controller status (3.1.3.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ControllerStatus {
    /// Ready.
    pub rdy: bool,
    /// Controller fatal status.
    pub cfs: bool,
    /// Shutdown status: 0 normal, 1 occurring, 2 complete.
    #[bits(2)]
    pub shst: u8,
    /// NVM subsystem reset occurred.
    pub nssro: bool,
    /// Processing paused.
    pub pp: bool,
    /// Shutdown type.
    pub st: bool,
    #[bits(25)]
    __: u32,
}

/// Admin queue attributes (3.1.3.8).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AdminQueueAttributes {
    /// Admin submission queue size, zero-based.
    #[bits(12)]
    pub asqs_z: u16,
    #[bits(4)]
    __: u8,
    /// Admin completion queue size, zero-based.
    #[bits(12)]
    pub acqs_z: u16,
    #[bits(4)]
    __: u8,
}

/// The shutdown notification that a host writes to CC.SHN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownKind {
    /// SHN = 01b.
    Normal,
    /// SHN = 10b.
    Abrupt,
}
