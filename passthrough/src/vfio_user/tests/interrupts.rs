//! Interrupts connected, silenced, switched off, and the pin unmasked: by servers of several minds.

use vfio_user::protocol::*;
use zerocopy::IntoBytes;

use super::*;
use crate::client::IrqType;
use crate::vfio_user::borrowed_event::borrow;

#[test]
fn interrupts_are_connected_as_many_at_a_time_as_the_server_takes() {
    let server = Played::good();
    let (device, _) = open(&server);
    let events: Vec<_> = (0..9).map(|_| event()).collect();
    let mut lent: Vec<_> = events.iter().map(|event| Some(borrow(event))).collect();
    lent[5] = None;
    device.connect(IrqType::Msix, 1, &lent).unwrap();
    let noted = server.notes(|notes| {
        let sets = notes.irqs.iter();
        sets.map(|(set, fds, _)| (set.index, set.flags, set.start, set.count, fds.len()))
            .collect::<Vec<_>>()
    });
    let connect = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER;
    let expected = [
        (2, connect, 1, 4, 4),
        (2, connect, 5, 1, 1),
        (2, connect, 6, 1, 0),
        (2, connect, 7, 3, 3),
    ];
    assert_eq!(noted, expected);
    // A signal of the server reaches the eventfd that was given.
    server.notes(|notes| rustix::io::write(&notes.irqs[1].1[0], &1_u64.to_ne_bytes()).unwrap());
    assert_eq!(events[4].read().unwrap(), 1);
    device.disconnect(IrqType::Msix).unwrap();
    let last = server.notes(|notes| notes.irqs.pop().unwrap().0);
    let off = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER;
    assert_eq!((last.flags, last.start, last.count), (off, 0, 0));
    // A type that is off stays off without a word: there are servers that switch all off with any.
    device.disconnect(IrqType::Msix).unwrap();
    device.disconnect(IrqType::Intx).unwrap();
    assert_eq!(server.notes(|notes| notes.irqs.len()), 4);
    let too_many = device.connect(IrqType::Msix, 2, &lent);
    assert!(matches!(too_many, Err(ClientError::Refused { .. })));
}

#[test]
fn vectors_without_a_signal_have_one_that_nobody_hears_where_the_server_knows_none() {
    let server = Played::new(|asked| match (asked.command, asked.descriptors) {
        (command::DEVICE_SET_IRQS, 0) => Verdict::Refuse(22),
        _ => Verdict::Ordinary,
    });
    let (device, _) = open(&server);
    let heard = event();
    device
        .connect(IrqType::Msi, 0, &[Some(borrow(&heard)), None, None])
        .unwrap();
    let counts = server.notes(|notes| notes.irqs.iter().map(|set| set.1.len()).collect::<Vec<_>>());
    assert_eq!(counts, [1, 2]);
}

#[test]
fn a_server_that_cannot_switch_a_type_off_is_given_eventfds_that_nobody_hears() {
    let off = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER;
    let server = Played::new(move |asked| match (asked.command, asked.descriptors) {
        (command::DEVICE_SET_IRQS, 0) => Verdict::Refuse(22),
        _ => Verdict::Ordinary,
    });
    let (device, _) = open(&server);
    let heard = event();
    device
        .connect(IrqType::Msi, 1, &[Some(borrow(&heard))])
        .unwrap();
    device.disconnect(IrqType::Msi).unwrap();
    let (set, fds, _) = server.notes(|notes| notes.irqs.pop().unwrap());
    assert_ne!(set.flags, off);
    assert_eq!((set.start, set.count, fds.len()), (0, 4, 4));
    for fd in fds {
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).unwrap();
    }
    assert!(heard.read().is_err());
}

#[test]
fn what_was_connected_before_a_refusal_is_silenced() {
    let server = Played::new(|asked| {
        let start = asked.payload.get(12).copied();
        match (asked.command, start) {
            (command::DEVICE_SET_IRQS, Some(4)) => Verdict::Refuse(28),
            _ => Verdict::Ordinary,
        }
    });
    let (device, watcher) = open(&server);
    let events: Vec<_> = (0..6).map(|_| event()).collect();
    let lent: Vec<_> = events.iter().map(|event| Some(borrow(event))).collect();
    let refused = device.connect(IrqType::Msix, 0, &lent).unwrap_err();
    assert!(
        refused.to_string().contains("connecting its interrupts"),
        "{refused}"
    );
    let noted = server.notes(|notes| {
        let sets = notes.irqs.iter();
        sets.map(|(set, fds, _)| (set.start, set.count, fds.len()))
            .collect::<Vec<_>>()
    });
    assert_eq!(noted, [(0, 4, 4), (0, 4, 0)]);
    assert_eq!(watcher.said(), [], "it goes on");
}

#[test]
fn a_signal_of_the_guests_end_of_interrupt_unmasks_the_pin() {
    let server = Played::good();
    let (device, _) = open(&server);
    let ended = Arc::new(event());
    device.unmask_pin_by(Some(&ended)).unwrap();
    // This server's pin does not mask itself: it is told, and has no descriptor.
    ended.write(1).unwrap();
    let unmask = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_UNMASK;
    let posted = server.until(|notes| {
        let (set, fds, quiet) = notes.irqs.pop()?;
        Some((set.flags, set.index, set.count, fds.len(), quiet))
    });
    assert_eq!(posted, (unmask, 0, 1, 0, true));
    device.unmask_pin_by(None).unwrap();
    device.set_pin_masked(true).unwrap();
    let set = server.until(|notes| Some(notes.irqs.pop()?.0));
    assert_eq!(
        set.flags,
        irq_set_flag::DATA_NONE | irq_set_flag::ACTION_MASK
    );
}

#[test]
fn a_pin_that_masks_itself_is_unmasked_by_the_server() {
    let automasked = |asked: &Asked<'_>| match asked.command {
        command::DEVICE_GET_IRQ_INFO => {
            let info = IrqInfo {
                argsz: 16,
                flags: irq_flag::EVENTFD | irq_flag::AUTOMASKED,
                index: asked.payload[8].into(),
                count: 1,
            };
            Verdict::Reply(info.as_bytes().to_vec(), Vec::new())
        }
        _ => Verdict::Ordinary,
    };
    let server = Played::new(automasked);
    let (device, _) = open(&server);
    let ended = Arc::new(event());
    device.unmask_pin_by(Some(&ended)).unwrap();
    let (set, fds, _) = server.notes(|notes| notes.irqs.pop().unwrap());
    let unmask = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_UNMASK;
    assert_eq!((set.flags, set.index, fds.len()), (unmask, 0, 1));

    let refuses = Played::new(move |asked| match asked.command {
        command::DEVICE_SET_IRQS if asked.payload[4] & 4 != 0 => Verdict::Refuse(95),
        _ => automasked(asked),
    });
    let (device, watcher) = open(&refuses);
    device.unmask_pin_by(Some(&ended)).unwrap();
    ended.write(1).unwrap();
    refuses.until(|notes| notes.irqs.pop());
    assert_eq!(watcher.said(), []);
}

#[test]
fn the_servers_own_registers_say_which_type_is_on() {
    let server = Played::good();
    let (device, _) = open(&server);
    let heard = event();
    let lent = [Some(borrow(&heard)), None, None];
    device.connect(IrqType::Msix, 0, &lent).unwrap();
    device.connect(IrqType::Msix, 1, &lent).unwrap();
    device.disconnect(IrqType::Msix).unwrap();
    device.connect(IrqType::Msi, 0, &lent).unwrap();
    // An answer says that what was written before it was taken.
    device.read(region::BAR0, 0, &mut [0; 4]).unwrap();
    let written = server.notes(|notes| {
        let writes = notes.writes.iter();
        writes
            .map(|(access, data, _)| (access.region, access.offset, data.clone()))
            .collect::<Vec<_>>()
    });
    let config = region::CONFIG;
    let expected = [
        (config, 0x53, vec![0x80]),
        (config, 0x53, vec![0]),
        // Four vectors: two to the power of two.
        (config, 0x42, vec![0x21]),
    ];
    assert_eq!(written, expected);
}

#[test]
fn a_type_whose_first_connection_was_refused_is_turned_on_by_the_next() {
    let refused = std::sync::atomic::AtomicBool::new(false);
    let server = Played::new(move |asked| match asked.command {
        command::DEVICE_SET_IRQS if !refused.swap(true, std::sync::atomic::Ordering::Relaxed) => {
            Verdict::Refuse(28)
        }
        _ => Verdict::Ordinary,
    });
    let (device, _) = open(&server);
    let heard = event();
    let lent = [Some(borrow(&heard))];
    let refused = device.connect(IrqType::Msix, 0, &lent);
    assert!(matches!(refused, Err(ClientError::Refused { .. })));
    device.connect(IrqType::Msix, 0, &lent).unwrap();
    device.read(region::BAR0, 0, &mut [0]).unwrap();
    let written = server.notes(|notes| notes.writes.pop());
    let (access, data, _) = written.unwrap();
    assert_eq!((access.offset, &data[..]), (0x53, &[0x80][..]));
}

#[test]
fn vectors_are_unmasked_in_servers_with_masks_of_their_own() {
    let server = Played::good();
    let (device, _) = open(&server);
    let heard = event();
    let lent = [Some(borrow(&heard)), None];
    device.connect(IrqType::Msix, 3, &lent).unwrap();
    device.connect(IrqType::Msix, 3, &[None]).unwrap();
    device.connect(IrqType::Intx, 0, &lent[..1]).unwrap();
    device.reset(soon()).unwrap();
    // All up to the last one, from the first.
    let msix = irq::MSIX;
    assert_eq!(
        server.notes(|notes| notes.unmasked.clone()),
        [(msix, 0, 5)],
        "whoever is without a signal stays as it is"
    );
}

#[test]
fn a_server_that_knows_no_masks_may_say_so() {
    let refused = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&refused);
    let server = Played::new(move |asked| {
        let action = asked.payload.get(4).copied().unwrap_or(0);
        let unmask = irq_set_flag::ACTION_UNMASK as u8;
        if asked.command != command::DEVICE_SET_IRQS || action & unmask == 0 {
            return Verdict::Ordinary;
        }
        *theirs.lock().unwrap() += 1;
        Verdict::Refuse(22)
    });
    let (device, watcher) = open(&server);
    let heard = event();
    let lent = [Some(borrow(&heard))];
    device.connect(IrqType::Msi, 0, &lent).unwrap();
    device.reset(soon()).unwrap();
    assert_eq!(*refused.lock().unwrap(), 1);
    assert_eq!(watcher.said(), []);
}
