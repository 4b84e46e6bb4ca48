//! Each command as a good client sends it, and with each thing wrong that can be.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::protocol::*;

fn access(offset: u64, region: u32, count: u32) -> RegionAccess {
    RegionAccess {
        offset,
        region,
        count,
    }
}

fn map(address: u64, size: u64) -> DmaMap {
    DmaMap {
        argsz: 32,
        flags: map_flag::READ | map_flag::WRITE,
        offset: 0,
        address,
        size,
    }
}

fn unmap(address: u64, size: u64) -> DmaUnmap {
    DmaUnmap {
        argsz: 24,
        flags: 0,
        address,
        size,
    }
}

#[test]
fn registers_are_written_one_by_one_or_several_at_once_and_read() {
    let (_served, mut client) = Served::with_client();
    let written = access(0x10, 0, 4);
    let reply = ask(
        &mut client,
        command::REGION_WRITE,
        &[written.as_bytes(), b"four"],
    )
    .unwrap();
    assert_eq!(reply.payload, written.as_bytes());
    let small = |offset, data: &[u8; 8], count| SmallWrite {
        offset,
        region: 0,
        count,
        data: *data,
    };
    let writes = [small(0x14, b"eight...", 8), small(0x1C, b"twoxxxxx", 2)];
    let multi = WriteMulti { count: 2 };
    let parts = [multi.as_bytes(), writes.as_bytes()];
    ask(&mut client, command::REGION_WRITE_MULTI, &parts).unwrap();
    let read = access(0x10, 0, 15);
    let reply = ask(&mut client, command::REGION_READ, &[read.as_bytes()]).unwrap();
    assert_eq!(&reply.payload[16..], b"foureight...tw\0");
}

#[test]
fn accesses_outside_a_region_or_of_another_size_than_said_are_refused() {
    let (_served, mut client) = Served::with_client();
    let mut refused = |access: RegionAccess, data: &[u8]| {
        let read = ask(&mut client, command::REGION_READ, &[access.as_bytes()]);
        let written = ask(
            &mut client,
            command::REGION_WRITE,
            &[access.as_bytes(), data],
        );
        (read.err(), written.err())
    };
    let both = (Some(Errno::INVAL), Some(Errno::INVAL));
    assert_eq!(refused(access(SIZE, 0, 1), b"x"), both);
    assert_eq!(refused(access(u64::MAX, 0, 2), b"xx"), both);
    assert_eq!(refused(access(0, 1, 1), b"x"), both, "no such BAR");
    assert_eq!(refused(access(0, 99, 1), b"x"), both);
    assert_eq!(refused(access(0, 0, u32::MAX), b"x"), both);
    let lie = refused(access(0, 0, 3), b"xx");
    assert_eq!(lie, (None, Some(Errno::INVAL)));
    for payload in [&b""[..], b"short", &[0; 17]] {
        let read = ask(&mut client, command::REGION_READ, &[payload]);
        assert_eq!(read.err(), Some(Errno::INVAL));
    }
    let many = WriteMulti { count: u64::MAX };
    let refused = ask(&mut client, command::REGION_WRITE_MULTI, &[many.as_bytes()]);
    assert_eq!(refused.err(), Some(Errno::INVAL));
}

#[test]
fn the_device_says_what_it_is_and_refuses_questions_that_are_too_short() {
    let (_served, mut client) = Served::with_client();
    let mut asked = DeviceInfo {
        argsz: 16,
        flags: 0,
        regions: 0,
        irqs: 0,
    };
    let reply = ask(&mut client, command::DEVICE_GET_INFO, &[asked.as_bytes()]).unwrap();
    let info = DeviceInfo::read_from_bytes(&reply.payload).unwrap();
    assert_eq!((info.regions, info.irqs), (9, 5));
    assert_eq!(info.flags, device_flag::RESET | device_flag::PCI);
    asked.argsz = 15;
    let short = ask(&mut client, command::DEVICE_GET_INFO, &[asked.as_bytes()]);
    assert_eq!(short.err(), Some(Errno::INVAL));
    let short = ask(&mut client, command::DEVICE_GET_IRQ_INFO, &[&[0; 8]]);
    assert_eq!(short.err(), Some(Errno::INVAL));
    let unknown = ask(&mut client, 77, &[]);
    assert_eq!(unknown.err(), Some(Errno::NOTSUP));
    let again = ask(&mut client, command::VERSION, &[&[0; 4]]);
    assert_eq!(again.err(), Some(Errno::INVAL));
}

#[test]
fn memory_is_given_with_and_without_a_descriptor_and_taken_back() {
    let (served, mut client) = Served::with_client();
    let file = tempfile::tempfile().unwrap();
    let range = map(0x1000, 0x1000);
    let fds = [file.as_fd()];
    client
        .request(command::DMA_MAP, &[range.as_bytes()], &fds, &NoMemory, SOON)
        .unwrap();
    let range = map(0x8000, 0x1000);
    ask(&mut client, command::DMA_MAP, &[range.as_bytes()]).unwrap();
    let expected = [(0x1000, 0x1000, true), (0x8000, 0x1000, false)];
    assert_eq!(served.device.notes().maps, expected);
    let range = unmap(0x1000, 0x1000);
    let reply = ask(&mut client, command::DMA_UNMAP, &[range.as_bytes()]).unwrap();
    assert_eq!(reply.payload, range.as_bytes());
    let again = ask(&mut client, command::DMA_UNMAP, &[range.as_bytes()]);
    assert_eq!(again.err(), Some(Errno::NOENT));
    let all = DmaUnmap {
        flags: unmap_flag::ALL,
        ..unmap(0, 0)
    };
    ask(&mut client, command::DMA_UNMAP, &[all.as_bytes()]).unwrap();
    assert!(served.device.notes().maps.is_empty());
    for wrong in [
        map(0, 0),
        map(u64::MAX, 2),
        DmaMap {
            flags: 4,
            ..map(0, 1)
        },
    ] {
        let refused = ask(&mut client, command::DMA_MAP, &[wrong.as_bytes()]);
        assert_eq!(refused.err(), Some(Errno::INVAL), "{wrong:?}");
    }
}

#[test]
fn taking_memory_back_is_answered_when_it_is_no_longer_used_and_others_are_meanwhile() {
    let (served, mut client) = Served::with_client();
    let range = map(0x1000, 0x1000);
    ask(&mut client, command::DMA_MAP, &[range.as_bytes()]).unwrap();
    served.device.notes().held.push(0x1000);
    let device = Arc::clone(&served.device);
    let freed = thread::spawn(move || {
        loop {
            let then = device.notes().unmapped.remove(&0x1000);
            if let Some(then) = then {
                device.notes().resets = 7;
                then();
                return;
            }
            thread::yield_now();
        }
    });
    let range = unmap(0x1000, 0x1000);
    ask(&mut client, command::DMA_UNMAP, &[range.as_bytes()]).unwrap();
    assert_eq!(served.device.notes().resets, 7, "not before it was let go");
    freed.join().unwrap();
    // While another waits, the connection goes on.
    let range = map(0x1000, 0x1000);
    ask(&mut client, command::DMA_MAP, &[range.as_bytes()]).unwrap();
    let range = unmap(0x1000, 0x1000);
    client
        .post(command::DMA_UNMAP, &[range.as_bytes()], &[])
        .unwrap();
    ask(&mut client, command::DEVICE_RESET, &[]).unwrap();
    assert_eq!(served.device.notes().resets, 8);
}

#[test]
fn interrupts_are_set_as_asked_and_nonsense_is_refused() {
    let (served, mut client) = Served::with_client();
    let set = |flags, start, count| IrqSet {
        argsz: 20,
        flags,
        index: 2,
        start,
        count,
    };
    let connect = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER;
    let trigger = irq_set_flag::DATA_BOOL | irq_set_flag::ACTION_TRIGGER;
    let off = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER;
    let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let irqs = command::DEVICE_SET_IRQS;
    let request = set(connect, 1, 2);
    client
        .request(irqs, &[request.as_bytes()], &fds, &NoMemory, SOON)
        .unwrap();
    ask(&mut client, irqs, &[set(connect, 0, 4).as_bytes()]).unwrap();
    ask(&mut client, irqs, &[set(trigger, 0, 2).as_bytes(), &[0, 1]]).unwrap();
    ask(&mut client, irqs, &[set(off, 0, 0).as_bytes()]).unwrap();
    let noted: Vec<_> = served.device.notes().irqs.drain(..).collect();
    let noted: Vec<_> = noted
        .iter()
        .map(|irq| (irq.2, irq.3, irq.4.as_str()))
        .collect();
    let expected = [
        (1, 2, "connect 2"),
        (0, 4, "Disconnect"),
        (0, 2, "Some([false, true])"),
        (0, 0, "Off"),
    ];
    assert_eq!(noted, expected);
    for wrong in [
        set(connect, 3, 2),
        set(connect, u32::MAX, 2),
        set(connect | trigger, 0, 1),
        set(irq_set_flag::DATA_NONE, 0, 1),
        set(trigger, 0, 3),
        set(off, 1, 0),
        IrqSet {
            index: 9,
            ..set(off, 0, 0)
        },
    ] {
        let refused = ask(&mut client, irqs, &[wrong.as_bytes()]);
        assert_eq!(refused.err(), Some(Errno::INVAL), "{wrong:?}");
    }
    // Two descriptors for three interrupts, and descriptors where none belong.
    for wrong in [set(connect, 0, 3), set(off, 0, 2)] {
        let refused = client.request(irqs, &[wrong.as_bytes()], &fds, &NoMemory, SOON);
        assert!(matches!(refused, Err(ClientError::Refused { .. })));
    }
    assert!(served.device.notes().irqs.is_empty());
}

#[test]
fn eventfds_for_writes_come_with_their_places() {
    let (served, mut client) = Served::with_client();
    let file = tempfile::tempfile().unwrap();
    served.device.notes().file = Some(file.into());
    served.device.notes().io_events = 1;
    let mut asked = RegionIoFds {
        argsz: 16,
        flags: 0,
        index: 0,
        count: 0,
    };
    let io_fds = command::DEVICE_GET_REGION_IO_FDS;
    let reply = ask(&mut client, io_fds, &[asked.as_bytes()]).unwrap();
    let needed = RegionIoFds::read_from_bytes(&reply.payload).unwrap().argsz;
    assert_eq!((needed, reply.descriptors.len()), (56, 0));
    asked.argsz = needed;
    let reply = ask(&mut client, io_fds, &[asked.as_bytes()]).unwrap();
    let entry = IoEventFd::read_from_bytes(&reply.payload[16..]).unwrap();
    assert_eq!((entry.offset, entry.size, entry.fd_index), (0x1008, 4, 0));
    assert_eq!(reply.descriptors.len(), 1);
    // No more than the client takes in a message.
    served.device.notes().io_events = 100;
    asked.argsz = 4096;
    let reply = ask(&mut client, io_fds, &[asked.as_bytes()]).unwrap();
    let found = RegionIoFds::read_from_bytes(&reply.payload[..16]).unwrap();
    assert_eq!((found.count, found.argsz), (8, 16 + 8 * 40));
    assert_eq!(reply.descriptors.len(), 8);
    for (number, raw) in (0..).zip(reply.payload[16..].chunks(40)) {
        let entry = IoEventFd::read_from_bytes(raw).unwrap();
        assert_eq!(
            (entry.offset, entry.fd_index),
            (0x1008 + u64::from(number) * 8, number)
        );
    }
}

#[test]
fn a_second_client_is_turned_away_and_the_first_does_not_notice() {
    let (mut served, mut client) = Served::with_client();
    served.listener.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(served.listener.read(&mut [0]).unwrap(), 0, "closed");
    ask(&mut client, command::DEVICE_RESET, &[]).unwrap();
    drop(client);
    assert!(matches!(served.ended(), Ended::Client(_)));
}

#[test]
fn the_server_stops_when_told_and_lets_go_of_the_client() {
    let (mut served, mut client) = Served::with_client();
    served.stop.write_all(b"x").unwrap();
    let device = Arc::clone(&served.device);
    assert!(matches!(served.ended(), Ended::Stopped));
    assert_eq!(device.clients(), (1, 1));
    let gone = client.request(command::DEVICE_RESET, &[], &[], &NoMemory, SOON);
    assert!(matches!(gone, Err(ClientError::Wire(_))));
}
