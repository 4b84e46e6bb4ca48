//! Calls that nobody waits for any more: they end, the server stays, and what it answers late is nobody's.

use std::thread;

use vfio_user::protocol::*;

use super::gate::held_up_by;
use super::*;
use crate::client::IrqType;
use crate::vfio_user::borrowed_event::borrow;

fn is_cancelled(result: &Result<(), ClientError>) -> bool {
    matches!(result, Err(ClientError::Cancelled { .. }))
}

#[test]
fn a_read_is_cancelled_and_a_server_that_is_only_slow_is_reset_all_the_same() {
    let (server, gate) = held_up_by(command::REGION_READ);
    let (device, watcher) = open(&server);
    device.write(0, 0x10, &[7; 4]).unwrap();
    thread::scope(|scope| {
        let read = scope.spawn(|| device.read(0, 0x20, &mut [0; 4]));
        gate.is_reached();
        device.cancel_waits();
        assert!(is_cancelled(&read.join().unwrap()));
        let reset = scope.spawn(|| device.reset(soon()));
        gate.open();
        reset.join().unwrap().unwrap();
    });
    let mut found = [0; 4];
    device.read(0, 0x10, &mut found).unwrap();
    assert_eq!(found, [7; 4], "and not the late answer");
    assert_eq!(watcher.said(), [], "it was never gone");
    assert_eq!(server.notes(|notes| notes.connections), 1);
}

#[test]
fn a_reset_and_what_a_thread_of_its_own_asks_for_are_not_cancelled() {
    for held in [command::DEVICE_RESET, command::DEVICE_GET_REGION_IO_FDS] {
        let (server, gate) = held_up_by(held);
        let (device, watcher) = open(&server);
        thread::scope(|scope| {
            let asked = scope.spawn(|| match held {
                command::DEVICE_RESET => device.reset(soon()),
                _ => {
                    device.io_events(0);
                    Ok(())
                }
            });
            gate.is_reached();
            device.cancel_waits();
            gate.open();
            asked.join().unwrap().unwrap();
        });
        assert_eq!(watcher.said(), []);
    }
}

#[test]
fn interrupts_whose_connection_was_cancelled_are_switched_off_and_connected_again() {
    let (server, gate) = held_up_by(command::DEVICE_SET_IRQS);
    let (device, watcher) = open(&server);
    let heard = event();
    let lent = [Some(borrow(&heard))];
    thread::scope(|scope| {
        let connecting = scope.spawn(|| device.connect(IrqType::Msix, 0, &lent));
        gate.is_reached();
        device.cancel_waits();
        assert!(is_cancelled(&connecting.join().unwrap()));
    });
    gate.open();
    // The server has connected them, whether anybody waited or not.
    device.disconnect(IrqType::Msix).unwrap();
    let sets = server.notes(|notes| {
        let sets = notes.irqs.iter();
        sets.map(|(set, ..)| (set.index, set.count))
            .collect::<Vec<_>>()
    });
    assert_eq!(sets, [(2, 1), (2, 0)]);
    device.connect(IrqType::Msix, 0, &lent).unwrap();
    device.read(0, 0, &mut [0]).unwrap();
    let last = server.notes(|notes| notes.writes.pop().unwrap());
    assert_eq!((last.0.offset, &last.1[..]), (0x53, &[0x80][..]));
    assert_eq!(watcher.said(), []);
}

#[test]
fn a_writer_without_room_is_cancelled_and_the_server_goes_on_where_it_was() {
    let (server, gate) = held_up_by(command::REGION_WRITE);
    let (device, watcher) = open(&server);
    let data: Vec<u8> = (0..64 << 10).map(|at| (at >> 8) as u8).collect();
    let piece = &data[..0x4000];
    thread::scope(|scope| {
        let writing = scope.spawn(|| (0..).try_for_each(|_: u64| device.write(0, 0, piece)));
        gate.is_reached();
        // Who waits for a thread that makes several calls asks again.
        while !writing.is_finished() {
            device.cancel_waits();
            thread::yield_now();
        }
        assert!(is_cancelled(&writing.join().unwrap()));
    });
    gate.open();
    device.reset(soon()).unwrap();
    let mut found = vec![0; 0x4000];
    device.read(0, 0, &mut found).unwrap();
    assert!(found == piece, "messages were whole");
    assert_eq!(watcher.said(), []);
}

#[test]
fn one_call_has_one_deadline_however_many_messages_it_needs() {
    let server = Played::stating(
        Capabilities {
            max_msg_fds: Some(1),
            ..Capabilities::default()
        },
        |asked| {
            // Each in time, all of them not.
            if asked.command == command::DEVICE_SET_IRQS {
                thread::sleep(Duration::from_millis(100));
            }
            Verdict::Ordinary
        },
    );
    let (device, watcher) = open_within(&server, 300);
    let events: Vec<_> = (0..10).map(|_| event()).collect();
    let lent: Vec<_> = events.iter().map(|event| Some(borrow(event))).collect();
    let late = device.connect(IrqType::Msix, 0, &lent);
    assert!(matches!(late, Err(ClientError::TimedOut { after, .. }) if after.as_millis() <= 300));
    let reason = watcher.hears_gone();
    assert!(
        reason.contains("connecting its interrupts within 300 ms"),
        "{reason}"
    );
}
