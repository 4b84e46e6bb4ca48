//! What must hold after everything that a guest did: the drive can be reset within its bound, touches no
//! memory of whoever was there before, and works.

use std::time::{Duration, Instant};

use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::PciFunction;
use nvme::Behaviour;
use nvme::spec::command::{admin, io};
use nvme::spec::registers::offset;
use nvme::spec::{Status, Submission};

use crate::input::Input;
use crate::machine::{ALWAYS, DATA, DISK, Machine};
use crate::ram::has_marks;
use crate::storage::Mood;

/// More than the bound of a reset, and of everything else that has one.
const BOUND: Duration = Duration::from_secs(30);
/// How long memory is watched that nobody may touch.
const WATCHED: Duration = Duration::from_micros(500);
/// CSTS.RDY, CFS and ST.
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;
const SUBSYSTEM: u32 = 1 << 6;
/// Where the last driver has its data.
const LAST: u64 = DATA + 0x1000;

/// Waits for `done`.
fn within(what: &str, mut done: impl FnMut() -> bool) {
    let by = Instant::now() + BOUND;
    while !done() {
        assert!(Instant::now() < by, "{what}: not within {BOUND:?}");
        std::thread::yield_now();
    }
}

/// How the last session is ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Disable,
    BusReset,
    TearDown,
    Subsystem,
}

/// See the module's header.
///
/// # Panics
/// Where something does not hold.
pub fn settle(machine: &mut Machine, input: &mut Input<'_>) {
    let end = input.pick(&[End::Disable, End::BusReset, End::TearDown, End::Subsystem]);
    let keeps_faults = input.once_in(2);
    if machine.read(offset::CSTS) == u32::MAX || !keeps_faults {
        machine.controller.set_behaviour(&Behaviour::default());
    }
    machine.refuse(false);
    match end {
        End::Disable => machine.write(offset::CC, 0),
        End::BusReset => machine.controller.bus_reset(),
        End::TearDown => {
            let by = Deadline::after(Duration::ZERO);
            let _ = machine.controller.shut_down(by, &mut Phases::default());
        }
        End::Subsystem => machine.write(offset::NSSR, 0x4E56_4D65),
    }
    // Storage that is stuck keeps a reset from ending; nothing else does.
    if let Some(storage) = &machine.moody {
        storage.set(Mood::Quick);
    }
    within("the end of the session", || machine.controller.is_quiet());
    within("CSTS.RDY with CC.EN clear", || {
        machine.read(offset::CSTS) & READY == 0
    });
    let before = machine.ram.image(ALWAYS);
    // Whatever was held up is let go, to nobody's memory.
    machine.controller.set_behaviour(&Behaviour::default());
    std::thread::sleep(WATCHED);
    assert!(
        machine.ram.image(ALWAYS) == before,
        "memory of a session that is over has changed, after {end:?}"
    );
    within("the end of removed memory", || machine.is_settled());
    revive(machine);
    use_it(machine);
    finish(machine);
}

/// A driver that finds the drive like this sets it going.
fn revive(machine: &mut Machine) {
    machine.write(offset::CC, 0);
    if machine.read(offset::CSTS) & SUBSYSTEM != 0 {
        machine.write(offset::NSSR, 0x4E56_4D65);
    }
    machine.power_up();
    for pair in &mut machine.pairs {
        pair.entries = 64;
    }
    machine.start();
    within("CSTS.RDY", || {
        let status = machine.read(offset::CSTS);
        assert_eq!(status & FATAL, 0, "CSTS is {status:#x} after a reset");
        status & READY != 0
    });
    machine.forget(1);
    for command in machine.creation(1) {
        let status = run(machine, 0, command);
        assert_eq!(status, 0, "a queue cannot be made");
    }
}

/// Runs one command; its status without Do Not Retry.
fn run(machine: &mut Machine, queue: usize, command: Submission) -> u16 {
    let cid = machine.push(queue, command);
    machine.ring(queue);
    let by = Instant::now() + BOUND;
    let found = loop {
        if let Some(found) = machine.poll(queue) {
            break found;
        }
        assert!(
            Instant::now() < by,
            "no completion of {command:x?} in queue {queue}: CSTS {:#x}, CC {:#x}, {:x?}",
            machine.read(offset::CSTS),
            machine.read(offset::CC),
            machine.pairs[queue]
        );
        std::thread::yield_now();
    };
    assert_eq!(found.cid, cid, "a completion that nobody waits for");
    machine.consume(queue);
    found.status_phase >> 1 & 0x7FF
}

fn code(status: Status) -> u16 {
    status.bits() & 0x7FF
}

/// Reads and writes where there is something to read and to write.
fn use_it(machine: &mut Machine) {
    let identify = |cns| Submission {
        opcode: admin::IDENTIFY,
        prp1: LAST,
        cdw10: cns,
        ..Submission::zeroed()
    };
    assert_eq!(run(machine, 0, identify(1)), 0, "Identify Controller");
    assert_eq!(&machine.get(LAST + 4, 6), b"SD0001");
    // Of no namespace: it fails because of that, unless the drive serves nothing at all.
    let probe = Submission {
        opcode: io::READ,
        nsid: u32::MAX - 1,
        ..Submission::zeroed()
    };
    let again = Submission {
        opcode: admin::SANITIZE,
        cdw10: 2,
        ..Submission::zeroed()
    };
    within("the end of a sanitize operation", || {
        let status = run(machine, 1, probe);
        if status == code(Status::SANITIZE_FAILED) {
            run(machine, 0, again);
        }
        status == code(Status::INVALID_NAMESPACE)
    });
    assert_eq!(run(machine, 0, identify(2)), 0, "active namespaces");
    let list = machine.get(LAST, 4);
    let nsid = u32::from_le_bytes([list[0], list[1], list[2], list[3]]);
    if nsid == 0 {
        return;
    }
    let pattern: Vec<u8> = (0..4096_u32).map(|byte| (byte % 253) as u8).collect();
    machine.put(LAST, &pattern);
    let transfer = |opcode, prp1| Submission {
        opcode,
        nsid,
        prp1,
        ..Submission::zeroed()
    };
    let mut written = 0;
    within("the end of a format", || {
        written = run(machine, 1, transfer(io::WRITE, LAST));
        written != code(Status::FORMAT_IN_PROGRESS)
    });
    if written == code(Status::NAMESPACE_WRITE_PROTECTED) {
        let read = run(machine, 1, transfer(io::READ, LAST));
        assert_eq!(read, 0, "a read of a read-only namespace");
        return;
    }
    assert_eq!(written, 0, "a write");
    let read = run(machine, 1, transfer(io::READ, LAST + 0x1000));
    assert_eq!(read, 0, "a read");
    let found = machine.get(LAST + 0x1000, 512);
    assert!(found == pattern[..512], "other data than was written");
}

/// Switches the machine off, and looks at what is left.
fn finish(machine: &mut Machine) {
    let by = Deadline::after(BOUND);
    let ended = machine.controller.shut_down(by, &mut Phases::default());
    if let Err(error) = ended {
        panic!("{error}");
    }
    assert!(machine.controller.is_quiet());
    for storage in &machine.storage {
        let mut data = vec![0_u8; DISK as usize];
        let read = storage.read(0, &[data.as_mut_slice().into()]);
        assert!(read.is_ok(), "the storage itself cannot be read");
        assert!(
            !has_marks(&data),
            "what is outside guest memory was written to storage"
        );
    }
    machine.controller.release();
    machine.ram.check_margins();
    assert!(
        !has_marks(&machine.ram.image(ALWAYS)),
        "what is outside guest memory came into it"
    );
}
