//! Layouts of the NVM Express base specification 2.0 and the NVM command set specification 1.0:
//! pure data, sizes asserted, no behaviour.

pub mod command;
pub mod feature;
pub mod identify;
pub mod log;
pub mod registers;
pub mod status;

pub use command::{Completion, CopyRange, DsmRange, Submission};
pub use status::Status;

/// Bytes of a memory page: the one page size offered (CAP.MPSMIN = CAP.MPSMAX = 0).
pub const PAGE: u64 = 4096;

/// Bytes of the smallest logical block: what storage comes in.
pub const BLOCK: u64 = 512;

/// Bytes of a logical block by the number of its LBA format.
pub const BLOCK_SIZES: [u32; 2] = [512, 4096];

/// The namespace id that addresses every namespace (base 2.0, 3.2.1.2).
pub const ALL_NAMESPACES: u32 = u32::MAX;

/// The version offered in VS and in Identify: 2.0.0.
pub const VERSION: u32 = 0x0002_0000;
