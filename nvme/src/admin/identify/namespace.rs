//! What Identify says of a namespace (NVM command set 1.0, figure 97; base 2.0, figures 277 and 280).

use zerocopy::FromZeros;

use super::super::namespaces;
use super::PAGE_BYTES;
use crate::drive::Drive;
use crate::io::{MAX_COPY, MAX_RANGE, MAX_RANGES};
use crate::namespace::Namespace;
use crate::spec::identify::{self as layout, CSI_NVM};
use crate::spec::{ALL_NAMESPACES, BLOCK_SIZES, Status};

/// NSATTR: write protected.
const PROTECTED: u8 = 1;
/// NSFEAT: NGUID and EUI-64 are never used again for another namespace.
const NAMES_NOT_REUSED: u8 = 1 << 3;
/// NSTAT: ready.
const READY: u8 = 1;

/// CNS 00h. An inactive namespace reads as zeroes; that of all says what all of them have.
pub(super) fn active(drive: &Drive, id: u32) -> Result<[u8; PAGE_BYTES], Status> {
    if id == ALL_NAMESPACES && namespaces::are_managed(drive) {
        return Ok(zerocopy::transmute!(common()));
    }
    let namespace = drive.namespaces.allocated(id)?;
    let active = namespace.filter(|namespace| namespace.is_attached());
    Ok(active.map_or([0; PAGE_BYTES], |namespace| data(&namespace)))
}

/// CNS 11h: whether attached or not.
pub(super) fn allocated(drive: &Drive, id: u32) -> Result<[u8; PAGE_BYTES], Status> {
    if id == ALL_NAMESPACES {
        return active(drive, id);
    }
    let namespace = drive.namespaces.allocated(id)?;
    Ok(namespace.map_or([0; PAGE_BYTES], |namespace| data(&namespace)))
}

fn data(namespace: &Namespace) -> [u8; PAGE_BYTES] {
    let shift = namespace.block_shift();
    let blocks = namespace.blocks();
    let mut data = common();
    data.nsze = blocks;
    data.ncap = blocks;
    data.nuse = blocks;
    data.nsfeat = NAMES_NOT_REUSED;
    data.flbas = BLOCK_SIZES
        .iter()
        .position(|size| size.trailing_zeros() == u32::from(shift))
        .unwrap_or(0) as u8;
    if namespace.backend().deallocated_reads_zero() {
        // Deallocated blocks read as zeroes; Write Zeroes may deallocate.
        data.dlfeat = 0b001 | 1 << 3;
    }
    // What a block leaves of limits in bytes; those divide all block sizes.
    data.mssrl = (MAX_RANGE >> shift) as u16;
    data.mcl = (MAX_COPY >> shift) as u32;
    data.msrc_z = (MAX_RANGES - 1) as u8;
    data.nvmcap = u128::from(blocks << shift);
    data.nsattr = attributes(namespace);
    data.nguid = namespace.names.nguid;
    data.eui64 = namespace.names.eui64;
    zerocopy::transmute!(data)
}

/// What every namespace has: the LBA formats.
fn common() -> layout::Namespace {
    let mut data = layout::Namespace::new_zeroed();
    let mut formats = data.formats;
    for (format, size) in formats.iter_mut().zip(BLOCK_SIZES) {
        format.data_shift = size.trailing_zeros() as u8;
    }
    data.formats = formats;
    data.nlbaf_z = (BLOCK_SIZES.len() - 1) as u8;
    data
}

fn attributes(namespace: &Namespace) -> u8 {
    if namespace.backend().read_only() {
        PROTECTED
    } else {
        0
    }
}

/// CNS 08h.
pub(super) fn independent(drive: &Drive, id: u32) -> Result<[u8; PAGE_BYTES], Status> {
    let mut data = layout::IndependentNamespace::new_zeroed();
    let namespace = drive.namespaces.allocated(id)?;
    if let Some(namespace) = namespace.filter(|namespace| namespace.is_attached()) {
        data.nsfeat = NAMES_NOT_REUSED;
        data.nsattr = attributes(&namespace);
        data.nstat = READY;
    }
    Ok(zerocopy::transmute!(data))
}

/// CNS 03h: namespace identification descriptors, each with type, length and two reserved bytes before it.
pub(super) fn descriptors(drive: &Drive, id: u32) -> Result<[u8; PAGE_BYTES], Status> {
    const EUI64: u8 = 1;
    const NGUID: u8 = 2;
    const UUID: u8 = 3;
    const COMMAND_SET: u8 = 4;
    let namespace = drive.namespaces.active(id)?;
    let names = namespace.names;
    let all: [(u8, &[u8]); 4] = [
        (EUI64, &names.eui64),
        (NGUID, &names.nguid),
        (UUID, &names.uuid),
        (COMMAND_SET, &[CSI_NVM]),
    ];
    let mut data = [0; PAGE_BYTES];
    let mut at = 0;
    for (kind, value) in all {
        data[at] = kind;
        data[at + 1] = value.len() as u8;
        data[at + 4..at + 4 + value.len()].copy_from_slice(value);
        at += 4 + value.len();
    }
    Ok(data)
}
