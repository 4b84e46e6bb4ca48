//! Identify: what the controller and its namespaces say they are.

use super::backend::TestBackend;
use super::commands::{identify, page};
use super::driver::{DATA, DISK, Guest, MEMORY, config, refused, transfer};
use crate::spec::command::io;
use crate::spec::identify::{self, cns};
use crate::spec::{Status, Submission};

#[test]
fn identify_says_what_was_configured() {
    let mut guest = Guest::with(config(vec![
        TestBackend::new(DISK),
        TestBackend::new(1 << 20),
    ]));
    guest.enable();
    let controller: identify::Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    assert_eq!(&controller.sn, b"SD0001              ");
    assert_eq!(&controller.mn[..13], b"Sundown NVMe ");
    assert_eq!(&controller.fr, b"1.0     ");
    let (nn, ver, rtd3e) = (controller.nn, controller.ver, controller.rtd3e);
    assert_eq!((nn, ver, rtd3e), (2, 0x0002_0000, 1_000_000));
    assert_eq!(
        (controller.sqes, controller.cqes, controller.mdts),
        (0x66, 0x44, 8)
    );
    assert!(
        controller
            .subnqn
            .starts_with(b"nqn.2014-08.org.nvmexpress:uuid:")
    );
    let shadow_doorbells = 1 << 8;
    assert_eq!(
        { controller.oacs },
        1 << 1 | 1 << 4 | shadow_doorbells,
        "Format, self-test"
    );

    let namespace: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 2));
    assert_eq!({ namespace.nsze }, 2048);
    assert_eq!(namespace.formats[0].data_shift, 9);
    let list: [u32; 1024] = page(&mut guest, identify(cns::ACTIVE_NAMESPACES, 0));
    assert_eq!(list[..3], [1, 2, 0]);
    let list: [u32; 1024] = page(&mut guest, identify(cns::ACTIVE_NAMESPACES, 1));
    assert_eq!(list[..2], [2, 0]);
    let ids: [[u8; 4096]; 2] =
        [1, 2].map(|nsid| page(&mut guest, identify(cns::NAMESPACE_DESCRIPTORS, nsid)));
    assert_ne!(ids[0], ids[1]);
    let independent: identify::IndependentNamespace =
        page(&mut guest, identify(cns::INDEPENDENT_NAMESPACE, 1));
    assert_eq!(independent.nstat, 1);
    let sets: [u64; 512] = page(&mut guest, identify(cns::COMMAND_SETS, 0));
    assert_eq!(sets[..2], [1, 0]);
    for selector in [5, 6, 7] {
        guest.admin_ok(identify(selector, 1));
        let other_set = Submission {
            cdw11: 2 << 24,
            ..identify(selector, 1)
        };
        assert_eq!(guest.admin(other_set), refused(Status::INVALID_FIELD));
    }
}

#[test]
fn identify_refuses_what_it_does_not_know() {
    let mut guest = Guest::up();
    let cases = [
        (identify(0xFE, 0), Status::INVALID_FIELD),
        (identify(cns::NAMESPACE, 0), Status::INVALID_NAMESPACE),
        (identify(cns::NAMESPACE, 2), Status::INVALID_NAMESPACE),
        (
            identify(cns::NAMESPACE, u32::MAX),
            Status::INVALID_NAMESPACE,
        ),
        (
            identify(cns::ACTIVE_NAMESPACES, u32::MAX),
            Status::INVALID_NAMESPACE,
        ),
        (
            Submission {
                prp1: MEMORY,
                ..identify(cns::CONTROLLER, 0)
            },
            Status::DATA_TRANSFER_ERROR,
        ),
        (
            Submission {
                opcode: 0xC1,
                ..identify(0, 0)
            },
            Status::INVALID_OPCODE,
        ),
        (
            Submission {
                flags: 0x80,
                ..identify(1, 0)
            },
            Status::INVALID_FIELD,
        ),
    ];
    for (command, status) in cases {
        assert_eq!(guest.admin(command), refused(status), "{command:?}");
    }
}

#[test]
fn blocks_of_4096_bytes_are_told_and_counted_in() {
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.namespaces[0].block_size = 4096;
    let mut guest = Guest::up_with(config);
    let namespace: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 1));
    assert_eq!((namespace.flbas, namespace.nlbaf_z), (1, 1));
    let (formats, blocks) = (namespace.formats, namespace.nsze);
    assert_eq!((formats[0].data_shift, formats[1].data_shift), (9, 12));
    assert_eq!(blocks, DISK / 4096);
    guest.fill(DATA, &[7; 4096]);
    let last = blocks - 1;
    guest.run(1, transfer(io::WRITE, last, 1, DATA, 0)).unwrap();
    guest.fill(DATA, &[0; 4096]);
    guest.run(1, transfer(io::READ, last, 1, DATA, 0)).unwrap();
    assert_eq!(guest.bytes(DATA, 4096), [7; 4096]);
    let beyond = guest.run(1, transfer(io::READ, blocks, 1, DATA, 0));
    assert_eq!(beyond, refused(Status::LBA_OUT_OF_RANGE));
    let too_long = guest.run(1, transfer(io::READ, 0, 257, DATA, 0));
    assert_eq!(too_long, refused(Status::INVALID_FIELD));
}

#[test]
fn identifiers_are_those_given_or_the_same_at_every_start() {
    let start = |serial: &str| {
        let mut config = config([(); 2].map(|()| TestBackend::new(DISK) as _).to_vec());
        config.serial = serial.into();
        config.namespaces[1].eui64 = Some([1; 8]);
        config.namespaces[1].nguid = Some([2; 16]);
        config.namespaces[1].uuid = Some([3; 16]);
        let mut guest = Guest::with(config);
        guest.enable();
        [1, 2].map(|nsid| {
            let namespace: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, nsid));
            let list: [u8; 64] = page(&mut guest, identify(cns::NAMESPACE_DESCRIPTORS, nsid));
            (namespace.eui64, namespace.nguid, list)
        })
    };
    let first = start("A");
    assert_eq!(first, start("A"));
    let other = start("B");
    assert_ne!(first[0], other[0], "another drive has other names");
    assert_eq!(first[1], other[1], "what was given stays");
    let (eui64, nguid, list) = first[1];
    assert_eq!((eui64, nguid), ([1; 8], [2; 16]));
    assert_eq!(list[..12], [1, 8, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(list[12..16], [2, 16, 0, 0]);
    assert_eq!(list[32..37], [3, 16, 0, 0, 3]);
    assert_eq!(list[52..58], [4, 1, 0, 0, 0, 0], "the end of the list");
}

#[test]
fn blocks_that_do_not_fit_are_refused_by_name() {
    for (size, block_size) in [(DISK, 520), (DISK + 512, 4096)] {
        let mut config = config(vec![TestBackend::new(size)]);
        config.namespaces[0].block_size = block_size;
        let refused = Guest::try_with(config).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("namespace 1 of drive drive0"), "{refused}");
        assert!(refused.contains(&block_size.to_string()), "{refused}");
    }
}
