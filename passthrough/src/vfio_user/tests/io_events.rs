//! Servers that offer eventfds for writes, and ones that offer what is none.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use vfio_user::protocol::*;
use zerocopy::IntoBytes;

use super::ordinary::BAR;
use super::*;

fn new_event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// What an eventfd counts, if anything.
fn taken(event: &OwnedFd) -> Option<u64> {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count).ok()?;
    Some(u64::from_ne_bytes(count))
}

/// By bytes: the structures here are those of the client too.
#[test]
fn eventfds_are_asked_for_and_taken_as_the_protocol_lays_them_out() {
    let events = [new_event(), new_event()];
    let theirs = events.each_ref().map(|event| event.try_clone().unwrap());
    let server = Played::new(move |asked| {
        if asked.command != 6 {
            return Verdict::Ordinary;
        }
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        // Room for a reply, no flags, BAR 0, no count.
        let rest = words(&[0, 0, 0]);
        if asked.payload.len() != 16 || asked.payload[4..] != rest || asked.descriptors != 0 {
            return Verdict::Refuse(22);
        }
        let reply = [
            words(&[16 + 2 * 40, 0, 0, 2]),
            // Offset, size, descriptor, kind, flags, padding, value.
            words(&[0x1000, 0, 4, 0, 1, 0, 0, 0, 0, 0]),
            // Of any width.
            words(&[0x1004, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
        let descriptors = theirs.each_ref().map(|event| event.try_clone().unwrap());
        Verdict::Reply(reply.concat(), descriptors.into())
    });
    let (device, watcher) = open(&server);
    let found = device.io_events(0);
    let offsets: Vec<_> = found.iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [0x1000, 0x1004]);
    found[0].event.write(3).unwrap();
    found[1].event.write(5).unwrap();
    assert_eq!(events.each_ref().map(taken), [Some(5), Some(3)]);
    assert_eq!(watcher.said(), []);
}

#[test]
fn eventfds_that_are_none_or_out_of_place_are_not_offered() {
    let server = Played::new(move |asked| {
        if asked.command != command::DEVICE_GET_REGION_IO_FDS {
            return Verdict::Ordinary;
        }
        let entry = |offset, fd_index| IoEventFd {
            offset,
            size: 4,
            fd_index,
            kind: 0,
            flags: 0,
            padding: 0,
            datamatch: 0,
        };
        let entries = [
            entry(0x1008, 0),
            // The same place, the same descriptor, none, one that is no eventfd, and places outside.
            entry(0x1008, 1),
            entry(0x1010, 0),
            entry(0x1018, 99),
            entry(0x1020, 2),
            entry(BAR, 3),
            entry(u64::MAX - 1, 3),
            IoEventFd {
                kind: 1,
                ..entry(0x1028, 3)
            },
            IoEventFd {
                flags: 1,
                ..entry(0x1030, 3)
            },
            // A register inside another and around it, two at once, out of line, of no width that a write has.
            IoEventFd {
                size: 2,
                ..entry(0x100A, 3)
            },
            IoEventFd {
                size: 8,
                ..entry(0x1008, 3)
            },
            IoEventFd {
                size: 16,
                ..entry(0x1040, 3)
            },
            entry(0x1042, 3),
            IoEventFd {
                size: 3,
                ..entry(0x1044, 3)
            },
            IoEventFd {
                size: u64::MAX,
                ..entry(0x1048, 3)
            },
            entry(0x1038, 3),
        ];
        let head = RegionIoFds {
            argsz: 16 + 640,
            flags: 0,
            index: 0,
            count: u32::MAX,
        };
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let reply = [head.as_bytes(), entries.as_bytes(), b"rest"].concat();
        Verdict::Reply(reply, vec![new_event(), new_event(), file, new_event()])
    });
    let (device, watcher) = open(&server);
    let found: Vec<_> = device
        .io_events(0)
        .iter()
        .map(|event| event.offset)
        .collect();
    assert_eq!(found, [0x1008, 0x1038]);
    assert_eq!(device.io_events(1).len(), 0, "there is no such BAR");
    assert_eq!(watcher.said(), []);
}

#[test]
fn a_server_without_eventfds_has_none() {
    for reply in [None, Some(vec![0; 3])] {
        let server = Played::new(move |asked| match (asked.command, &reply) {
            (command::DEVICE_GET_REGION_IO_FDS, None) => Verdict::Refuse(95),
            (command::DEVICE_GET_REGION_IO_FDS, Some(reply)) => {
                Verdict::Reply(reply.clone(), Vec::new())
            }
            _ => Verdict::Ordinary,
        });
        let (device, watcher) = open(&server);
        assert_eq!(device.io_events(0).len(), 0);
        assert_eq!(watcher.said(), []);
    }
}
