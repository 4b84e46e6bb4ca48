//! Get Log Page (base 2.0, section 5.16).

use zerocopy::{FromZeros, IntoBytes};

use super::{effects, events, features, give};
use crate::gate::lock;
use crate::selftest;
use crate::session::Session;
use crate::spec::log::{FirmwareSlots, id};
use crate::spec::{ALL_NAMESPACES, Status, Submission};

/// The longest piece of a log page handed over at a time: as much as any data transfer.
const MAX_LENGTH: u64 = crate::spec::PAGE << crate::io::MDTS;
const RETAIN_EVENT: u32 = 1 << 15;
const SUPPORTED: u32 = 1;

/// Reads a piece of a log page.
pub(super) fn get(session: &Session, command: &Submission) -> Result<(), Status> {
    let page = command.cdw10 as u8;
    let dwords = u64::from(command.cdw11 & 0xFFFF) << 16 | u64::from(command.cdw10 >> 16);
    let length = (dwords + 1) * 4;
    let offset = u64::from(command.cdw13) << 32 | u64::from(command.cdw12);
    // An offset counted in entries (OT) is not offered.
    if length > MAX_LENGTH || !offset.is_multiple_of(4) || command.cdw14 & 1 << 23 != 0 {
        return Err(Status::INVALID_FIELD);
    }
    let log = read(session, command, page)?;
    if offset > log.len() as u64 {
        return Err(Status::INVALID_FIELD);
    }
    let mut piece = log[offset as usize..].to_vec();
    // A host that asks for more than there is gets zeroes.
    piece.resize(length as usize, 0);
    give(session, command, &piece)?;
    if command.cdw10 & RETAIN_EVENT == 0 {
        events::unmask(session, page);
    }
    Ok(())
}

fn read(session: &Session, command: &Submission, page: u8) -> Result<Vec<u8>, Status> {
    let drive = &session.drive;
    Ok(match page {
        id::SUPPORTED_PAGES => dwords(256, PAGES.map(|page| (page.into(), SUPPORTED))),
        id::ERRORS => drive.logs.errors().as_bytes().to_vec(),
        id::SMART => {
            // One log for the whole controller (LPA bit 0 is clear).
            if command.nsid != 0 && command.nsid != ALL_NAMESPACES {
                return Err(Status::INVALID_FIELD);
            }
            let warning = lock(&session.features).critical_warning();
            drive.logs.smart(warning).as_bytes().to_vec()
        }
        id::FIRMWARE_SLOTS => {
            let mut slots = FirmwareSlots::new_zeroed();
            slots.active = 1;
            slots.revision[0] = super::identify::padded(&drive.identity.firmware);
            slots.as_bytes().to_vec()
        }
        id::CHANGED_NAMESPACES => events::changed_namespaces(session).as_bytes().to_vec(),
        id::COMMAND_EFFECTS => dwords(1024, effects::table(drive)),
        id::SELF_TEST => selftest::page(drive),
        id::SANITIZE => drive.sanitize.status(drive).as_bytes().to_vec(),
        id::FEATURE_EFFECTS => {
            let known = (0..=u8::MAX).filter(|id| features::is_supported(drive, *id));
            dwords(256, known.map(|id| (id.into(), SUPPORTED)))
        }
        _ => return Err(Status::INVALID_LOG_PAGE),
    })
}

const PAGES: [u8; 9] = [
    id::SUPPORTED_PAGES,
    id::ERRORS,
    id::SMART,
    id::FIRMWARE_SLOTS,
    id::CHANGED_NAMESPACES,
    id::COMMAND_EFFECTS,
    id::FEATURE_EFFECTS,
    id::SELF_TEST,
    id::SANITIZE,
];

/// `count` dwords, zero but for `set`.
fn dwords(count: usize, set: impl IntoIterator<Item = (usize, u32)>) -> Vec<u8> {
    let mut table = vec![0_u32; count];
    for (index, value) in set {
        if let Some(place) = table.get_mut(index) {
            *place = value;
        }
    }
    table.as_bytes().to_vec()
}
