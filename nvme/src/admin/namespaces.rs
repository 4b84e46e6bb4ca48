//! Namespace Management and Namespace Attachment (base 2.0, sections 5.21 and 5.20), for a drive with a store.
//! Configured namespaces can be detached, not deleted: they are not the guest's.

use std::sync::Arc;

use tracing::warn;
use zerocopy::{FromZeros, IntoBytes};

use super::{events, identify};
use crate::data_pointer::DataPointer;
use crate::drive::Drive;
use crate::gate::lock;
use crate::namespaces::created_namespace;
use crate::respond::{Deferred, Outcome};
use crate::session::Session;
use crate::spec::identify::{self as layout, CSI_NVM};
use crate::spec::{ALL_NAMESPACES, BLOCK_SIZES, Status, Submission};
use crate::store::{Store, StoreError};

/// Controllers in a list, at most (base 2.0, figure 137).
const LIST_ENTRIES: usize = 2047;

/// Whether the drive has both commands.
pub(super) fn are_managed(drive: &Drive) -> bool {
    drive.store.is_some()
}

/// Both commands change files of the host, hence the lane.
pub(super) fn execute(
    session: &Session,
    command: fn(&Arc<Session>, &Submission) -> Result<u32, Status>,
) -> Outcome {
    if !are_managed(&session.drive) {
        return Outcome::Done(Err(Status::INVALID_OPCODE));
    }
    let lane = Arc::clone(&session.drive.lane);
    Outcome::Later(Box::new(move |responder| {
        Deferred::submit(&lane, responder, command);
    }))
}

/// Namespace Management.
pub(super) fn manage(session: &Arc<Session>, command: &Submission) -> Result<u32, Status> {
    let store = store(&session.drive)?;
    let _alone = lock(&store.managing);
    match command.cdw10 & 0xF {
        0 => create(session, store, command),
        1 => delete(session, store, command.nsid),
        _ => Err(Status::INVALID_FIELD),
    }
}

/// Dword 0 of the completion is the new namespace's identifier. It is not attached.
fn create(session: &Session, store: &Store, command: &Submission) -> Result<u32, Status> {
    if (command.cdw11 >> 24) as u8 != CSI_NVM {
        return Err(Status::COMMAND_SET_NOT_SUPPORTED);
    }
    let drive = &session.drive;
    let mut wanted = layout::Namespace::new_zeroed();
    let pointer = DataPointer::of(&drive.memory, command, size_of_val(&wanted))?;
    pointer.read(&drive.memory, wanted.as_mut_bytes())?;
    let (blocks, capacity) = (wanted.nsze, wanted.ncap);
    if blocks == 0 || capacity > blocks {
        return Err(Status::INVALID_FIELD);
    }
    if capacity < blocks {
        return Err(Status::THIN_PROVISIONING_NOT_SUPPORTED);
    }
    // Bits 6:5 are the upper half of the format's number.
    let format = wanted.flbas & 0xF | wanted.flbas >> 5 << 4;
    let block_size = *BLOCK_SIZES
        .get(usize::from(format))
        .ok_or(Status::INVALID_FORMAT)?;
    if wanted.dps != 0 {
        return Err(Status::INVALID_FORMAT);
    }
    // One controller, no sets, no groups.
    let (set, group, access) = (wanted.nvmsetid, wanted.endgid, wanted.anagrpid);
    if wanted.nmic != 0 || set != 0 || group != 0 || access != 0 {
        return Err(Status::INVALID_FIELD);
    }
    let size = blocks.checked_mul(block_size.into());
    let size = size.filter(|size| *size <= store.unallocated());
    let size = size.ok_or(Status::INSUFFICIENT_CAPACITY)?;
    let id = drive.namespaces.free_id();
    let id = id.ok_or(Status::NAMESPACE_ID_UNAVAILABLE)?;
    let made = store.create(id, size, block_size);
    let (entry, backend) = made.map_err(|failure| failed(drive, &failure))?;
    let namespace = created_namespace(&drive.identity, &entry, backend);
    drive.namespaces.insert(namespace);
    Ok(id)
}

fn delete(session: &Session, store: &Store, id: u32) -> Result<u32, Status> {
    let namespaces = &session.drive.namespaces;
    let doomed = if id == ALL_NAMESPACES {
        namespaces.all()
    } else {
        let namespace = namespaces.allocated(id)?;
        vec![namespace.ok_or(Status::INVALID_FIELD)?]
    };
    if doomed
        .iter()
        .any(|namespace| namespaces.is_configured(namespace.id))
    {
        return Err(Status::OPERATION_DENIED);
    }
    for namespace in doomed {
        let deleted = store.delete(namespace.id);
        deleted.map_err(|failure| failed(&session.drive, &failure))?;
        namespaces.remove(namespace.id);
        session.drive.self_test.give_way_to_removal(namespace.id);
        if namespace.set_attached(false) {
            events::namespace_changed(session, namespace.id);
        }
    }
    Ok(0)
}

/// Namespace Attachment.
pub(super) fn attach(session: &Arc<Session>, command: &Submission) -> Result<u32, Status> {
    let drive = &session.drive;
    let store = store(drive)?;
    let _alone = lock(&store.managing);
    let attach = match command.cdw10 & 0xF {
        0 => true,
        1 => false,
        _ => return Err(Status::INVALID_FIELD),
    };
    let namespace = drive.namespaces.allocated(command.nsid)?;
    let namespace = namespace.ok_or(Status::INVALID_FIELD)?;
    let mut list = [0_u16; LIST_ENTRIES + 1];
    let pointer = DataPointer::of(&drive.memory, command, size_of_val(&list))?;
    pointer.read(&drive.memory, list.as_mut_bytes())?;
    let controllers = list.get(1..=usize::from(list[0]));
    if controllers != Some(&[identify::CONTROLLER_ID]) {
        return Err(Status::CONTROLLER_LIST_INVALID);
    }
    match (attach, namespace.is_attached()) {
        (true, true) => return Err(Status::NAMESPACE_ALREADY_ATTACHED),
        (false, false) => return Err(Status::NAMESPACE_NOT_ATTACHED),
        _ => {}
    }
    let noted = store.set_attached(namespace.id, attach);
    noted.map_err(|failure| failed(drive, &failure))?;
    if namespace.set_attached(attach) {
        events::namespace_changed(session, namespace.id);
    }
    Ok(0)
}

fn store(drive: &Drive) -> Result<&Store, Status> {
    drive.store.as_ref().ok_or(Status::INVALID_OPCODE)
}

fn failed(drive: &Drive, failure: &StoreError) -> Status {
    warn!(drive = %drive.id, "namespace management: {failure}");
    Status::INTERNAL_ERROR
}
