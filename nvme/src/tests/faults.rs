//! Drives that are made to go wrong, as their guest sees them.

mod held;
mod whole;

use devices::latency::Latency;

use super::driver::{DATA, Guest, refused, transfer};
use crate::faults::{CommandFault, Effect, FaultSet, MediaFault, QueueKind};
use crate::spec::command::{admin, io};
use crate::spec::{Status, Submission};

/// A fault of the I/O command `opcode`, every time.
fn of_io(opcode: u8, effect: Effect) -> FaultSet {
    let fault = CommandFault {
        queue: Some(QueueKind::Io),
        opcode: Some(opcode),
        nth: 1,
        every: true,
        effect,
    };
    FaultSet {
        commands: vec![fault],
        ..FaultSet::default()
    }
}

fn read(block: u64, blocks: u32) -> Submission {
    transfer(io::READ, block, blocks, DATA, 0)
}

#[test]
fn a_command_ends_with_the_status_that_is_set_and_others_do_not() {
    let mut guest = Guest::up();
    let status = Status::of(2, 0x86).permanent();
    let mut set = of_io(io::READ, Effect::Status(status));
    (set.commands[0].nth, set.commands[0].every) = (2, false);
    guest.set_faults(&set);
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    assert_eq!(guest.run(1, read(0, 1)), refused(status));
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    assert_eq!(guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)), Ok(0));
}

#[test]
fn admin_commands_can_be_struck_too() {
    let mut guest = Guest::up();
    let fault = CommandFault {
        queue: Some(QueueKind::Admin),
        opcode: Some(admin::GET_LOG_PAGE),
        nth: 1,
        every: true,
        effect: Effect::Status(Status::INTERNAL_ERROR),
    };
    let set = FaultSet {
        commands: vec![fault],
        ..FaultSet::default()
    };
    guest.set_faults(&set);
    let log = transfer(admin::GET_LOG_PAGE, 127 << 16 | 2, 1, DATA, 0);
    assert_eq!(guest.admin(log), refused(Status::INTERNAL_ERROR));
    // The same opcode in an I/O queue is a read.
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    guest.set_faults(&FaultSet::default());
    let log = Submission {
        nsid: u32::MAX,
        ..log
    };
    assert_eq!(guest.admin(log), Ok(0));
}

#[test]
fn a_bad_block_is_an_unrecovered_read_error_that_smart_counts() {
    let mut guest = Guest::up();
    let media = MediaFault {
        namespace: 1,
        first_block: 16,
        blocks: 2,
    };
    let set = FaultSet {
        media: vec![media],
        ..FaultSet::default()
    };
    guest.set_faults(&set);
    let bad = refused(Status::UNRECOVERED_READ_ERROR);
    assert_eq!(guest.run(1, read(15, 1)), Ok(0));
    assert_eq!(guest.run(1, read(10, 8)), bad);
    assert_eq!(guest.run(1, read(17, 1)), bad);
    assert_eq!(guest.run(1, read(18, 1)), Ok(0));
    let smart = guest.controller.drive.logs.smart(0);
    assert_eq!(({ smart.media_errors }, { smart.error_entries }), (2, 2));
    guest.set_faults(&FaultSet::default());
    assert_eq!(guest.run(1, read(10, 8)), Ok(0));
}

#[test]
fn a_slow_command_is_executed_when_its_time_has_come() {
    let mut guest = Guest::up();
    let slow = std::time::Duration::from_millis(40);
    let set = of_io(io::READ, Effect::Slow(Latency::from(slow)));
    guest.set_faults(&set);
    let begin = std::time::Instant::now();
    let first = guest.submit(1, read(0, 1));
    let second = guest.submit(1, read(1, 1));
    // What is not slow overtakes them.
    guest.fill(DATA + 4096, &[7; 512]);
    assert_eq!(
        guest.run(1, transfer(io::WRITE, 0, 1, DATA + 4096, 0)),
        Ok(0)
    );
    for cid in [first, second] {
        assert_eq!(guest.wait(1, cid).status_phase >> 1, 0);
    }
    assert!(begin.elapsed() >= slow);
    guest.set_faults(&FaultSet::default());
    assert_eq!(guest.run(1, read(0, 1)), Ok(0));
    assert_eq!(guest.bytes(DATA, 512), [7; 512]);
}
