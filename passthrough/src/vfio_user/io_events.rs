//! DEVICE_GET_REGION_IO_FDS: eventfds that stand for writes.
//!
//! Taken are those that a write of any width and value at their address can signal: eventfds at the place of a
//! register, with neither a value to be matched nor another kind. A server's other entries, and those that make no
//! sense, are left: those writes go by messages.

use std::ops::Range;
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

/// The kind of an entry: an eventfd, as KVM takes it.
const EVENTFD: u32 = 0;

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
    let Ok(reply) = link.ask(session, request, &[], link.allow_whole(), doing) else {
        return Vec::new();
    };
    let Ok((head, rest)) = RegionIoFds::read_from_prefix(&reply.payload) else {
        return Vec::new();
    };
    let mut descriptors: Vec<_> = reply.descriptors.into_iter().map(Some).collect();
    let (mut found, mut places) = (Vec::new(), Vec::<Range<u64>>::new());
    let entries = rest.chunks_exact(size_of::<IoEventFd>());
    for raw in entries.take(head.count as usize) {
        let Ok(entry) = IoEventFd::read_from_bytes(raw) else {
            continue;
        };
        let Some(place) = place(&entry, size) else {
            continue;
        };
        let overlaps = |other: &Range<u64>| other.start < place.end && place.start < other.end;
        if places.iter().any(overlaps) {
            continue;
        }
        let descriptor = descriptors.get_mut(entry.fd_index as usize);
        if let Some(event) = descriptor.and_then(Option::take).and_then(event) {
            found.push(IoEvent {
                offset: entry.offset,
                event: Arc::new(event),
            });
            places.push(place);
        }
    }
    found
}

/// The bytes of a region of `size` bytes that the entry is for; `None` if it is not for a register there. An entry
/// for a write of any width has its first byte.
fn place(entry: &IoEventFd, size: u64) -> Option<Range<u64>> {
    // Whichever flag: a value, ports, or that it is taken away.
    let any_value = entry.kind == EVENTFD && entry.flags == 0;
    let is_register = matches!(entry.size, 0 | 1 | 2 | 4 | 8);
    let width = entry.size.max(1);
    let end = entry.offset.checked_add(width)?;
    let fits = end <= size && entry.offset.is_multiple_of(width);
    (any_value && is_register && fits).then_some(entry.offset..end)
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
