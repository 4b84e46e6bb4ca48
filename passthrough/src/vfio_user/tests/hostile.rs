//! Servers that mean ill: what they say is refused or ends the connection, and nothing here breaks.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use rustix::fs::{SealFlags, fcntl_add_seals};
use vfio_user::protocol::*;
use vm_memory::VolatileMemory;
use zerocopy::IntoBytes;

use super::ordinary::{BAR, region_info};
use super::*;
use crate::client::Area;

const PAGE: u64 = 4096;

fn memfd(flags: MemfdFlags, size: u64) -> File {
    let file = File::from(memfd_create("bar", flags | MemfdFlags::CLOEXEC).unwrap());
    file.set_len(size).unwrap();
    file
}

/// A server that offers these areas of BAR 0, in this file.
fn sharing(areas: &'static [(u64, u64)], file: File) -> Played {
    sharing_at(areas, file, 0, |_| {})
}

fn sharing_at(
    areas: &'static [(u64, u64)],
    file: File,
    offset: u64,
    change: fn(&mut SparseMmap),
) -> Played {
    Played::new(move |asked| {
        let index = asked.payload.get(8).copied();
        if asked.command != command::DEVICE_GET_REGION_INFO || index != Some(0) {
            return Verdict::Ordinary;
        }
        let mut info = region_info(0);
        info.flags |= region_flag::MMAP | region_flag::CAPS;
        (info.cap_offset, info.offset) = (32, offset);
        info.argsz = 48 + 16 * areas.len() as u32;
        let mut sparse = SparseMmap {
            id: 1,
            version: 1,
            next: 0,
            areas: areas.len() as u32,
            reserved: 0,
        };
        change(&mut sparse);
        let mut reply = [info.as_bytes(), sparse.as_bytes()].concat();
        for (offset, size) in areas {
            reply.extend([offset.to_le_bytes(), size.to_le_bytes()].concat());
        }
        Verdict::Reply(reply, vec![OwnedFd::from(file.try_clone().unwrap())])
    })
}

#[test]
fn a_sealed_memfd_is_mapped_where_the_server_says() {
    let file = memfd(MemfdFlags::ALLOW_SEALING, 3 * PAGE);
    let server = sharing_at(&[(PAGE, PAGE)], file.try_clone().unwrap(), PAGE, |_| {});
    let (device, watcher) = open(&server);
    let area = Area {
        offset: PAGE,
        size: PAGE,
    };
    assert_eq!(device.region(0).areas, [area]);
    let mapping = device.map(0, area).unwrap();
    let slice = mapping.as_volatile_slice();
    slice.get_ref::<u32>(8).unwrap().store(0x1234_5678);
    let mut found = [0; 4];
    file.read_exact_at(&mut found, 2 * PAGE + 8).unwrap();
    assert_eq!(u32::from_le_bytes(found), 0x1234_5678);
    assert!(
        file.set_len(PAGE).is_err(),
        "it cannot be cut short any more"
    );
    for beyond in [
        (0, PAGE),
        (PAGE, 2 * PAGE),
        (2 * PAGE, PAGE),
        (PAGE, 0),
        (u64::MAX, 2),
    ] {
        let (offset, size) = beyond;
        assert!(device.map(0, Area { offset, size }).is_err(), "{beyond:?}");
    }
    assert_eq!(watcher.said(), []);
}

/// It is opened, nothing can be mapped, and a user is told why.
fn is_not_mapped(server: &Played, why: &str) {
    let (device, watcher) = open(server);
    assert_eq!(device.region(0).areas, []);
    let area = Area {
        offset: 0,
        size: PAGE,
    };
    assert!(device.map(0, area).is_err());
    let [Said::Warning(text)] = &watcher.said()[..] else {
        panic!("{:?}", watcher.said());
    };
    assert!(
        text.contains("BAR 0 is reached by messages") && text.contains(why),
        "{text}"
    );
    device.read(0, 0, &mut [0]).unwrap();
}

#[test]
fn files_that_can_be_cut_short_are_not_mapped() {
    const WHOLE: &[(u64, u64)] = &[(0, BAR)];
    let unsealed = memfd(MemfdFlags::empty(), BAR);
    is_not_mapped(&sharing(WHOLE, unsealed), "cut short");
    let file = tempfile::tempfile().unwrap();
    file.set_len(BAR).unwrap();
    is_not_mapped(&sharing(WHOLE, file), "cut short");
    let closed = memfd(MemfdFlags::ALLOW_SEALING, BAR);
    fcntl_add_seals(&closed, SealFlags::SEAL).unwrap();
    is_not_mapped(&sharing(WHOLE, closed), "cut short");
    let short = memfd(MemfdFlags::ALLOW_SEALING, BAR - 1);
    is_not_mapped(&sharing(WHOLE, short), "ends before");
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    is_not_mapped(
        &sharing(WHOLE, File::from(OwnedFd::from(socket))),
        "no file",
    );
    let beyond = memfd(MemfdFlags::ALLOW_SEALING, BAR);
    let server = sharing_at(WHOLE, beyond, u64::MAX - PAGE + 1, |_| {});
    is_not_mapped(&server, "ends before");
}

#[test]
fn areas_that_make_no_sense_are_not_mapped() {
    let all: [&[(u64, u64)]; 6] = [
        &[(0, PAGE - 1)],
        &[(1, PAGE)],
        &[(PAGE, PAGE), (0, PAGE)],
        &[(0, 2 * PAGE), (PAGE, PAGE)],
        &[(0, BAR + PAGE)],
        &[(u64::MAX - PAGE + 1, PAGE)],
    ];
    for areas in all {
        let file = memfd(MemfdFlags::ALLOW_SEALING, 2 * BAR);
        is_not_mapped(&sharing(areas, file), "make no sense");
    }
    let lies: [fn(&mut SparseMmap); 4] = [
        |sparse| sparse.areas = 2,
        |sparse| sparse.areas = u32::MAX,
        |sparse| (sparse.id, sparse.next) = (7, 32),
        |sparse| (sparse.id, sparse.next) = (7, 5000),
    ];
    for lie in lies {
        let file = memfd(MemfdFlags::ALLOW_SEALING, BAR);
        let server = sharing_at(&[(0, PAGE)], file, 0, lie);
        is_not_mapped(&server, "make no sense");
    }
}

#[test]
fn a_region_with_too_many_areas_is_refused() {
    let server = Played::new(|asked| match asked.command {
        command::DEVICE_GET_REGION_INFO => {
            let mut info = region_info(asked.payload[8].into());
            info.argsz = u32::MAX;
            Verdict::Reply(info.as_bytes().to_vec(), Vec::new())
        }
        _ => Verdict::Ordinary,
    });
    let opened = connect(
        &server.path,
        options(20_000),
        &memory(),
        Arc::new(Watcher::default()),
    );
    let text = opened.err().unwrap().to_string();
    assert!(text.contains("BAR 0 has too many parts"), "{text}");
}

#[test]
fn answers_of_another_size_or_place_end_the_connection() {
    type Answer = fn(&[u8]) -> Vec<u8>;
    let answers: [Answer; 4] = [
        |asked| asked.to_vec(),
        |asked| [asked, &[0; 5]].concat(),
        |_| Vec::new(),
        |asked| {
            let mut other = [asked, &[0; 4]].concat();
            other[0] ^= 8;
            other
        },
    ];
    for answer in answers {
        let server = Played::new(move |asked| match asked.command {
            command::REGION_READ if asked.payload[8] == 0 => {
                Verdict::Reply(answer(asked.payload), Vec::new())
            }
            _ => Verdict::Ordinary,
        });
        let (device, watcher) = open(&server);
        assert!(is_gone(&device.read(0, 0x40, &mut [0; 4])));
        let reason = watcher.hears_gone();
        assert!(reason.contains("makes no sense"), "{reason}");
    }
}

fn mangled() -> impl Strategy<Value = (u16, Vec<u8>, bool)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..120);
    let small = prop::collection::vec(0_u8..3, 0..120);
    (1_u16..11, prop_oneof![bytes, small], any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_answers_are_refused_or_taken_and_nothing_breaks(
        answers in prop::collection::vec(mangled(), 1..6)
    ) {
        let server = Played::new(move |asked| {
            let (_, payload, raw) = match answers.iter().find(|(command, ..)| *command == asked.command) {
                Some(found) => found,
                None => return Verdict::Ordinary,
            };
            match raw {
                true => Verdict::Die(payload.clone()),
                false => {
                    let file = OwnedFd::from(tempfile::tempfile().unwrap());
                    Verdict::Reply(payload.clone(), vec![file])
                }
            }
        });
        let watcher = Arc::new(Watcher::default());
        if let Ok(device) = connect(&server.path, options(20_000), &memory(), watcher) {
            let _ = device.read(0, 0, &mut [0; 8]);
            let _ = device.io_events(0);
            let _ = device.reset(soon());
            device.release();
        }
    }
}
