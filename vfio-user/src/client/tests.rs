//! Many threads over one connection, with a server that answers late, in another order, not at all, or unasked.

mod cancelled;

use std::io::Read;
use std::thread;

use zerocopy::IntoBytes;

use super::*;
use crate::protocol::{DmaAccess, Header, RegionAccess, flag};
use crate::wire::{Message, Receiver, Sender};

/// A wait that ends long before in every test that passes.
const SOON: Duration = Duration::from_secs(20);

/// The other end of a connection, played by hand.
struct Played {
    socket: UnixStream,
    sender: Sender,
    receiver: Receiver,
}

impl Played {
    fn new() -> (Self, Client) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut played = Self {
            sender: Sender::new(theirs.try_clone().unwrap()),
            socket: theirs,
            receiver: Receiver::default(),
        };
        let playing = thread::spawn(move || {
            let version = played.next();
            played.reply(&version.header, &[0, 0, 1, 0]);
            played
        });
        let client = Client::connect(ours, None, SOON).unwrap();
        (playing.join().unwrap(), client)
    }

    /// A connection whose client has a thread that reads until the server leaves.
    fn with_threads() -> (Self, Requests, thread::JoinHandle<WireError>) {
        let (played, client) = Self::new();
        let (requests, mut reader) = client.split();
        let reading = thread::spawn(move || {
            loop {
                match reader.turn(&NoMemory) {
                    Ok(true) => {}
                    Ok(false) => {
                        wait(reader.as_fd(), reader.awaited(), Instant::now() + SOON).unwrap();
                    }
                    Err(error) => return error,
                }
            }
        });
        (played, requests, reading)
    }

    fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.receiver.take(&self.socket).unwrap() {
                return message;
            }
            assert!(wait(self.socket.as_fd(), PollFlags::IN, Instant::now() + SOON).unwrap());
        }
    }

    fn reply(&self, asked: &Header, payload: &[u8]) {
        let header = asked.reply(payload.len());
        self.sender.send(&header, &[payload], &[]).unwrap();
    }
}

fn soon() -> Instant {
    Instant::now() + SOON
}

#[test]
fn replies_in_any_order_reach_the_threads_that_wait_for_them() {
    let (mut played, requests, reading) = Played::with_threads();
    let threads: Vec<_> = (0..16_u8)
        .map(|number| {
            let requests = requests.clone();
            thread::spawn(move || {
                let reply = requests.request(command::REGION_READ, &[&[number]], &[], soon());
                assert_eq!(reply.unwrap().payload, [number, number]);
            })
        })
        .collect();
    let mut asked: Vec<_> = threads.iter().map(|_| played.next()).collect();
    let mut numbers: Vec<_> = asked.iter().map(|message| message.header.id).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 16, "each has a number of its own");
    asked.reverse();
    for message in asked {
        let echo = message.payload[0];
        played.reply(&message.header, &[echo, echo]);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    drop(played);
    assert!(matches!(reading.join().unwrap(), WireError::Closed));
}

#[test]
fn a_late_reply_is_passed_over_and_so_is_one_that_nobody_wanted() {
    let (mut played, requests, reading) = Played::with_threads();
    let late = requests.request(command::DEVICE_RESET, &[], &[], Instant::now());
    assert!(matches!(late, Err(ClientError::TimedOut { command: 13 })));
    requests
        .post(command::REGION_WRITE, &[b"posted"], &[], soon())
        .unwrap();
    let ticket = requests.begin(command::REGION_READ, &[], &[], soon());
    let reset = played.next();
    let posted = played.next();
    assert!(posted.header.wants_no_reply());
    let read = played.next();
    played.reply(&reset.header, b"late");
    played.reply(&posted.header, b"not wanted");
    // The right number with another command is no reply either.
    let other = Header {
        command: command::DEVICE_RESET,
        ..read.header
    };
    played.reply(&other, b"other");
    played.reply(&read.header, b"read");
    assert_eq!(ticket.unwrap().wait(soon()).unwrap().payload, b"read");
    drop(played);
    reading.join().unwrap();
}

#[test]
fn whoever_waits_is_told_at_once_when_the_connection_ends() {
    let (mut played, requests, reading) = Played::with_threads();
    let waiting = {
        let requests = requests.clone();
        thread::spawn(move || requests.request(command::REGION_READ, &[], &[], soon()))
    };
    played.next();
    requests.close();
    let gone = waiting.join().unwrap();
    assert!(matches!(gone, Err(ClientError::Wire(WireError::Closed))));
    let gone = requests.post(command::REGION_WRITE, &[], &[], soon());
    assert!(matches!(gone, Err(ClientError::Wire(WireError::Closed))));
    // The server sees the end.
    assert_eq!((&played.socket).read(&mut [0]).unwrap(), 0);
    drop(played);
    reading.join().unwrap();
}

#[test]
fn a_server_that_does_not_read_holds_nobody_up_beyond_the_deadline() {
    let (played, requests, reading) = Played::with_threads();
    let data = vec![0; 64 << 10];
    let fill = || requests.post(command::REGION_WRITE, &[&data], &[], Instant::now());
    let full = loop {
        if let Err(error) = fill() {
            break error;
        }
    };
    assert!(matches!(full, ClientError::Wire(WireError::TooSlow(_))));
    // Nothing goes out any more after a part of a message.
    let gone = requests.request(command::REGION_READ, &[], &[], soon());
    assert!(matches!(gone, Err(ClientError::Wire(WireError::Closed))));
    drop(played);
    reading.join().unwrap();
}

#[test]
fn who_waits_for_the_turn_to_send_has_its_own_deadline() {
    let (played, requests, reading) = Played::with_threads();
    let data = vec![0; 4 << 20];
    let stuck = {
        let requests = requests.clone();
        thread::spawn(move || requests.post(command::REGION_WRITE, &[&data], &[], soon()))
    };
    // Its beginning is there: it has the turn, and keeps it.
    assert!(wait(played.socket.as_fd(), PollFlags::IN, soon()).unwrap());
    let late = requests.post(command::REGION_WRITE, &[], &[], Instant::now());
    assert!(matches!(
        late,
        Err(ClientError::Wire(WireError::TooSlow(_)))
    ));
    drop(played);
    let gone = stuck.join().unwrap();
    assert!(matches!(gone, Err(ClientError::Wire(WireError::Closed))));
    reading.join().unwrap();
}

#[test]
fn what_the_server_asks_for_is_checked() {
    let (mut played, requests, reading) = Played::with_threads();
    let access = |count| DmaAccess { address: 0, count };
    let mut refusal = |command, payload: &[&[u8]]| {
        let size = payload.iter().map(|part| part.len()).sum();
        let asked = Header::command(7, command, size);
        played.sender.send(&asked, payload, &[]).unwrap();
        let reply = played.next();
        assert_eq!(reply.header.flags, flag::REPLY | flag::ERROR);
        assert_eq!(reply.header.id, 7);
        reply.header.error
    };
    let [fault, invalid, unknown] = [14, 22, 95];
    assert_eq!(refusal(command::DMA_READ, &[access(8).as_bytes()]), fault);
    let huge = [access(u64::MAX), access((1 << 20) + 1)];
    for huge in huge {
        assert_eq!(refusal(command::DMA_READ, &[huge.as_bytes()]), invalid);
    }
    let eight = access(8);
    let short = refusal(command::DMA_WRITE, &[eight.as_bytes(), b"seven.."]);
    assert_eq!(short, invalid);
    assert_eq!(refusal(command::DMA_WRITE, &[b"short"]), invalid);
    let read = RegionAccess {
        offset: 0,
        region: 0,
        count: 8,
    };
    assert_eq!(refusal(command::REGION_READ, &[read.as_bytes()]), unknown);
    drop((played, requests));
    reading.join().unwrap();
}

#[test]
fn a_message_that_is_neither_command_nor_reply_ends_the_connection() {
    let (played, _requests, reading) = Played::with_threads();
    let neither = Header {
        flags: 7,
        ..Header::command(1, command::DMA_READ, 0)
    };
    played.sender.send(&neither, &[], &[]).unwrap();
    assert!(matches!(reading.join().unwrap(), WireError::Refused(_)));
}

#[test]
fn a_server_that_asks_for_much_before_it_takes_an_answer_is_answered() {
    const MANY: u16 = 3000;
    let (mut played, requests, reading) = Played::with_threads();
    let asked = requests
        .begin(command::REGION_READ, &[], &[], soon())
        .unwrap();
    let late = played.next().header;
    let access = DmaAccess {
        address: 0,
        count: 8,
    };
    for id in 0..MANY {
        let header = Header::command(id, command::DMA_READ, access.as_bytes().len());
        played
            .sender
            .send(&header, &[access.as_bytes()], &[])
            .unwrap();
    }
    // All that time its own replies arrive.
    played.reply(&late, b"reply");
    assert_eq!(asked.wait(soon()).unwrap().payload, b"reply");
    let post = {
        let requests = requests.clone();
        thread::spawn(move || requests.post(command::REGION_WRITE, &[b"post"], &[], soon()))
    };
    let mut ids = Vec::new();
    let mut posts = 0;
    while ids.len() < MANY.into() || posts == 0 {
        let message = played.next();
        match message.header.is_reply() {
            Some(true) => ids.push(message.header.id),
            _ => posts += 1,
        }
    }
    assert!(ids.into_iter().eq(0..MANY), "in their order, and whole");
    post.join().unwrap().unwrap();
    drop(played);
    reading.join().unwrap();
}

/// As much as is asked for.
struct Endless;

impl Memory for Endless {
    fn read(&self, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(7);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

#[test]
fn a_server_that_never_takes_its_answers_is_read_no_further_and_then_too_slow() {
    let (played, client) = Played::new();
    let (_requests, mut reader) = client.split();
    reader.set_patience(SOON);
    let access = DmaAccess {
        address: 0,
        count: 1 << 20,
    };
    for id in 0..20 {
        let header = Header::command(id, command::DMA_READ, access.as_bytes().len());
        (played.sender)
            .send(&header, &[access.as_bytes()], &[])
            .unwrap();
    }
    let mut taken = 0;
    while reader.turn(&Endless).unwrap() {
        taken += 1;
    }
    assert!((4..8).contains(&taken), "{taken} are kept");
    assert_eq!(reader.awaited(), PollFlags::OUT);
    reader.set_patience(Duration::from_millis(10));
    let due = reader.due().unwrap();
    assert!(!wait(reader.as_fd(), reader.awaited(), due).unwrap());
    let ended = reader.turn(&Endless);
    assert!(matches!(ended, Err(WireError::TooSlow(_))), "{ended:?}");
}
