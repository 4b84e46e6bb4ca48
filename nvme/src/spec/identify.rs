//! Identify data structures (base 2.0, section 5.17.2; NVM command set 1.0, section 4.1.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Controller or namespace structure selectors (base 2.0, figure 273).
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod cns {
    pub const NAMESPACE: u8 = 0x00;
    pub const CONTROLLER: u8 = 0x01;
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    pub const COMMAND_SET_NAMESPACE: u8 = 0x05;
    pub const COMMAND_SET_CONTROLLER: u8 = 0x06;
    pub const COMMAND_SET_ACTIVE_NAMESPACES: u8 = 0x07;
    pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
    pub const ALLOCATED_NAMESPACES: u8 = 0x10;
    pub const ALLOCATED_NAMESPACE: u8 = 0x11;
    pub const ATTACHED_CONTROLLERS: u8 = 0x12;
    pub const CONTROLLERS: u8 = 0x13;
    pub const COMMAND_SET_ALLOCATED_NAMESPACES: u8 = 0x1A;
    pub const COMMAND_SET_ALLOCATED_NAMESPACE: u8 = 0x1B;
    pub const COMMAND_SETS: u8 = 0x1C;
}

/// The command set identifier of the NVM command set.
pub const CSI_NVM: u8 = 0;

/// A power state descriptor (base 2.0, figure 276).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PowerState {
    /// Maximum power in centiwatts.
    pub max_power: u16,
    reserved: u8,
    /// Scale and non-operational flags.
    pub flags: u8,
    /// Entry latency in microseconds.
    pub entry_latency: u32,
    /// Exit latency in microseconds.
    pub exit_latency: u32,
    rest: [u8; 20],
}

/// Identify Controller, CNS 01h (base 2.0, figure 275; NVM command set 1.0, figure 108).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Controller {
    pub vid: u16,
    pub ssvid: u16,
    pub sn: [u8; 20],
    pub mn: [u8; 40],
    pub fr: [u8; 8],
    pub rab: u8,
    pub ieee: [u8; 3],
    pub cmic: u8,
    pub mdts: u8,
    pub cntlid: u16,
    pub ver: u32,
    pub rtd3r: u32,
    pub rtd3e: u32,
    pub oaes: u32,
    pub ctratt: u32,
    pub rrls: u16,
    reserved_102: [u8; 9],
    pub cntrltype: u8,
    pub fguid: [u8; 16],
    pub crdt: [u16; 3],
    reserved_134: [u8; 119],
    pub nvmsr: u8,
    pub vwci: u8,
    pub mec: u8,
    pub oacs: u16,
    pub acl_z: u8,
    pub aerl_z: u8,
    pub frmw: u8,
    pub lpa: u8,
    pub elpe_z: u8,
    pub npss_z: u8,
    pub avscc: u8,
    pub apsta: u8,
    pub wctemp: u16,
    pub cctemp: u16,
    pub mtfa: u16,
    pub hmpre: u32,
    pub hmmin: u32,
    pub tnvmcap: u128,
    pub unvmcap: u128,
    pub rpmbs: u32,
    pub edstt: u16,
    pub dsto: u8,
    pub fwug: u8,
    pub kas: u16,
    pub hctma: u16,
    pub mntmt: u16,
    pub mxtmt: u16,
    pub sanicap: u32,
    reserved_332: [u8; 180],
    pub sqes: u8,
    pub cqes: u8,
    pub maxcmd: u16,
    pub nn: u32,
    pub oncs: u16,
    pub fuses: u16,
    pub fna: u8,
    pub vwc: u8,
    pub awun_z: u16,
    pub awupf_z: u16,
    pub icsvscc: u8,
    pub nwpc: u8,
    pub acwu_z: u16,
    pub cdfs: u16,
    pub sgls: u32,
    pub mnan: u32,
    reserved_544: [u8; 224],
    pub subnqn: [u8; 256],
    reserved_1024: [u8; 1024],
    pub power_states: [PowerState; 32],
    reserved_3072: [u8; 1024],
}

/// An LBA format (NVM command set 1.0, figure 98).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BlockFormat {
    /// Metadata bytes a block.
    pub metadata: u16,
    /// Data bytes of a block, a power of two.
    pub data_shift: u8,
    /// Relative performance, best is zero.
    pub performance: u8,
}

/// Identify Namespace, CNS 00h (NVM command set 1.0, figure 97).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Namespace {
    pub nsze: u64,
    pub ncap: u64,
    pub nuse: u64,
    pub nsfeat: u8,
    pub nlbaf_z: u8,
    pub flbas: u8,
    pub mc: u8,
    pub dpc: u8,
    pub dps: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    pub dlfeat: u8,
    pub nawun_z: u16,
    pub nawupf_z: u16,
    pub nacwu_z: u16,
    pub nabsn: u16,
    pub nabo: u16,
    pub nabspf: u16,
    pub noiob: u16,
    pub nvmcap: u128,
    pub npwg_z: u16,
    pub npwa_z: u16,
    pub npdg_z: u16,
    pub npda_z: u16,
    pub nows_z: u16,
    pub mssrl: u16,
    pub mcl: u32,
    pub msrc_z: u8,
    reserved_81: [u8; 11],
    pub anagrpid: u32,
    reserved_96: [u8; 3],
    pub nsattr: u8,
    pub nvmsetid: u16,
    pub endgid: u16,
    pub nguid: [u8; 16],
    pub eui64: [u8; 8],
    pub formats: [BlockFormat; 64],
    reserved_384: [u8; 3712],
}

/// I/O command set independent Identify Namespace, CNS 08h (base 2.0, figure 280).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct IndependentNamespace {
    pub nsfeat: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    pub anagrpid: u32,
    pub nsattr: u8,
    reserved_9: u8,
    pub nvmsetid: u16,
    pub endgid: u16,
    pub nstat: u8,
    reserved_15: [u8; 4081],
}

/// I/O command set specific Identify Controller of the NVM command set, CNS 06h (NVM command set 1.0,
/// figure 105). Zero says "no limit beyond MDTS and the block count field".
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct CommandSetController {
    pub vsl: u8,
    pub wzsl: u8,
    pub wusl: u8,
    pub dmrl: u8,
    pub dmrsl: u32,
    pub dmsl: u64,
    reserved_16: [u8; 4080],
}

const _: () = assert!(size_of::<PowerState>() == 32);
const _: () = assert!(size_of::<Controller>() == 4096);
const _: () = assert!(size_of::<Namespace>() == 4096);
const _: () = assert!(size_of::<IndependentNamespace>() == 4096);
const _: () = assert!(size_of::<CommandSetController>() == 4096);
const _: () = assert!(std::mem::offset_of!(Controller, cntrltype) == 111);
const _: () = assert!(std::mem::offset_of!(Controller, oacs) == 256);
const _: () = assert!(std::mem::offset_of!(Controller, edstt) == 316);
const _: () = assert!(std::mem::offset_of!(Controller, sanicap) == 328);
const _: () = assert!(std::mem::offset_of!(Controller, sqes) == 512);
const _: () = assert!(std::mem::offset_of!(Controller, subnqn) == 768);
const _: () = assert!(std::mem::offset_of!(Controller, power_states) == 2048);
const _: () = assert!(std::mem::offset_of!(Namespace, mssrl) == 74);
const _: () = assert!(std::mem::offset_of!(Namespace, anagrpid) == 92);
const _: () = assert!(std::mem::offset_of!(Namespace, nsattr) == 99);
const _: () = assert!(std::mem::offset_of!(Namespace, nguid) == 104);
const _: () = assert!(std::mem::offset_of!(Namespace, formats) == 128);
