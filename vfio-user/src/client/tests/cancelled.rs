//! Waits that this side ends: the connection goes on, and late replies are nobody's; or it ends with them.

use super::*;

fn is_cancelled<T>(result: &Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Wire(WireError::Cancelled)))
}

#[test]
fn a_cancelled_command_ends_at_once_and_its_late_reply_is_passed_over() {
    let (mut played, requests, reading) = Played::with_threads();
    let waiting = {
        let requests = requests.clone();
        thread::spawn(move || {
            let wait = requests.cancellable(soon());
            requests.request(command::REGION_READ, &[], &[], wait)
        })
    };
    let late = played.next();
    let lasting = requests.begin(command::DEVICE_RESET, &[], &[], soon());
    requests.cancel();
    assert!(is_cancelled(&waiting.join().unwrap()));
    // The same command once more, whose reply comes after the late one.
    let again = requests.begin(command::REGION_READ, &[], &[], requests.cancellable(soon()));
    let reset = played.next();
    let read = played.next();
    played.reply(&late.header, b"late");
    played.reply(&read.header, b"again");
    played.reply(&reset.header, b"reset");
    assert_eq!(again.unwrap().wait(soon()).unwrap().payload, b"again");
    assert_eq!(lasting.unwrap().wait(soon()).unwrap().payload, b"reset");
    drop(played);
    reading.join().unwrap();
}

#[test]
fn the_number_of_a_command_without_a_reply_is_no_others_before_the_reply_has_come() {
    let (mut played, requests, reading) = Played::with_threads();
    let wait = requests.cancellable(soon());
    let ticket = requests.begin(command::REGION_READ, &[], &[], wait);
    requests.cancel();
    assert!(is_cancelled(&ticket.unwrap().wait(soon())));
    let late = played.next();
    let numbers = |played: &mut Played| {
        (0..1 << 16)
            .map(|_| {
                (requests.post(command::REGION_WRITE, &[], &[], soon())).unwrap();
                played.next().header.id
            })
            .collect::<Vec<_>>()
    };
    assert!(!numbers(&mut played).contains(&late.header.id));
    played.reply(&late.header, b"late");
    // A reply says that the one before it was dealt with.
    let asked = requests.begin(command::REGION_READ, &[], &[], soon());
    let read = played.next();
    played.reply(&read.header, &[]);
    asked.unwrap().wait(soon()).unwrap();
    assert!(numbers(&mut played).contains(&late.header.id));
    drop(played);
    reading.join().unwrap();
}

#[test]
fn one_cancel_ends_all_that_share_a_wait() {
    let (played, requests, reading) = Played::with_threads();
    let wait = requests.cancellable(soon());
    requests.cancel();
    let first = requests.request(command::REGION_READ, &[], &[], wait);
    let second = requests.post(command::REGION_WRITE, &[], &[], wait);
    assert!(is_cancelled(&first) && is_cancelled(&second));
    drop(played);
    reading.join().unwrap();
}

#[test]
fn a_writer_without_room_is_cancelled_and_its_message_comes_whole_before_the_next() {
    let (mut played, requests, reading) = Played::with_threads();
    let data = vec![7; 1 << 20];
    let post = |data: Vec<u8>| {
        let requests = requests.clone();
        let wait = requests.cancellable(soon());
        thread::spawn(move || requests.post(command::REGION_WRITE, &[&data], &[], wait))
    };
    let half = post(data.clone());
    // Its beginning is there, and there is no room for its end.
    assert!(wait(played.socket.as_fd(), PollFlags::IN, soon()).unwrap());
    // This one waits for its turn, or comes too late for one.
    let behind = post(b"behind".to_vec());
    requests.cancel();
    assert!(is_cancelled(&behind.join().unwrap()));
    half.join().unwrap().unwrap();
    // Still no room, and nothing of it goes out.
    let none = post(b"none".to_vec());
    let lasting = {
        let requests = requests.clone();
        thread::spawn(move || requests.post(command::DEVICE_RESET, &[], &[], soon()))
    };
    requests.cancel();
    assert!(is_cancelled(&none.join().unwrap()));
    let whole = played.next();
    assert_eq!(whole.header.command, command::REGION_WRITE);
    assert!(whole.payload == data, "the message is as it was");
    assert_eq!(played.next().header.command, command::DEVICE_RESET);
    lasting.join().unwrap().unwrap();
    drop(played);
    reading.join().unwrap();
}

#[test]
fn whoever_waits_to_send_has_an_error_when_this_side_leaves() {
    for cancellable in [false, true] {
        let (played, requests, reading) = Played::with_threads();
        let post = |data: Vec<u8>| {
            let requests = requests.clone();
            let wait = match cancellable {
                true => requests.cancellable(soon()),
                false => soon().into(),
            };
            thread::spawn(move || requests.post(command::REGION_WRITE, &[&data], &[], wait))
        };
        let without_room = post(vec![7; 1 << 20]);
        assert!(wait(played.socket.as_fd(), PollFlags::IN, soon()).unwrap());
        let without_a_turn = post(b"behind".to_vec());
        // The peer lives, and takes nothing.
        requests.close();
        for waiting in [without_room, without_a_turn] {
            let ended = waiting.join().unwrap();
            assert!(
                matches!(ended, Err(ClientError::Wire(WireError::Closed))),
                "{ended:?}"
            );
        }
        drop(played);
        reading.join().unwrap();
    }
}
