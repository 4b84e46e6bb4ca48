//! Doorbell Buffer Config (base 2.0, section 5.3): from here on the host keeps its doorbells in memory.

use std::sync::Arc;

use crate::queue::ShadowBuffers;
use crate::session::Session;
use crate::spec::{PAGE, Status, Submission};

pub(super) fn configure(session: &Arc<Session>, command: &Submission) -> Result<(), Status> {
    let (doorbells, events) = (command.prp1, command.prp2);
    for at in [doorbells, events] {
        if !at.is_multiple_of(PAGE) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let memory = &session.drive.memory;
        if !memory.is_mapped(vm_memory::GuestAddress(at), PAGE as usize) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
    }
    // Two pages: values of the host must not end up where it reads EventIdx.
    if doorbells == events {
        return Err(Status::INVALID_FIELD);
    }
    session.use_shadow(ShadowBuffers { doorbells, events });
    Ok(())
}
