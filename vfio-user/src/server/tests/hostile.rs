//! Clients that send nonsense, too much, or half of something: an error reply or the end, nothing else.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::protocol::{Header, command, flag};
use crate::wire::{MOST_BYTES, Sender};

fn version(id: u16) -> Vec<u8> {
    let mut raw = Header::command(id, command::VERSION, 4).as_bytes().to_vec();
    raw.extend([0, 0, 0, 0]);
    raw
}

/// Sends `raw`, leaves, and has the server end by itself; returns all that it said.
fn play(raw: &[u8]) -> (Vec<u8>, Arc<Fake>) {
    let (served, mut socket) = Served::new();
    let device = Arc::clone(&served.device);
    let mut reading = socket.try_clone().unwrap();
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        // A server that closes with data unread resets the connection.
        let _ = reading.read_to_end(&mut said);
        said
    });
    // It may have closed before all is sent.
    let _ = socket.write_all(raw);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let ended = served.ended();
    assert!(matches!(ended, Ended::Client(_)));
    (said.join().unwrap(), device)
}

#[test]
fn the_first_message_must_be_version() {
    let raw = Header::command(3, command::DEVICE_RESET, 0);
    let (said, device) = play(raw.as_bytes());
    assert_eq!(said, raw.failure(22).as_bytes());
    assert_eq!(device.notes().clients, 0);
}

#[test]
fn another_major_version_is_refused_and_a_higher_minor_is_not() {
    let mut raw = version(1);
    raw[16] = 1;
    let (said, device) = play(&raw);
    assert_eq!(said.len(), Header::SIZE);
    assert_eq!(device.notes().clients, 0);
    let mut raw = version(1);
    raw[18] = 200;
    let (said, device) = play(&raw);
    assert_eq!(&said[16..], [0, 0, 1, 0], "our own minor version");
    assert_eq!(device.clients(), (1, 1));
}

#[test]
fn a_message_without_json_is_answered_without() {
    let (said, _) = play(&version(9));
    assert_eq!(said.len(), 20);
}

#[test]
fn sizes_and_types_that_there_are_not_end_the_connection() {
    for header in [
        Header {
            size: 15,
            ..Header::command(1, command::DEVICE_RESET, 0)
        },
        Header {
            size: MOST_BYTES + 1,
            ..Header::command(1, command::DEVICE_RESET, 0)
        },
        Header {
            flags: 7,
            ..Header::command(1, command::DEVICE_RESET, 0)
        },
    ] {
        let raw = [version(1).as_slice(), header.as_bytes()].concat();
        let (_, device) = play(&raw);
        assert_eq!(device.notes().resets, 0);
        assert_eq!(device.notes().left, 1, "the device is told");
    }
}

#[test]
fn a_client_that_dies_within_a_message_is_gone() {
    let whole = Header::command(1, command::REGION_WRITE, 20);
    for bytes in [1, 15, 16, 20] {
        let mut raw = version(1);
        raw.extend_from_slice(whole.as_bytes());
        raw.extend([0; 20]);
        raw.truncate(20 + bytes);
        let (_, device) = play(&raw);
        assert_eq!(device.notes().left, 1, "{bytes} bytes");
    }
}

#[test]
fn replies_that_nobody_asked_for_are_passed_over() {
    let stray = Header::command(5, command::DMA_READ, 0).reply(0);
    let reset = Header::command(6, command::DEVICE_RESET, 0);
    let raw = [version(1).as_slice(), stray.as_bytes(), reset.as_bytes()].concat();
    let (said, device) = play(&raw);
    assert_eq!(device.notes().resets, 1);
    assert_eq!(&said[20..], reset.reply(0).as_bytes());
}

#[test]
fn commands_that_want_no_reply_get_none_even_when_they_fail() {
    let quiet = |command| Header {
        flags: flag::NO_REPLY,
        ..Header::command(2, command, 0)
    };
    let mut raw = version(1);
    for command in [
        command::DEVICE_RESET,
        command::DMA_MAP,
        command::DMA_UNMAP,
        99,
    ] {
        raw.extend_from_slice(quiet(command).as_bytes());
    }
    let (said, device) = play(&raw);
    assert_eq!(said.len(), 20, "VERSION's alone");
    assert_eq!(device.notes().resets, 1);
}

#[test]
fn descriptors_are_closed_whatever_they_came_with() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (pipe, other) = UnixStream::pair().unwrap();
    let (served, socket) = Served::new();
    let sender = Sender::new(socket);
    let fds: Vec<_> = (0..200).map(|_| pipe.as_fd()).collect();
    let send = |command, fds: &[BorrowedFd<'_>]| {
        let header = Header::command(1, command, 0);
        sender.send(&header, &[], fds).unwrap();
    };
    sender
        .send(&Header::command(1, command::VERSION, 4), &[&[0; 4]], &fds)
        .unwrap();
    for command in [
        command::DMA_MAP,
        command::DMA_UNMAP,
        command::DEVICE_SET_IRQS,
        command::DEVICE_RESET,
        99,
    ] {
        send(command, &fds);
    }
    sender.close();
    served.ended();
    drop(fds);
    drop(pipe);
    // The other end of the socket sees its last copy go.
    let mut other = other;
    other.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    assert!(open() < 200);
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..80);
    let small = prop::collection::vec(0_u8..4, 0..80);
    (
        0_u16..20,
        any::<bool>(),
        prop_oneof![payload, small],
        -2_i32..3,
    )
        .prop_map(|(command, reply, payload, lie)| {
            let mut header = Header::command(1, command, payload.len());
            header.flags = u32::from(reply);
            header.size = header.size.wrapping_add_signed(lie);
            [header.as_bytes(), &payload].concat()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_end_a_connection_and_nothing_else(
        raw in prop::collection::vec(any::<u8>(), 0..400), after_version in any::<bool>()
    ) {
        let begin = if after_version { version(1) } else { Vec::new() };
        play(&[begin, raw].concat());
    }

    #[test]
    fn random_messages_are_answered_or_end_the_connection(
        messages in prop::collection::vec(message(), 0..20)
    ) {
        let (_, device) = play(&[version(1), messages.concat()].concat());
        prop_assert_eq!(device.notes().left, 1);
    }
}
