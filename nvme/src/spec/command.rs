//! Queue entries and opcodes (base 2.0, sections 3.3.3, 5 and 7; NVM command set 1.0, section 3).

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::Status;

/// A submission queue entry (base 2.0, figure 87).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Submission {
    /// Opcode.
    pub opcode: u8,
    /// Fused operation in bits 1:0, PRP or SGL in bits 7:6.
    pub flags: u8,
    /// Command identifier.
    pub cid: u16,
    /// Namespace identifier.
    pub nsid: u32,
    /// Command dword 2.
    pub cdw2: u32,
    /// Command dword 3.
    pub cdw3: u32,
    /// Metadata pointer.
    pub mptr: u64,
    /// Data pointer: PRP entry 1.
    pub prp1: u64,
    /// Data pointer: PRP entry 2.
    pub prp2: u64,
    /// Command dword 10.
    pub cdw10: u32,
    /// Command dword 11.
    pub cdw11: u32,
    /// Command dword 12.
    pub cdw12: u32,
    /// Command dword 13.
    pub cdw13: u32,
    /// Command dword 14.
    pub cdw14: u32,
    /// Command dword 15.
    pub cdw15: u32,
}

impl Submission {
    /// Bytes of an entry.
    pub const SIZE: u64 = size_of::<Self>() as u64;

    /// An entry of zeroes.
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }

    /// Dwords 10 and 11 as a starting block.
    pub fn starting_block(&self) -> u64 {
        u64::from(self.cdw11) << 32 | u64::from(self.cdw10)
    }

    /// The zero-based block count of dword 12, made one-based.
    pub fn block_count(&self) -> u64 {
        u64::from(self.cdw12 & 0xFFFF) + 1
    }

    /// The low 16 bits of dword 10: a queue identifier in queue commands.
    pub fn queue_id(&self) -> u16 {
        self.cdw10 as u16
    }
}

/// A completion queue entry (base 2.0, figure 90).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Completion {
    /// Command specific result.
    pub dw0: u32,
    /// Command specific result, upper half.
    pub dw1: u32,
    /// The submission queue's head when the entry was made.
    pub sq_head: u16,
    /// The submission queue's identifier.
    pub sq_id: u16,
    /// Command identifier.
    pub cid: u16,
    /// Status in bits 15:1, phase in bit 0.
    pub status_phase: u16,
}

impl Completion {
    /// Bytes of an entry.
    pub const SIZE: u64 = size_of::<Self>() as u64;

    /// A completion of `command` with no phase yet.
    pub fn of(command: &Submission, sq_id: u16, sq_head: u16, status: Status, dw0: u32) -> Self {
        Self {
            dw0,
            dw1: 0,
            sq_head,
            sq_id,
            cid: command.cid,
            status_phase: status.bits() << 1,
        }
    }
}

/// A range of Dataset Management (NVM command set 1.0, figure 46).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DsmRange {
    /// Hints on how the range is used.
    pub attributes: u32,
    /// Length in blocks.
    pub blocks: u32,
    /// The first block.
    pub starting_block: u64,
}

/// A source range of Copy, format 0 (NVM command set 1.0, figure 38).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CopyRange {
    reserved: [u8; 8],
    /// The first block.
    pub starting_block: u64,
    /// Length in blocks, zero-based.
    pub blocks_z: u16,
    /// Reserved, and what protection information is checked against.
    rest: [u8; 14],
}

impl CopyRange {
    /// `blocks` blocks (1 to 65536) from `starting_block`.
    pub fn new(starting_block: u64, blocks: u32) -> Self {
        Self {
            starting_block,
            blocks_z: blocks.saturating_sub(1) as u16,
            ..Self::default()
        }
    }
}

const _: () = assert!(size_of::<CopyRange>() == 32);
/// A descriptor of a scatter gather list (base 2.0, figure 94).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SglDescriptor {
    /// Where the data or the next segment is.
    pub address: u64,
    /// Bytes of it.
    pub length: u32,
    reserved: [u8; 3],
    /// Type in bits 7:4, subtype in bits 3:0.
    pub identifier: u8,
}

impl SglDescriptor {
    /// A descriptor of `length` bytes at `address`.
    pub fn new(identifier: u8, address: u64, length: u32) -> Self {
        Self {
            address,
            length,
            reserved: [0; 3],
            identifier,
        }
    }
}

/// SGL descriptor types with the subtype of an address (base 2.0, figures 95 and 96).
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod sgl {
    pub const DATA_BLOCK: u8 = 0x00;
    pub const SEGMENT: u8 = 0x20;
    pub const LAST_SEGMENT: u8 = 0x30;
}

const _: () = assert!(size_of::<SglDescriptor>() == 16);
const _: () = assert!(size_of::<Submission>() == 64);
const _: () = assert!(size_of::<Completion>() == 16);
const _: () = assert!(size_of::<DsmRange>() == 16);

/// Admin command opcodes (base 2.0, figure 138).
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod admin {
    pub const DELETE_SQ: u8 = 0x00;
    pub const CREATE_SQ: u8 = 0x01;
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const DELETE_CQ: u8 = 0x04;
    pub const CREATE_CQ: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0A;
    pub const DOORBELL_BUFFER_CONFIG: u8 = 0x7C;
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0C;
    pub const NAMESPACE_MANAGEMENT: u8 = 0x0D;
    pub const SELF_TEST: u8 = 0x14;
    pub const NAMESPACE_ATTACHMENT: u8 = 0x15;
    pub const KEEP_ALIVE: u8 = 0x18;
    pub const FORMAT: u8 = 0x80;
    pub const SANITIZE: u8 = 0x84;
}

/// I/O command opcodes (NVM command set 1.0, figure 15).
#[expect(missing_docs, reason = "the names are the specification's")]
pub mod io {
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    pub const VERIFY: u8 = 0x0C;
    pub const COPY: u8 = 0x19;
}
