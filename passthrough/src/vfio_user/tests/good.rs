//! What a good server and this client make of each other.

use std::os::unix::fs::FileExt;

use vfio_user::protocol::*;
use vfio_user::wire::Sender;
use vm_memory::Bytes;
use zerocopy::IntoBytes;

use super::played::BAR;
use super::*;
use crate::client::IrqType;
use crate::vfio_user::borrowed_event::borrow;
use vmm_sys_util::eventfd::EventFd;

fn event() -> EventFd {
    EventFd::new(libc::EFD_NONBLOCK).unwrap()
}

#[test]
fn the_device_is_what_the_server_says() {
    let server = Played::good();
    let (device, watcher) = open(&server);
    assert_eq!(device.name(), server.path.display().to_string());
    assert_eq!((device.region(0).size, device.region(7).size), (BAR, 256));
    assert_eq!(device.region(1).size, 0);
    assert_eq!(device.region(99).size, 0);
    let irqs = [IrqType::Intx, IrqType::Msi, IrqType::Msix].map(|irq| device.irqs(irq));
    assert_eq!(irqs, [1, 4, 10]);
    assert!(device.can_reset());
    assert_eq!(device.gone(), None);
    assert!(!device.is_quiet(true), "it has guest memory");
    assert_eq!(watcher.said(), []);
}

#[test]
fn memory_is_given_by_descriptor_where_it_has_one() {
    let server = Played::good();
    let memory = memory();
    let watcher = Arc::new(Watcher::default());
    let _device = connect(&server.path, options(20_000), &memory, watcher).unwrap();
    server.notes(|notes| {
        let ranges: Vec<_> = (notes.maps.iter())
            .map(|(_, map, file)| (map.address, map.size, map.flags, file.is_some()))
            .collect();
        let size = MEMORY as u64;
        assert_eq!(ranges, [(0, size, 3, true), (REMOTE, size, 3, false)]);
        let (_, map, file) = &notes.maps[0];
        let file = file.as_ref().unwrap();
        file.write_all_at(b"theirs", map.offset + 0x100).unwrap();
    });
    let mut found = [0; 6];
    memory.read_slice(&mut found, GuestAddress(0x100)).unwrap();
    assert_eq!(&found, b"theirs");
}

#[test]
fn writes_are_posted_and_seen_by_the_reads_after_them() {
    let server = Played::good();
    let (device, _) = open(&server);
    device.write(0, 0x10, &[1, 2, 3, 4]).unwrap();
    device.write(0, 0x12, &[9]).unwrap();
    let mut found = [0; 4];
    device.read(0, 0x10, &mut found).unwrap();
    assert_eq!(found, [1, 2, 9, 4]);
    device.read(7, 0, &mut found).unwrap();
    assert_eq!(found, [0x34, 0x12, 0x78, 0x56]);
    let quiet = server.notes(|notes| notes.writes.iter().all(|(.., quiet)| *quiet));
    assert!(quiet, "no reply was wanted");
}

#[test]
fn a_server_that_replies_to_posted_writes_is_put_up_with() {
    let server = Played::new(|asked| {
        if asked.header.wants_no_reply() {
            let reply = asked.header.reply(16);
            asked
                .sender
                .send(&reply, &[&asked.payload[..16]], &[])
                .unwrap();
        }
        Verdict::Ordinary
    });
    let (device, watcher) = open(&server);
    for round in 0..200_u8 {
        device.write(0, 0x20, &[round]).unwrap();
        let mut found = [0];
        device.read(0, 0x20, &mut found).unwrap();
        assert_eq!(found, [round]);
    }
    assert_eq!(watcher.said(), []);
}

#[test]
fn long_accesses_go_in_pieces_of_what_the_server_takes() {
    let stated = Capabilities {
        max_data_xfer_size: Some(8),
        ..Capabilities::default()
    };
    let server = Played::stating(stated, |asked| match asked.command {
        command::REGION_READ if asked.payload[12] > 8 => Verdict::Refuse(22),
        _ => Verdict::Ordinary,
    });
    let (device, _) = open(&server);
    let written: Vec<u8> = (0..20).collect();
    device.write(0, 4, &written).unwrap();
    let mut found = vec![0; 20];
    device.read(0, 4, &mut found).unwrap();
    assert_eq!(found, written);
    let sizes = server.notes(|notes| {
        notes
            .writes
            .iter()
            .map(|(at, ..)| at.count)
            .collect::<Vec<_>>()
    });
    assert_eq!(sizes, [8, 8, 4]);
}

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
fn who_asks_for_a_fence_is_told_where_there_can_be_none() {
    let server = Played::good();
    let watcher = Arc::new(Watcher::default());
    let options = UserOptions {
        fence: true,
        ..options(20_000)
    };
    // This process plays the server, and does not end itself.
    let device = connect(&server.path, options, &memory(), watcher.clone()).unwrap();
    let [Said::Warning(text)] = &watcher.said()[..] else {
        panic!("{:?}", watcher.said());
    };
    assert!(text.contains("not known which process"), "{text}");
    assert!(!device.is_quiet(false));
    watcher.hears_gone();
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
fn a_reset_is_asked_for_and_a_refused_one_says_so() {
    let server = Played::good();
    let (device, _) = open(&server);
    device.reset(soon()).unwrap();
    assert_eq!(server.notes(|notes| notes.resets), 1);
    let refuses = Played::new(|asked| match asked.command {
        command::DEVICE_RESET => Verdict::Refuse(16),
        _ => Verdict::Ordinary,
    });
    let (device, watcher) = open(&refuses);
    let refused = device.reset(soon()).unwrap_err();
    assert!(refused.to_string().contains("a reset"), "{refused}");
    assert!(
        matches!(refused, ClientError::Refused { source, .. } if source.raw_os_error() == Some(16))
    );
    assert_eq!(watcher.said(), [], "it goes on");
    device.read(0, 0, &mut [0]).unwrap();
}

fn access(sender: &Sender, id: u16, command: u16, address: u64, count: u64, data: &[u8]) {
    let access = DmaAccess { address, count };
    let header = Header::command(id, command, 16 + data.len());
    sender
        .send(&header, &[access.as_bytes(), data], &[])
        .unwrap();
}

#[test]
fn the_server_reads_and_writes_guest_memory_by_messages_and_nothing_beyond_it() {
    let server = Played::good();
    let memory = memory();
    memory
        .write_slice(b"ours", GuestAddress(REMOTE + 8))
        .unwrap();
    let watcher = Arc::new(Watcher::default());
    let _device = connect(&server.path, options(20_000), &memory, watcher.clone()).unwrap();
    let sender = server.notes(|notes| notes.sender.clone().unwrap());
    let reply = |id: u16| {
        server.until(|notes| {
            let found = notes
                .replies
                .iter()
                .position(|(header, _)| header.id == id)?;
            Some(notes.replies.remove(found))
        })
    };
    access(&sender, 1, command::DMA_READ, REMOTE + 8, 4, &[]);
    let (header, payload) = reply(1);
    assert_eq!((header.flags, &payload[16..]), (flag::REPLY, &b"ours"[..]));
    access(&sender, 2, command::DMA_WRITE, 0x200, 6, b"theirs");
    assert_eq!(reply(2).0.flags, flag::REPLY);
    let mut found = [0; 6];
    memory.read_slice(&mut found, GuestAddress(0x200)).unwrap();
    assert_eq!(&found, b"theirs");
    let end = REMOTE + MEMORY as u64;
    for (id, (address, count)) in (10..).zip([(end - 2, 4), (end, 1), (0x8_0000, 1), (u64::MAX, 2)])
    {
        let data = vec![7; count as usize];
        access(&sender, id, command::DMA_WRITE, address, count, &data);
        let (header, _) = reply(id);
        assert_eq!(
            (header.flags, header.error),
            (flag::REPLY | flag::ERROR, 14)
        );
        access(&sender, id + 100, command::DMA_READ, address, count, &[]);
        assert_eq!(reply(id + 100).0.error, 14);
    }
    let mut last = [0; 2];
    memory.read_slice(&mut last, GuestAddress(end - 2)).unwrap();
    assert_eq!(last, [0, 0], "nothing of an access that is not all inside");
    assert_eq!(watcher.said(), []);
}

#[test]
fn many_threads_have_their_own_answers() {
    let server = Played::good();
    let (device, watcher) = open(&server);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..100 {
                    let written = (thread << 32 | round).to_le_bytes();
                    device.write(0, thread * 8, &written).unwrap();
                    let mut found = [0; 8];
                    device.read(0, thread * 8, &mut found).unwrap();
                    assert_eq!(found, written);
                }
            });
        }
    });
    assert_eq!(watcher.said(), []);
}

#[test]
fn release_lets_the_server_see_the_end_and_ends_the_thread() {
    let server = Played::good();
    let (device, watcher) = open(&server);
    device.release();
    server.until(|notes| (notes.ended == 1).then_some(()));
    assert!(is_gone(&device.read(0, 0, &mut [0])));
    assert_eq!(watcher.said(), [], "it was given back, and is not gone");
}
