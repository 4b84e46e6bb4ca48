//! Creation and deletion of I/O queues.

use super::backend::TestBackend;
use super::driver::{DATA, DISK, Guest, MEMORY, config, eventually, refused, result, transfer};
use crate::controller::ControllerConfig;
use crate::spec::command::{admin, io};
use crate::spec::{Status, Submission};

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
fn queues_share_the_only_vector_that_there_is() {
    let one = |vectors| ControllerConfig {
        vectors: Some(vectors),
        ..config(vec![TestBackend::new(DISK)])
    };
    let mut guest = Guest::with(one(1));
    guest.enable_msix();
    guest.enable();
    let refused_one = guest.admin(Guest::create_cq_command(1, 1));
    assert_eq!(refused_one, refused(Status::INVALID_INTERRUPT_VECTOR));
    guest.forget(1);
    guest.admin_ok(Guest::create_cq_command(1, 0));
    guest.admin_ok(Guest::create_sq_command(1, 1));
    guest.interrupts(0);
    let cid = guest.submit(1, transfer(io::READ, 0, 1, DATA, 0));
    assert_eq!(result(&guest.wait(1, cid)), Ok(0));
    eventually("its interrupt", || guest.interrupts(0) > 0);
    for count in [0, 66] {
        let error = Guest::try_with(one(count)).err().unwrap();
        assert!(error.to_string().contains("1 to 65"), "{error}");
    }
}

#[test]
fn a_queue_is_deleted_when_its_last_command_ends() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
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
