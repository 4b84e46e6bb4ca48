//! Servers that do not answer: whoever waits has an end, and the device is gone.

use std::sync::mpsc;
use std::thread;

use devices::lifecycle::Deadline;
use vfio_user::protocol::*;

use super::gate::held_up_by;
use super::*;
use crate::client::IrqType;

/// Says nothing to this command.
fn silent_to(silent: u16) -> Played {
    // Reads of configuration space belong to opening it.
    Played::new(move |asked| match asked.command == silent {
        true if silent != command::REGION_READ || asked.payload[8] == 0 => Verdict::Silence,
        _ => Verdict::Ordinary,
    })
}

#[test]
fn a_read_without_an_answer_is_the_last_that_waits() {
    let server = silent_to(command::REGION_READ);
    let (device, watcher) = open_within(&server, 100);
    let mut data = [0; 4];
    let late = device.read(0, 0x1C, &mut data).unwrap_err();
    assert!(matches!(&late, ClientError::TimedOut { after, .. } if after.as_millis() <= 100));
    let reason = watcher.hears_gone();
    assert!(
        reason.contains("a read of BAR 0 at 0x1c within"),
        "{reason}"
    );
    let asked = server.notes(|notes| notes.commands.len());
    assert!(is_gone(&device.read(0, 0x1C, &mut data)));
    assert!(is_gone(&device.write(0, 0, &data)));
    assert!(is_gone(&device.connect(IrqType::Msix, 0, &[])));
    assert!(is_gone(&device.set_pin_masked(true)));
    assert!(is_gone(&device.reset(soon())));
    assert_eq!(device.io_events(0).len(), 0);
    assert!(
        device
            .map(
                0,
                crate::client::Area {
                    offset: 0,
                    size: 4096
                }
            )
            .is_err()
    );
    server.notes(|notes| assert!(notes.commands.len() >= asked));
}

#[test]
fn all_threads_that_wait_end_with_the_first() {
    let server = silent_to(command::REGION_READ);
    let (device, watcher) = open(&server);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| device.read(0, 0, &mut [0])))
            .collect();
        // Their requests are with the server, which will not answer in this test's lifetime.
        device.bound(Some(Deadline::after(Duration::from_millis(50))));
        let first = device.reset(Deadline::after(Duration::ZERO));
        assert!(
            matches!(first, Err(ClientError::TimedOut { .. })),
            "it was not asked"
        );
        assert_eq!(watcher.said(), [], "and is not to blame");
        let bounded = device.read(0, 0, &mut [0]);
        assert!(bounded.is_err());
        for waiting in waiting {
            assert!(waiting.join().unwrap().is_err());
        }
    });
    watcher.hears_gone();
    device.bound(None);
}

#[test]
fn a_reset_ends_at_its_own_deadline() {
    let server = silent_to(command::DEVICE_RESET);
    let (device, watcher) = open(&server);
    let by = Deadline::after(Duration::from_millis(50));
    let late = device.reset(by);
    assert!(Instant::now() >= by.instant());
    assert!(matches!(late, Err(ClientError::TimedOut { .. })));
    let reason = watcher.hears_gone();
    assert!(reason.contains("a reset"), "{reason}");
    assert!(!device.is_quiet(true), "its process lives");
}

#[test]
fn hung_servers_are_reset_in_parallel_each_to_its_own_deadline() {
    let (sender, under_way) = mpsc::channel();
    let mut hung: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            let server = Played::new(move |asked| match asked.command {
                command::DEVICE_RESET => {
                    sender.send(()).unwrap();
                    Verdict::Silence
                }
                _ => Verdict::Ordinary,
            });
            let (device, _) = open(&server);
            (server, device)
        })
        .collect();
    let mut patient: Vec<_> = hung.iter().map(|(_, device)| Arc::clone(device)).collect();
    let hasty = patient.remove(0);
    let patient: Vec<_> = patient
        .into_iter()
        .map(|device| thread::spawn(move || device.reset(soon())))
        .collect();
    // Both servers hold a reset when the third is asked for one.
    for _ in &patient {
        under_way.recv_timeout(SOON).unwrap();
    }
    let late = hasty.reset(Deadline::after(Duration::from_millis(50)));
    assert!(matches!(late, Err(ClientError::TimedOut { .. })));
    assert!(patient.iter().all(|thread| !thread.is_finished()));
    // The others would wait as long as they may.
    for (server, _) in &mut hung {
        server.end();
    }
    for thread in patient {
        assert!(is_gone(&thread.join().unwrap()));
    }
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let (server, gate) = held_up_by(command::DEVICE_RESET);
    let (device, watcher) = open(&server);
    let by = Deadline::after(Duration::from_millis(30));
    assert!(device.reset(by).is_err());
    watcher.hears_gone();
    gate.open();
    // It answers to nobody, sees that its client has left, and has it again.
    watcher.hears(|said| *said == Said::Back);
    assert_eq!(server.notes(|notes| notes.connections), 2);
    device.revive(soon()).unwrap();
    device.write(0, 0, &[5]).unwrap();
    let mut found = [0];
    device.read(0, 0, &mut found).unwrap();
    assert_eq!(found, [5]);
    device.reset(soon()).unwrap();
}

#[test]
fn a_server_that_does_not_take_its_messages_holds_writers_up_no_longer_than_it_may() {
    let (server, gate) = held_up_by(command::REGION_WRITE);
    let (device, watcher) = open_within(&server, 100);
    let lost = loop {
        if let Err(error) = device.write(0, 0, &[0; 512]) {
            break error;
        }
    };
    assert!(matches!(lost, ClientError::TimedOut { .. }), "{lost}");
    let reason = watcher.hears_gone();
    assert!(reason.contains("a write of BAR 0"), "{reason}");
    assert!(is_gone(&device.write(0, 0, &[0])));
    gate.open();
}

#[test]
fn a_writer_without_room_ends_with_the_connection_that_another_thread_ends() {
    let (server, gate) = held_up_by(command::REGION_WRITE);
    let (device, watcher) = open(&server);
    thread::scope(|scope| {
        let writing = scope.spawn(|| (0..).try_for_each(|_: u64| device.write(0, 0, &[0; 0x4000])));
        gate.is_reached();
        let late = device.reset(Deadline::after(Duration::from_millis(50)));
        assert!(matches!(late, Err(ClientError::TimedOut { .. })));
        // There is no session any more whose waits could be cancelled.
        let ended = writing.join().unwrap();
        gate.open();
        assert!(is_gone(&ended), "{ended:?}");
    });
    let reason = watcher.hears_gone();
    assert!(reason.contains("a reset"), "{reason}");
}

#[test]
fn a_second_server_gets_no_memory_while_the_first_has_its_connection() {
    let (server, gate) = held_up_by(command::DEVICE_RESET);
    let (device, watcher) = open(&server);
    std::fs::remove_file(&server.path).unwrap();
    assert!(
        device
            .reset(Deadline::after(Duration::from_millis(30)))
            .is_err()
    );
    let reason = watcher.hears_gone();
    assert!(reason.contains("a reset"), "{reason}");
    let second = Played::at(server.path.clone(), Capabilities::default(), |_| {
        Verdict::Ordinary
    });
    let error = device.revive(soon()).unwrap_err().to_string();
    assert!(
        error.contains("which served it before, still has"),
        "{error}"
    );
    assert_eq!(second.notes(|notes| notes.maps.len()), 0);
    gate.open();
    watcher.hears(|said| *said == Said::Back);
    assert_eq!(second.notes(|notes| notes.maps.len()), 2);
}

#[test]
fn a_teardown_bounds_what_is_waited_for() {
    let server = Played::new(|asked| match (asked.command, asked.descriptors) {
        (command::DEVICE_SET_IRQS, 0) => Verdict::Silence,
        _ => Verdict::Ordinary,
    });
    let (device, watcher) = open(&server);
    let event = event();
    let lent = borrowed_event::borrow(&event);
    device.connect(IrqType::Msix, 0, &[Some(lent)]).unwrap();
    let by = Deadline::after(Duration::from_millis(50));
    device.bound(Some(by));
    let late = device.disconnect(IrqType::Msix);
    assert!(matches!(late, Err(ClientError::TimedOut { after, .. }) if after.as_millis() <= 50));
    watcher.hears_gone();
}

#[test]
fn times_are_told_as_users_set_them() {
    let told = [0, 49, 949, 999, 1500, 4999, 5000, 12_340].map(|time| {
        let time = Duration::from_millis(time);
        in_words(time)
    });
    let expected = [
        "0 ms", "49 ms", "949 ms", "1 s", "1.5 s", "5 s", "5 s", "12.3 s",
    ];
    assert_eq!(told, expected);
}
