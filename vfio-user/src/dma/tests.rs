//! Accesses answered, refused, answered with nonsense, and given up.

use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::wire::{Message, Receiver};

/// The next message, waited for.
fn next(receiver: &mut Receiver, socket: &UnixStream) -> Message {
    loop {
        if let Some(message) = receiver.take(socket).unwrap() {
            return message;
        }
        thread::yield_now();
    }
}

fn access(message: &Message) -> DmaAccess {
    split::<DmaAccess>(&message.payload).unwrap().0
}

fn memory(transfer: u32) -> (PeerMemory, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (PeerMemory::new(Sender::new(ours), transfer), theirs)
}

#[test]
fn a_read_is_cut_at_the_limit_and_filled_in_order() {
    let (memory, peer) = memory(4);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut data = [0; 10];
            memory.read(0x1000, &mut data).map(|()| data)
        });
        let mut receiver = Receiver::default();
        for (address, count) in [(0x1000, 4), (0x1004, 4), (0x1008, 2)] {
            let message = next(&mut receiver, &peer);
            assert_eq!(message.header.command, command::DMA_READ);
            assert_eq!(access(&message), DmaAccess { address, count });
            let mut payload = access(&message).as_bytes().to_vec();
            payload.extend((0..count).map(|index| (address + index) as u8));
            assert!(memory.answer(&message.header.reply(payload.len()), &payload));
        }
        let data = reading.join().unwrap().unwrap();
        assert_eq!(data, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn a_write_carries_its_data_and_fails_as_the_peer_says() {
    let (memory, peer) = memory(1 << 20);
    thread::scope(|scope| {
        let writing = scope.spawn(|| memory.write(0x2000, b"data"));
        let message = next(&mut Receiver::default(), &peer);
        assert_eq!(&message.payload[16..], b"data");
        assert!(memory.answer(&message.header.failure(14), &[]));
        let error = writing.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(14));
    });
}

#[test]
fn an_answer_that_does_not_fit_is_an_error_and_a_second_one_is_nobodys() {
    let (memory, peer) = memory(1 << 20);
    for wrong in [vec![], vec![0; 16], vec![0; 24]] {
        thread::scope(|scope| {
            let reading = scope.spawn(|| memory.read(0x3000, &mut [0; 4]));
            let message = next(&mut Receiver::default(), &peer);
            let reply = message.header.reply(wrong.len());
            let other = Header {
                command: command::DMA_WRITE,
                ..reply
            };
            assert!(!memory.answer(&other, &wrong), "of another command");
            assert!(memory.answer(&reply, &wrong));
            assert!(reading.join().unwrap().is_err());
            assert!(!memory.answer(&reply, &wrong));
        });
    }
}

#[test]
fn who_waits_is_let_go_when_memory_is_taken_back_or_the_peer_leaves() {
    let (memory, peer) = memory(1 << 20);
    thread::scope(|scope| {
        let reading = scope.spawn(|| memory.read(0x5000, &mut [0; 4]));
        next(&mut Receiver::default(), &peer);
        memory.cancel(0x4000, 0x1000);
        memory.cancel(0x5000, 0x1000);
        assert!(reading.join().unwrap().is_err());
    });
    thread::scope(|scope| {
        let reading = scope.spawn(|| memory.read(0x5000, &mut [0; 4]));
        next(&mut Receiver::default(), &peer);
        memory.close();
        assert!(reading.join().unwrap().is_err());
    });
    assert!(memory.read(0x5000, &mut [0; 4]).is_err(), "none begins");
}
