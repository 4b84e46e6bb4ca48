//! The configuration space of the device itself, as it was when the function was made.

use crate::client::{Client, region};
use crate::function::FunctionError;

/// The space of a conventional function.
const CONVENTIONAL: usize = 256;
/// The space of a PCI Express function.
const EXPRESS: usize = 4096;
const CAPABILITY_POINTER: u16 = 0x34;
const STATUS_CAPABILITIES: u32 = 1 << 20;
const FIRST_CAPABILITY: u16 = 0x40;
const FIRST_EXTENDED: u16 = 0x100;

/// A capability, and how many bytes there are up to the next one or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    /// Its id; those of the two spaces are counted apart.
    pub(super) id: u16,
    /// Where it begins.
    pub(super) at: u16,
    /// The bytes that can be its.
    pub(super) room: u16,
}

/// See the module's header.
pub(super) struct Physical {
    bytes: Vec<u8>,
}

impl Physical {
    /// Reads it.
    pub(super) fn read(client: &dyn Client) -> Result<Self, FunctionError> {
        let device = || client.name().to_owned();
        let size = client.region(region::CONFIG).size;
        let mut bytes = vec![
            0;
            if size < EXPRESS as u64 {
                CONVENTIONAL
            } else {
                EXPRESS
            }
        ];
        if size < CONVENTIONAL as u64 {
            return Err(FunctionError::ConfigSpace {
                device: device(),
                size,
            });
        }
        for (chunk, offset) in bytes
            .chunks_mut(CONVENTIONAL)
            .zip((0..).step_by(CONVENTIONAL))
        {
            client.read(region::CONFIG, offset, chunk)?;
        }
        let space = Self { bytes };
        if matches!(space.word(0), 0 | u16::MAX) {
            return Err(FunctionError::Absent { device: device() });
        }
        match space.byte(0x0E) & 0x7F {
            0 => Ok(space),
            header => Err(FunctionError::NotAnEndpoint {
                device: device(),
                header,
            }),
        }
    }

    /// Whether it has the extended space.
    pub(super) fn is_extended(&self) -> bool {
        self.bytes.len() > CONVENTIONAL
    }

    /// The 32 bits at `offset`, zero beyond the end.
    pub(super) fn dword(&self, offset: u16) -> u32 {
        let bytes = self.bytes.get(usize::from(offset)..);
        let bytes = bytes.and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The 16 bits at `offset`.
    pub(super) fn word(&self, offset: u16) -> u16 {
        self.dword(offset) as u16
    }

    /// The byte at `offset`.
    pub(super) fn byte(&self, offset: u16) -> u8 {
        self.dword(offset) as u8
    }

    /// Its capabilities in their order. A list that does not end, or leads out of its space, is cut there.
    pub(super) fn capabilities(&self) -> Vec<Capability> {
        if self.dword(0x04) & STATUS_CAPABILITIES == 0 {
            return Vec::new();
        }
        let first = u16::from(self.byte(CAPABILITY_POINTER) & !3);
        let found = walk(first, FIRST_CAPABILITY..CONVENTIONAL as u16, |at| {
            let header = self.word(at);
            (header & 0xFF, header >> 8 & !3)
        });
        with_room(found, CONVENTIONAL as u16)
    }

    /// Its extended capabilities in their order, with the same care.
    pub(super) fn extended_capabilities(&self) -> Vec<Capability> {
        if !self.is_extended() {
            return Vec::new();
        }
        let found = walk(FIRST_EXTENDED, FIRST_EXTENDED..EXPRESS as u16, |at| {
            let header = self.dword(at);
            (header as u16, (header >> 20) as u16 & !3)
        });
        with_room(found, EXPRESS as u16)
    }
}

/// Follows a list from `first` by what `header` says of a place: its id, and the next one.
fn walk(
    first: u16,
    space: std::ops::Range<u16>,
    header: impl Fn(u16) -> (u16, u16),
) -> Vec<(u16, u16)> {
    let mut found: Vec<(u16, u16)> = Vec::new();
    let mut at = first;
    while space.contains(&at) && found.iter().all(|(_, seen)| *seen != at) {
        let (id, next) = header(at);
        found.push((id, at));
        at = next;
    }
    found
}

fn with_room(found: Vec<(u16, u16)>, end: u16) -> Vec<Capability> {
    let following = |at: u16| {
        let starts = found.iter().map(|(_, start)| *start);
        starts.filter(|start| *start > at).min().unwrap_or(end)
    };
    let capabilities = found.iter().map(|(id, at)| Capability {
        id: *id,
        at: *at,
        room: following(*at) - at,
    });
    capabilities.collect()
}
