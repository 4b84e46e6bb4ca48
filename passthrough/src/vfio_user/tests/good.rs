//! What a good server and this client make of each other.

use std::os::unix::fs::FileExt;

use vfio_user::protocol::*;
use vfio_user::wire::Sender;
use vm_memory::Bytes;
use zerocopy::IntoBytes;

use super::ordinary::BAR;
use super::*;
use crate::client::IrqType;

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
        assert!(file.set_len(0x1000).is_err(), "and it cannot be cut short");
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
    assert!(device.has_reset());
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

#[test]
fn guest_memory_that_a_server_could_cut_short_is_warned_of() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY as u64).unwrap();
    let range = (GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)));
    let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
    let server = Played::good();
    let watcher = Arc::new(Watcher::default());
    let _device = connect(&server.path, options(20_000), &memory, watcher.clone()).unwrap();
    let [Said::Warning(text)] = &watcher.said()[..] else {
        panic!("{:?}", watcher.said());
    };
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn a_server_that_knows_no_reset_after_all_is_told_of_and_has_none() {
    for errno in [22, 95, 38, 25] {
        let server = Played::new(move |asked| match asked.command {
            command::DEVICE_RESET => Verdict::Refuse(errno),
            _ => Verdict::Ordinary,
        });
        let (device, watcher) = open(&server);
        assert!(device.has_reset());
        for _ in 0..2 {
            let refused = device.reset(soon());
            assert!(matches!(refused, Err(ClientError::Refused { .. })));
        }
        assert!(device.can_reset() && !device.has_reset());
        let [Said::Warning(text)] = &watcher.said()[..] else {
            panic!("{:?}", watcher.said());
        };
        assert!(text.contains("answers that it cannot"), "{text}");
    }
}
