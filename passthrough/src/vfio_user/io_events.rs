//! DEVICE_GET_REGION_IO_FDS: eventfds that stand for writes.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use vfio_user::protocol::{IoEventFd, RegionIoFds, command};
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromBytes, IntoBytes};

use super::link::Link;
use super::session::Session;
use crate::client::IoEvent;

/// Room for as many entries as descriptors are taken in a message.
const ROOM: u32 = 16 + 64 * 40;

/// Asks for those of `region`, which has `size` bytes. None where the server has none, or only what does not fit:
/// such writes go by messages.
pub fn ask(link: &Link, session: &Arc<Session>, region: u32, size: u64) -> Vec<IoEvent> {
    let asked = RegionIoFds {
        argsz: ROOM,
        flags: 0,
        index: region,
        count: 0,
    };
    let request = (command::DEVICE_GET_REGION_IO_FDS, &[asked.as_bytes()][..]);
    let doing = "which eventfds it has for writes";
    let Ok(reply) = link.ask(session, request, &[], link.due(), doing) else {
        return Vec::new();
    };
    let Ok((head, rest)) = RegionIoFds::read_from_prefix(&reply.payload) else {
        return Vec::new();
    };
    let mut descriptors: Vec<_> = reply.descriptors.into_iter().map(Some).collect();
    let mut found: Vec<IoEvent> = Vec::new();
    let entries = rest.chunks_exact(size_of::<IoEventFd>());
    for raw in entries.take(head.count as usize) {
        let Ok(entry) = IoEventFd::read_from_bytes(raw) else {
            continue;
        };
        let end = entry.offset.checked_add(entry.size);
        let fits = end.is_some_and(|end| end <= size) && entry.offset < size;
        let known = found.iter().any(|event| event.offset == entry.offset);
        // A kind or a value that is asked for is not what is offered to the guest.
        if !fits || known || entry.kind != 0 || entry.flags != 0 {
            continue;
        }
        let descriptor = descriptors.get_mut(entry.fd_index as usize);
        if let Some(event) = descriptor.and_then(Option::take).and_then(event) {
            found.push(IoEvent {
                offset: entry.offset,
                event: Arc::new(event),
            });
        }
    }
    found
}

/// The eventfd that it is, if it is one.
#[allow(unsafe_code)] // vmm-sys-util's eventfd takes a raw descriptor.
fn event(descriptor: OwnedFd) -> Option<EventFd> {
    use std::os::fd::FromRawFd;
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let target = std::fs::read_link(path).ok()?;
    if target.as_os_str() != "anon_inode:[eventfd]" {
        return None;
    }
    // SAFETY: the descriptor is open, is an eventfd, and is ours alone: it is given away here.
    Some(unsafe { EventFd::from_raw_fd(descriptor.into_raw_fd()) })
}
