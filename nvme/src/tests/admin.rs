//! Admin commands: what the controller says of itself, queues with every error, features, logs, events.

use zerocopy::FromBytes;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, Guest, MEMORY, config, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::{self, cns};
use crate::spec::log::{self, Smart};
use crate::spec::{Status, Submission, feature};

fn identify(selector: u8, nsid: u32) -> Submission {
    Submission {
        opcode: admin::IDENTIFY,
        nsid,
        prp1: DATA,
        cdw10: selector.into(),
        ..Submission::zeroed()
    }
}

fn page<T: FromBytes>(guest: &mut Guest, command: Submission) -> T {
    guest.fill(DATA, &[0xEE; 4096]);
    guest.admin_ok(command);
    T::read_from_bytes(&guest.bytes(DATA, size_of::<T>())).unwrap()
}

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
    assert_eq!({ controller.oacs }, 0);

    let namespace: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 2));
    assert_eq!({ namespace.nsze }, 2048);
    assert_eq!(namespace.formats[0].data_shift, 9);
    let list: [u32; 1024] = page(&mut guest, identify(cns::ACTIVE_NAMESPACES, 0));
    assert_eq!(list[..3], [1, 2, 0]);
    let list: [u32; 1024] = page(&mut guest, identify(cns::ACTIVE_NAMESPACES, 1));
    assert_eq!(list[..2], [2, 0]);
    let ids: [[u8; 4096]; 2] =
        [1, 2].map(|nsid| page(&mut guest, identify(cns::NAMESPACE_DESCRIPTORS, nsid)));
    assert_eq!(ids[0][..4], [3, 16, 0, 0]);
    assert_ne!(ids[0][4..20], ids[1][4..20]);
    assert_eq!(ids[0][20..25], [4, 1, 0, 0, 0]);
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
fn queues_are_created_and_deleted_with_every_error() {
    let mut guest = Guest::new();
    guest.enable();
    let cq = |change: &dyn Fn(&mut Submission)| {
        let mut command = Guest::create_cq_command(1, 1);
        change(&mut command);
        command
    };
    let sq = |change: &dyn Fn(&mut Submission)| {
        let mut command = Guest::create_sq_command(1, 1);
        change(&mut command);
        command
    };
    let delete = |opcode, id: u32| Submission {
        opcode,
        cdw10: id,
        ..Submission::zeroed()
    };
    let id = |command: &mut Submission, id: u32| command.cdw10 = command.cdw10 & !0xFFFF | id;

    // Before there is a completion queue.
    assert_eq!(
        guest.admin(sq(&|_| {})),
        refused(Status::COMPLETION_QUEUE_INVALID)
    );
    let bad = [
        (cq(&|c| id(c, 0)), Status::INVALID_QUEUE_ID),
        (cq(&|c| id(c, 5)), Status::INVALID_QUEUE_ID),
        (cq(&|c| c.cdw10 &= 0xFFFF), Status::INVALID_QUEUE_SIZE),
        (cq(&|c| c.cdw10 |= 0xFFFF_0000), Status::INVALID_QUEUE_SIZE),
        (cq(&|c| c.cdw11 &= !1), Status::INVALID_FIELD),
        (
            cq(&|c| c.cdw11 |= 0xFFFF_0000),
            Status::INVALID_INTERRUPT_VECTOR,
        ),
        (cq(&|c| c.prp1 += 8), Status::PRP_OFFSET_INVALID),
        (cq(&|c| c.prp1 = MEMORY), Status::INVALID_FIELD),
    ];
    for (command, status) in bad {
        assert_eq!(guest.admin(command), refused(status), "{command:?}");
    }
    guest.admin_ok(cq(&|_| {}));
    assert_eq!(guest.admin(cq(&|_| {})), refused(Status::INVALID_QUEUE_ID));
    let bad = [
        (sq(&|c| id(c, 0)), Status::INVALID_QUEUE_ID),
        (sq(&|c| id(c, 77)), Status::INVALID_QUEUE_ID),
        (sq(&|c| c.cdw10 &= 0xFFFF), Status::INVALID_QUEUE_SIZE),
        (sq(&|c| c.cdw11 &= !1), Status::INVALID_FIELD),
        (sq(&|c| c.cdw11 = 1), Status::INVALID_QUEUE_ID),
        (sq(&|c| c.cdw11 = 99 << 16 | 1), Status::INVALID_QUEUE_ID),
        (
            sq(&|c| c.cdw11 = 2 << 16 | 1),
            Status::COMPLETION_QUEUE_INVALID,
        ),
        (sq(&|c| c.prp1 += 64), Status::PRP_OFFSET_INVALID),
        (sq(&|c| c.prp1 = u64::MAX - 0xFFF), Status::INVALID_FIELD),
    ];
    for (command, status) in bad {
        assert_eq!(guest.admin(command), refused(status), "{command:?}");
    }
    guest.admin_ok(sq(&|_| {}));
    assert_eq!(guest.admin(sq(&|_| {})), refused(Status::INVALID_QUEUE_ID));

    assert_eq!(
        guest.admin(delete(admin::DELETE_CQ, 1)),
        refused(Status::INVALID_QUEUE_DELETION)
    );
    for unknown in [0, 2, 99] {
        for opcode in [admin::DELETE_SQ, admin::DELETE_CQ] {
            assert_eq!(
                guest.admin(delete(opcode, unknown)),
                refused(Status::INVALID_QUEUE_ID)
            );
        }
    }
    guest.admin_ok(delete(admin::DELETE_SQ, 1));
    guest.admin_ok(delete(admin::DELETE_CQ, 1));
    guest.create_pair(1);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn a_queue_is_deleted_when_its_last_command_ends() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(backend.clone());
    guest.enable();
    guest.create_pair(1);
    backend.hold(true);
    let flush = transfer(io::FLUSH, 0, 1, 0, 0);
    let running = [(); 2].map(|()| guest.submit(1, flush));
    backend.wait_entered(2);
    let waiting = guest.submit(1, flush);
    eventually("the third command", || {
        let session = guest.controller.session.load_full().unwrap();
        session.submission_queue(1).unwrap().head() == 3
    });
    let delete = Submission {
        opcode: admin::DELETE_SQ,
        cdw10: 1,
        ..Submission::zeroed()
    };
    let deletion = guest.submit(0, delete);
    let found = guest.wait(1, waiting);
    assert_eq!(result(&found), refused(Status::ABORTED_SQ_DELETION));
    assert_eq!(
        guest.admin(delete),
        refused(Status::INVALID_QUEUE_ID),
        "it is being deleted"
    );
    let again = guest.admin(Guest::create_sq_command(1, 1));
    assert_eq!(
        again,
        refused(Status::INVALID_QUEUE_ID),
        "and its identifier is taken"
    );
    backend.hold(false);
    assert_eq!(result(&guest.wait(0, deletion)), Ok(0));
    for cid in running {
        assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    }
    guest.admin_ok(Guest::create_sq_command(1, 1));
}

fn features(opcode: u8, id: u8, value: u32) -> Submission {
    Submission {
        opcode,
        prp1: DATA,
        cdw10: id.into(),
        cdw11: value,
        ..Submission::zeroed()
    }
}

#[test]
fn features_are_set_read_and_forgotten_by_a_reset() {
    let mut guest = Guest::new();
    guest.enable();
    let set = |id, value| features(admin::SET_FEATURES, id, value);
    let get = |id, value| features(admin::GET_FEATURES, id, value);
    assert_eq!(
        guest.admin_ok(set(feature::NUMBER_OF_QUEUES, 63 << 16 | 63)),
        3 << 16 | 3
    );
    assert_eq!(
        guest.admin_ok(get(feature::NUMBER_OF_QUEUES, 0)),
        3 << 16 | 3
    );
    let bad = refused(Status::INVALID_FIELD);
    assert_eq!(guest.admin(set(feature::NUMBER_OF_QUEUES, 0xFFFF)), bad);
    for (id, value) in [
        (feature::ARBITRATION, 0x0102_0303),
        (feature::TEMPERATURE_THRESHOLD, 350),
        (feature::VOLATILE_WRITE_CACHE, 0),
        (feature::INTERRUPT_COALESCING, 0x0A05),
        (feature::INTERRUPT_VECTOR, 1 << 16 | 3),
        (feature::WRITE_ATOMICITY, 1),
        (feature::ASYNC_EVENTS, 0x1F),
    ] {
        let before = guest.admin_ok(get(id, value & 0x1F));
        guest.admin_ok(set(id, value));
        let selector = if id == feature::INTERRUPT_VECTOR {
            3
        } else {
            0
        };
        assert_eq!(guest.admin_ok(get(id, selector)), value, "feature {id:#x}");
        let by_default = Submission {
            cdw10: 1 << 8 | u32::from(id),
            ..get(id, selector)
        };
        assert_ne!(guest.admin_ok(by_default), value, "feature {id:#x}");
        assert_ne!(before, value);
    }
    assert_eq!(guest.admin(set(feature::POWER_MANAGEMENT, 1)), bad);
    assert_eq!(guest.admin(set(feature::INTERRUPT_VECTOR, 99)), bad);
    assert_eq!(guest.admin(get(0x7F, 0)), bad);
    let save = Submission {
        cdw10: 1 << 31 | 1,
        ..set(1, 0)
    };
    assert_eq!(guest.admin(save), refused(Status::FEATURE_NOT_SAVEABLE));

    guest.fill(DATA, &1_700_000_000_000_u64.to_le_bytes());
    guest.admin_ok(set(feature::TIMESTAMP, 0));
    let now: u64 = page(&mut guest, get(feature::TIMESTAMP, 0));
    assert!((now & 0xFFFF_FFFF_FFFF) >= 1_700_000_000_000);

    guest.create_pair(1);
    let late = guest.admin(set(feature::NUMBER_OF_QUEUES, 0));
    assert_eq!(late, refused(Status::COMMAND_SEQUENCE_ERROR));
    guest.write(crate::spec::registers::offset::CC, 0);
    guest.enable();
    assert_eq!(guest.admin_ok(get(feature::WRITE_ATOMICITY, 0)), 0);
}

fn log_page(id: u8, bytes: u32) -> Submission {
    Submission {
        opcode: admin::GET_LOG_PAGE,
        nsid: u32::MAX,
        prp1: DATA,
        cdw10: (bytes / 4 - 1) << 16 | u32::from(id),
        ..Submission::zeroed()
    }
}

#[test]
fn logs_count_what_happened() {
    let mut guest = Guest::up();
    for _ in 0..3 {
        guest.run(1, transfer(io::READ, 0, 8, DATA, 0)).unwrap();
    }
    guest.run(1, transfer(io::WRITE, 0, 8, DATA, 0)).unwrap();
    guest
        .run(1, transfer(io::READ, u64::MAX, 1, DATA, 0))
        .unwrap_err();
    let smart: Smart = page(&mut guest, log_page(log::id::SMART, 512));
    assert_eq!(({ smart.read_commands }, { smart.write_commands }), (3, 1));
    assert_eq!(({ smart.data_units_read }, { smart.error_entries }), (1, 1));
    assert_eq!(
        ({ smart.power_cycles }, smart.spare, smart.critical_warning),
        (1, 100, 0)
    );
    let errors: [log::ErrorEntry; 2] = page(&mut guest, log_page(log::id::ERRORS, 128));
    assert_eq!(
        (errors[0].count, errors[0].sq_id, errors[0].lba),
        (1, 1, u64::MAX)
    );
    assert_eq!(errors[0].status >> 1, Status::LBA_OUT_OF_RANGE.bits());
    assert_eq!(errors[1].count, 0);
    let slots: log::FirmwareSlots = page(&mut guest, log_page(log::id::FIRMWARE_SLOTS, 512));
    assert_eq!((slots.active, &slots.revision[0]), (1, b"1.0     "));
    let effects: [u32; 1024] = page(&mut guest, log_page(log::id::COMMAND_EFFECTS, 4096));
    assert_eq!(
        (effects[6], effects[256 + 1], effects[256 + 5]),
        (1, 0b11, 0)
    );
    let pages: [u32; 256] = page(&mut guest, log_page(log::id::SUPPORTED_PAGES, 1024));
    assert_eq!(pages.iter().filter(|page| **page == 1).count(), 7);
}

#[test]
fn logs_are_read_in_pieces_and_not_beyond_their_end() {
    let mut guest = Guest::up();
    let piece = Submission {
        cdw12: 4 * 257,
        ..log_page(log::id::COMMAND_EFFECTS, 8)
    };
    let found: [u32; 2] = page(&mut guest, piece);
    assert_eq!(found, [0b11, 1]);
    let beyond = Submission {
        cdw12: 516,
        ..log_page(log::id::SMART, 4)
    };
    assert_eq!(guest.admin(beyond), refused(Status::INVALID_FIELD));
    let odd = Submission {
        cdw12: 2,
        ..log_page(log::id::SMART, 4)
    };
    assert_eq!(guest.admin(odd), refused(Status::INVALID_FIELD));
    let huge = Submission {
        cdw11: 0xFFFF,
        ..log_page(log::id::SMART, 4)
    };
    assert_eq!(guest.admin(huge), refused(Status::INVALID_FIELD));
    assert_eq!(
        guest.admin(log_page(0x99, 4)),
        refused(Status::INVALID_LOG_PAGE)
    );
}

#[test]
fn events_wait_for_requests_and_are_masked_until_looked_at() {
    let mut guest = Guest::up();
    let request = Submission {
        opcode: admin::ASYNC_EVENT_REQUEST,
        ..Submission::zeroed()
    };
    let bad_value = |guest: &Guest| guest.write(0x1000 + 8, 1000);
    let bad_register = |guest: &Guest| guest.write(0x1000 + 9 * 8, 0);
    // An event before the request.
    bad_value(&guest);
    let first = guest.submit(0, request);
    assert_eq!(result(&guest.wait(0, first)), Ok(0x0001_0100));
    // Masked until the error log was read.
    let second = guest.submit(0, request);
    bad_register(&guest);
    guest.admin_ok(identify(cns::CONTROLLER, 0));
    assert!(!guest.has_completion(0));
    let retained = Submission {
        cdw10: 1 << 15 | log_page(1, 64).cdw10,
        ..log_page(1, 64)
    };
    guest.admin_ok(retained);
    assert!(!guest.has_completion(0));
    guest.admin_ok(log_page(log::id::ERRORS, 64));
    assert_eq!(result(&guest.wait(0, second)), Ok(0x0001_0000));
    // A threshold below the temperature.
    let third = guest.submit(0, request);
    guest.admin_ok(features(admin::SET_FEATURES, feature::ASYNC_EVENTS, 0b10));
    guest.admin_ok(features(
        admin::SET_FEATURES,
        feature::TEMPERATURE_THRESHOLD,
        200,
    ));
    assert_eq!(result(&guest.wait(0, third)), Ok(0x0002_0101));
    // Four may wait, the fifth is one too many; one can be aborted.
    let waiting = [(); 4].map(|()| guest.submit(0, request));
    let full = refused(Status::ASYNC_EVENT_LIMIT_EXCEEDED);
    assert_eq!(guest.admin(request), full);
    let abort = Submission {
        opcode: admin::ABORT,
        cdw10: u32::from(waiting[2]) << 16,
        ..Submission::zeroed()
    };
    assert_eq!(guest.admin_ok(abort), 0);
    assert_eq!(
        result(&guest.wait(0, waiting[2])),
        refused(Status::ABORT_REQUESTED)
    );
}
