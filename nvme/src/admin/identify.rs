//! Identify (base 2.0, section 5.17; NVM command set 1.0, section 4.1.5). Only what works is claimed.

use zerocopy::{FromZeros, IntoBytes};

use super::{abort, events, give};
use crate::drive::Drive;
use crate::io::MDTS;
use crate::logs::{ERROR_ENTRIES, TEMPERATURE};
use crate::namespace::Namespace;
use crate::session::Session;
use crate::spec::identify::{self as layout, CSI_NVM, cns};
use crate::spec::{ALL_NAMESPACES, BLOCK, PAGE, Status, Submission, VERSION};

const PAGE_BYTES: usize = PAGE as usize;
/// ONCS: dataset management, write zeroes, select and save in features, timestamp.
const OPTIONAL_COMMANDS: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6;
/// LPA: commands supported and effects; extended data (NUMD, LPO); supported log pages.
const LOG_ATTRIBUTES: u8 = 1 << 1 | 1 << 2 | 1 << 5;
/// VWC: a write cache; Flush of all namespaces is supported.
const WRITE_CACHE: u8 = 1 | 0b11 << 1;
/// FRMW: one slot, read only.
const FIRMWARE: u8 = 1 | 1 << 1;
/// NSATTR: write protected.
const PROTECTED: u8 = 1;
/// Warning and critical composite temperatures in kelvins.
pub(super) const WARNING: u16 = TEMPERATURE + 45;
const CRITICAL: u16 = TEMPERATURE + 60;

/// Identify, by CNS and, for the structures of a command set, CSI.
pub(super) fn execute(session: &Session, command: &Submission) -> Result<(), Status> {
    let drive = &session.drive;
    let (selector, csi) = (command.cdw10 as u8, (command.cdw11 >> 24) as u8);
    let of_command_set = matches!(
        selector,
        cns::COMMAND_SET_NAMESPACE
            | cns::COMMAND_SET_CONTROLLER
            | cns::COMMAND_SET_ACTIVE_NAMESPACES
    );
    if of_command_set && csi != CSI_NVM {
        return Err(Status::INVALID_FIELD);
    }
    match selector {
        cns::NAMESPACE => give(session, command, &namespace(active(drive, command)?)),
        cns::CONTROLLER => give(session, command, controller(drive).as_bytes()),
        cns::ACTIVE_NAMESPACES | cns::COMMAND_SET_ACTIVE_NAMESPACES => {
            give(session, command, &list(drive, command.nsid)?)
        }
        cns::NAMESPACE_DESCRIPTORS => give(
            session,
            command,
            &descriptors(drive, active(drive, command)?),
        ),
        // No protection information, no storage tags: all zeroes.
        cns::COMMAND_SET_NAMESPACE => {
            active(drive, command)?;
            give(session, command, &[0; PAGE_BYTES])
        }
        cns::COMMAND_SET_CONTROLLER => {
            let limits = layout::CommandSetController::new_zeroed();
            give(session, command, limits.as_bytes())
        }
        cns::INDEPENDENT_NAMESPACE => {
            let mut data = layout::IndependentNamespace::new_zeroed();
            data.nsattr = attributes(active(drive, command)?);
            // NSTAT: ready.
            data.nstat = 1;
            give(session, command, data.as_bytes())
        }
        cns::COMMAND_SETS => {
            // The first combination of command sets is the NVM command set alone.
            let mut vectors = [0_u64; PAGE_BYTES / 8];
            vectors[0] = 1;
            give(session, command, vectors.as_bytes())
        }
        _ => Err(Status::INVALID_FIELD),
    }
}

fn active<'a>(drive: &'a Drive, command: &Submission) -> Result<&'a Namespace, Status> {
    drive.namespace(command.nsid).map(|namespace| &**namespace)
}

fn controller(drive: &Drive) -> layout::Controller {
    let identity = &drive.identity;
    let mut data = layout::Controller::new_zeroed();
    data.vid = identity.vendor;
    data.ssvid = identity.subsystem_vendor;
    data.sn = padded(&identity.serial);
    data.mn = padded(&identity.model);
    data.fr = padded(&identity.firmware);
    data.mdts = MDTS;
    data.ver = VERSION;
    data.rtd3e = u32::try_from(drive.shutdown_estimate.as_micros()).unwrap_or(u32::MAX);
    // An I/O controller.
    data.cntrltype = 1;
    data.acl_z = abort::LIMIT_Z;
    data.aerl_z = events::LIMIT_Z;
    data.frmw = FIRMWARE;
    data.lpa = LOG_ATTRIBUTES;
    data.elpe_z = (ERROR_ENTRIES - 1) as u8;
    data.wctemp = WARNING;
    data.cctemp = CRITICAL;
    // Entries of 64 and 16 bytes, required and maximum.
    data.sqes = 0x66;
    data.cqes = 0x44;
    data.nn = drive.namespaces.len() as u32;
    data.oncs = OPTIONAL_COMMANDS;
    data.vwc = WRITE_CACHE;
    let name = identity.qualified_name();
    data.subnqn[..name.len()].copy_from_slice(name.as_bytes());
    // One power state: 25 W.
    data.power_states[0].max_power = 2500;
    data
}

fn namespace(namespace: &Namespace) -> [u8; PAGE_BYTES] {
    let blocks = namespace.blocks();
    let mut data = layout::Namespace::new_zeroed();
    let mut formats = data.formats;
    formats[0].data_shift = BLOCK.trailing_zeros() as u8;
    data.formats = formats;
    data.nsze = blocks;
    data.ncap = blocks;
    data.nuse = blocks;
    if namespace.backend().deallocated_reads_zero() {
        // Deallocated blocks read as zeroes; Write Zeroes may deallocate.
        data.dlfeat = 0b001 | 1 << 3;
    }
    data.nvmcap = u128::from(namespace.backend().size());
    data.nsattr = attributes(namespace);
    zerocopy::transmute!(data)
}

fn attributes(namespace: &Namespace) -> u8 {
    if namespace.backend().read_only() {
        PROTECTED
    } else {
        0
    }
}

/// Identifiers above `after`, ascending; there is room for 1024.
fn list(drive: &Drive, after: u32) -> Result<[u8; PAGE_BYTES], Status> {
    if after >= ALL_NAMESPACES - 1 {
        return Err(Status::INVALID_NAMESPACE);
    }
    let mut ids = [0_u32; PAGE_BYTES / 4];
    let above = drive
        .namespaces
        .iter()
        .map(|namespace| namespace.id)
        .filter(|id| *id > after);
    for (place, id) in ids.iter_mut().zip(above) {
        *place = id;
    }
    Ok(zerocopy::transmute!(ids))
}

/// Namespace identification descriptors: UUID and command set.
fn descriptors(drive: &Drive, namespace: &Namespace) -> [u8; PAGE_BYTES] {
    const UUID: u8 = 3;
    const COMMAND_SET: u8 = 4;
    let mut data = [0; PAGE_BYTES];
    data[..4].copy_from_slice(&[UUID, 16, 0, 0]);
    data[4..20].copy_from_slice(&drive.identity.uuid(namespace.id));
    data[20..25].copy_from_slice(&[COMMAND_SET, 1, 0, 0, CSI_NVM]);
    data
}

/// ASCII, cut or padded with spaces, as the specification wants strings.
pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    let printable = |character: char| {
        if matches!(character, ' '..='~') {
            character as u8
        } else {
            b'?'
        }
    };
    for (place, byte) in field.iter_mut().zip(text.chars().map(printable)) {
        *place = byte;
    }
    field
}
