//! Messages cut at every place, with and without descriptors, and peers that stop in the middle.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::*;
use crate::protocol::command;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn header(payload: usize) -> Header {
    Header::command(9, command::REGION_WRITE, payload)
}

#[test]
fn a_message_comes_whole_wherever_it_is_cut() {
    let mut raw = header(5).as_bytes().to_vec();
    raw.extend_from_slice(b"hello");
    for cut in 0..=raw.len() {
        let (mut ours, theirs) = pair();
        let mut receiver = Receiver::default();
        ours.write_all(&raw[..cut]).unwrap();
        if cut < raw.len() {
            assert!(receiver.take(&theirs).unwrap().is_none(), "cut at {cut}");
            assert_eq!(receiver.due().is_some(), cut > 0);
        }
        ours.write_all(&raw[cut..]).unwrap();
        ours.write_all(header(0).as_bytes()).unwrap();
        let message = receiver.take(&theirs).unwrap().unwrap();
        assert_eq!(message.payload, b"hello");
        assert_eq!(message.header, header(5));
        assert!(receiver.due().is_none());
        assert!(receiver.take(&theirs).unwrap().unwrap().payload.is_empty());
    }
}

#[test]
fn descriptors_belong_to_the_message_they_were_sent_with() {
    let (ours, theirs) = pair();
    let sender = Sender::new(ours);
    let files: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
    let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    sender.send(&header(1), &[b"a"], &[]).unwrap();
    sender.send(&header(1), &[b"b"], &fds).unwrap();
    sender.send(&header(1), &[b"c"], &[]).unwrap();
    let mut receiver = Receiver::default();
    let mut counts = Vec::new();
    while let Some(message) = receiver.take(&theirs).unwrap() {
        counts.push((message.payload[0], message.descriptors.len()));
    }
    assert_eq!(counts, [(b'a', 0), (b'b', 3), (b'c', 0)]);
}

#[test]
fn a_long_message_is_sent_whole_while_the_peer_reads() {
    let (ours, mut theirs) = pair();
    let payload = vec![7; 1 << 20];
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        let sender = Sender::new(ours);
        sender
            .send(&header(payload.len()), &[&payload], &[])
            .unwrap();
        drop(sender);
        let all = reading.join().unwrap();
        assert_eq!(all.len(), Header::SIZE + payload.len());
        assert!(all[Header::SIZE..].iter().all(|byte| *byte == 7));
    });
}

#[test]
fn a_peer_that_goes_is_told_from_one_that_goes_within_a_message() {
    let (ours, theirs) = pair();
    drop(ours);
    let gone = Receiver::default().take(&theirs);
    assert!(matches!(gone, Err(WireError::Closed)));
    for bytes in [1, Header::SIZE, Header::SIZE + 3] {
        let (mut ours, theirs) = pair();
        let mut raw = header(5).as_bytes().to_vec();
        raw.extend_from_slice(b"hello");
        ours.write_all(&raw[..bytes]).unwrap();
        drop(ours);
        let gone = Receiver::default().take(&theirs);
        assert!(matches!(gone, Err(WireError::Truncated)), "{bytes} bytes");
    }
}

#[test]
fn sizes_that_no_message_has_end_the_connection() {
    for size in [0, 15, MOST_BYTES + 1, u32::MAX] {
        let (mut ours, theirs) = pair();
        let header = Header { size, ..header(0) };
        ours.write_all(header.as_bytes()).unwrap();
        let refused = Receiver::default().take(&theirs);
        assert!(matches!(refused, Err(WireError::Size(found)) if found == size));
    }
}

#[test]
fn a_closed_sender_sends_nothing_and_its_peer_sees_the_end() {
    let (ours, mut theirs) = pair();
    let sender = Sender::new(ours);
    sender.close();
    assert!(sender.send(&header(0), &[], &[]).is_err());
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}
