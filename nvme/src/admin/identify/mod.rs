//! Identify (base 2.0, section 5.17; NVM command set 1.0, section 4.1.5). Only what works is claimed.

mod controller;
mod namespace;

use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::{give, namespaces};
use crate::namespace::Namespace;
use crate::session::Session;
use crate::spec::identify::{self as layout, CSI_NVM, cns};
use crate::spec::{ALL_NAMESPACES, PAGE, Status, Submission};

pub(super) use controller::{CONTROLLER_ID, NAMESPACE_NOTICES, THERMAL, WARNING, padded};

const PAGE_BYTES: usize = PAGE as usize;

/// Identify, by CNS and, for the structures of a command set, CSI.
pub(super) fn execute(session: &Session, command: &Submission) -> Result<(), Status> {
    let drive = &session.drive;
    let (selector, csi) = (command.cdw10 as u8, (command.cdw11 >> 24) as u8);
    let of_command_set = matches!(
        selector,
        cns::COMMAND_SET_NAMESPACE
            | cns::COMMAND_SET_CONTROLLER
            | cns::COMMAND_SET_ACTIVE_NAMESPACES
            | cns::COMMAND_SET_ALLOCATED_NAMESPACES
            | cns::COMMAND_SET_ALLOCATED_NAMESPACE
    );
    let of_management = matches!(selector, cns::ALLOCATED_NAMESPACES..=cns::CONTROLLERS)
        || matches!(
            selector,
            cns::COMMAND_SET_ALLOCATED_NAMESPACES | cns::COMMAND_SET_ALLOCATED_NAMESPACE
        );
    if of_management && !namespaces::are_managed(drive) {
        return Err(Status::INVALID_FIELD);
    }
    if of_command_set && csi != CSI_NVM {
        return Err(Status::INVALID_FIELD);
    }
    let page = match selector {
        cns::NAMESPACE => namespace::active(drive, command.nsid)?,
        cns::CONTROLLER => zerocopy::transmute!(controller::data(drive)),
        cns::ACTIVE_NAMESPACES | cns::COMMAND_SET_ACTIVE_NAMESPACES => {
            namespace_list(&drive.namespaces.all_active(), command.nsid)?
        }
        cns::NAMESPACE_DESCRIPTORS => namespace::descriptors(drive, command.nsid)?,
        // No protection information, no storage tags: all zeroes.
        cns::COMMAND_SET_NAMESPACE => {
            drive.namespaces.allocated(command.nsid)?;
            [0; PAGE_BYTES]
        }
        cns::COMMAND_SET_CONTROLLER => {
            zerocopy::transmute!(layout::CommandSetController::new_zeroed())
        }
        cns::INDEPENDENT_NAMESPACE => namespace::independent(drive, command.nsid)?,
        cns::ALLOCATED_NAMESPACES | cns::COMMAND_SET_ALLOCATED_NAMESPACES => {
            namespace_list(&drive.namespaces.all(), command.nsid)?
        }
        cns::ALLOCATED_NAMESPACE => namespace::allocated(drive, command.nsid)?,
        cns::COMMAND_SET_ALLOCATED_NAMESPACE => {
            drive.namespaces.allocated(command.nsid)?;
            [0; PAGE_BYTES]
        }
        cns::ATTACHED_CONTROLLERS => {
            let namespace = drive.namespaces.allocated(command.nsid)?;
            let namespace = namespace.ok_or(Status::INVALID_FIELD)?;
            controller_list(command, namespace.is_attached())
        }
        cns::CONTROLLERS => controller_list(command, true),
        // The first combination of command sets is the NVM command set alone.
        cns::COMMAND_SETS => first(1),
        _ => return Err(Status::INVALID_FIELD),
    };
    give(session, command, &page)
}

/// Namespaces' identifiers above `after`, ascending; there is room for 1024.
fn namespace_list(namespaces: &[Arc<Namespace>], after: u32) -> Result<[u8; PAGE_BYTES], Status> {
    if after >= ALL_NAMESPACES - 1 {
        return Err(Status::INVALID_NAMESPACE);
    }
    let mut ids = [0_u32; PAGE_BYTES / 4];
    let above = namespaces.iter().map(|namespace| namespace.id);
    for (place, id) in ids.iter_mut().zip(above.filter(|id| *id > after)) {
        *place = id;
    }
    Ok(zerocopy::transmute!(ids))
}

/// A list of the controllers from CNTID on: the one that there is, or none.
fn controller_list(command: &Submission, there: bool) -> [u8; PAGE_BYTES] {
    // No identifier is smaller.
    let count = u64::from(there && (command.cdw10 >> 16) as u16 == CONTROLLER_ID);
    first(count | u64::from(CONTROLLER_ID) << 16)
}

/// A page of zeroes but for its first quadword.
fn first(value: u64) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    page[..8].copy_from_slice(value.as_bytes());
    page
}
