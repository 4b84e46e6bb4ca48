//! What stands in messages: the header, the commands, and in the modules below their payloads. Numbers
//! are in the byte order of the host, which both sides share.

mod payload;
mod version;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use payload::*;
pub use version::{Capabilities, Proposal, ProposalError};

/// The protocol's major version.
pub const MAJOR: u16 = 0;
/// The highest minor version spoken.
pub const MINOR: u16 = 1;

/// Data of one read or write unless negotiated otherwise, in bytes.
pub const DEFAULT_TRANSFER: u32 = 1 << 20;
/// Descriptors a message may carry unless negotiated otherwise.
pub const DEFAULT_DESCRIPTORS: u32 = 1;

/// What precedes each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// Chosen by the sender of a command, repeated in the reply.
    pub id: u16,
    /// The command: see [`command`].
    pub command: u16,
    /// Size of the message in bytes, header included.
    pub size: u32,
    /// Type and options: see [`flag`].
    pub flags: u32,
    /// An errno in a reply with [`flag::ERROR`].
    pub error: u32,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = size_of::<Self>();

    /// The header of a command with `payload` bytes.
    pub fn command(id: u16, command: u16, payload: usize) -> Self {
        Self {
            id,
            command,
            size: (Self::SIZE + payload) as u32,
            flags: flag::COMMAND,
            error: 0,
        }
    }

    /// The header of the reply to this command, with `payload` bytes.
    pub fn reply(&self, payload: usize) -> Self {
        Self {
            size: (Self::SIZE + payload) as u32,
            flags: flag::REPLY,
            error: 0,
            ..*self
        }
    }

    /// The header of the reply that says that this command failed with `errno`.
    pub fn failure(&self, errno: i32) -> Self {
        Self {
            flags: flag::REPLY | flag::ERROR,
            error: errno.unsigned_abs(),
            ..self.reply(0)
        }
    }

    /// Whether it is a reply, `None` where it is neither that nor a command.
    pub fn is_reply(&self) -> Option<bool> {
        match self.flags & flag::TYPE {
            flag::COMMAND => Some(false),
            flag::REPLY => Some(true),
            _ => None,
        }
    }

    /// Whether the sender wants no reply to this command.
    pub fn wants_no_reply(&self) -> bool {
        self.flags & flag::NO_REPLY != 0
    }
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The bits that tell commands from replies.
    pub const TYPE: u32 = 0xF;
    /// The type of a command.
    pub const COMMAND: u32 = 0;
    /// The type of a reply.
    pub const REPLY: u32 = 1;
    /// The command wants no reply.
    pub const NO_REPLY: u32 = 1 << 4;
    /// The reply says that the command failed.
    pub const ERROR: u32 = 1 << 5;
}

/// Values of [`Header::command`]. All are sent by the client but those that access its memory.
pub mod command {
    /// Agree on a version and on limits; the first message of a connection.
    pub const VERSION: u16 = 1;
    /// Give the device a range of memory.
    pub const DMA_MAP: u16 = 2;
    /// Take it back.
    pub const DMA_UNMAP: u16 = 3;
    /// Ask how many regions and interrupt types the device has.
    pub const DEVICE_GET_INFO: u16 = 4;
    /// Ask about one region.
    pub const DEVICE_GET_REGION_INFO: u16 = 5;
    /// Ask for descriptors that stand for writes to parts of a region.
    pub const DEVICE_GET_REGION_IO_FDS: u16 = 6;
    /// Ask about one interrupt type.
    pub const DEVICE_GET_IRQ_INFO: u16 = 7;
    /// Connect, mask, unmask or trigger interrupts.
    pub const DEVICE_SET_IRQS: u16 = 8;
    /// Read from a region.
    pub const REGION_READ: u16 = 9;
    /// Write to a region.
    pub const REGION_WRITE: u16 = 10;
    /// Read the client's memory; sent by the server.
    pub const DMA_READ: u16 = 11;
    /// Write the client's memory; sent by the server.
    pub const DMA_WRITE: u16 = 12;
    /// Reset the device.
    pub const DEVICE_RESET: u16 = 13;
    /// Several small writes to regions.
    pub const REGION_WRITE_MULTI: u16 = 15;
}

#[cfg(test)]
mod tests;
