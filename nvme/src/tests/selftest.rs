//! Device self-tests and their log.

use std::sync::atomic::Ordering;

use super::backend::TestBackend;
use super::commands::{log_page, page};
use super::driver::{DISK, Guest, eventually, refused, transfer};
use crate::spec::command::{admin, io};
use crate::spec::log::{self, SelfTestLog, SelfTestResult};
use crate::spec::registers::offset;
use crate::spec::{Status, Submission};

const SHORT: u32 = 1;
const EXTENDED: u32 = 2;
const ABORT: u32 = 0xF;

fn self_test(nsid: u32, code: u32) -> Submission {
    Submission {
        opcode: admin::SELF_TEST,
        nsid,
        cdw10: code,
        ..Submission::zeroed()
    }
}

fn log(guest: &mut Guest) -> SelfTestLog {
    page(guest, log_page(log::id::SELF_TEST, 564))
}

/// Runs a test to its end.
fn run(guest: &mut Guest, nsid: u32, code: u32) -> SelfTestResult {
    guest.admin_ok(self_test(nsid, code));
    eventually("the end of the test", || log(guest).current == 0);
    log(guest).results[0]
}

#[test]
fn tests_pass_on_a_drive_that_can_be_read_and_fail_where_it_cannot() {
    let mut guest = Guest::up();
    let before = log(&mut guest);
    assert_eq!((before.current, before.results[0].status), (0, 0xF));
    let passed = run(&mut guest, 1, SHORT);
    assert_eq!((passed.status, passed.nsid, passed.valid), (0x10, 1, 1));
    let passed = run(&mut guest, u32::MAX, EXTENDED);
    assert_eq!((passed.status, passed.nsid), (0x20, u32::MAX));
    assert_eq!(
        run(&mut guest, 0, SHORT).status,
        0x10,
        "the controller alone"
    );
    let bad = transfer(io::WRITE_UNCORRECTABLE, DISK / 512 - 3, 1, 0, 0);
    guest.run(1, bad).unwrap();
    let failed = run(&mut guest, 1, EXTENDED);
    assert_eq!(
        (failed.status, failed.segment, failed.valid),
        (0x27, 1, 0xF)
    );
    let block = u64::from_le_bytes(failed.failing_block);
    assert_eq!(block, DISK / 512 - 3);
    assert_eq!((failed.status_type, failed.status_code), (2, 0x81));
    let all = log(&mut guest);
    let statuses = all.results.map(|result| result.status);
    assert_eq!(statuses[..5], [0x27, 0x10, 0x20, 0x10, 0xF]);
    assert_eq!(
        guest.admin(self_test(2, SHORT)),
        refused(Status::INVALID_NAMESPACE)
    );
    assert_eq!(guest.admin(self_test(1, 3)), refused(Status::INVALID_FIELD));
}

#[test]
fn one_test_runs_at_a_time_and_ends_when_told() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::on(backend.clone());
    guest.enable();
    assert_eq!(guest.admin(self_test(1, ABORT)), Ok(0), "nothing to end");
    backend.hold(true);
    guest.admin_ok(self_test(1, EXTENDED));
    backend.wait_entered(1);
    assert_eq!(log(&mut guest).current, 2);
    let busy = refused(Status::SELF_TEST_IN_PROGRESS);
    assert_eq!(guest.admin(self_test(1, SHORT)), busy);
    guest.admin_ok(self_test(1, ABORT));
    backend.hold(false);
    eventually("the end", || log(&mut guest).current == 0);
    assert_eq!(log(&mut guest).results[0].status, 0x21);
}

#[test]
fn a_reset_ends_a_short_test_and_no_extended_one() {
    for (code, expected) in [(SHORT, 0x12), (EXTENDED, 0x20)] {
        let backend = TestBackend::new(DISK);
        let mut guest = Guest::on(backend.clone());
        guest.enable();
        backend.hold(true);
        guest.admin_ok(self_test(1, code));
        backend.wait_entered(1);
        guest.write(offset::CC, 0);
        eventually("not ready", || !guest.is_ready());
        backend.hold(false);
        guest.enable();
        eventually("the end", || log(&mut guest).current == 0);
        assert_eq!(log(&mut guest).results[0].status, expected);
        let all = backend.entered.load(Ordering::SeqCst) >= 16;
        assert_eq!(all, code == EXTENDED, "pieces read");
    }
}

#[test]
fn formats_and_sanitizing_end_a_test() {
    for (opcode, dword, expected) in [(admin::FORMAT, 0, 0x24), (admin::SANITIZE, 2, 0x29)] {
        let backend = TestBackend::new(DISK);
        let mut guest = Guest::on(backend.clone());
        guest.enable();
        backend.hold(true);
        guest.admin_ok(self_test(1, EXTENDED));
        backend.wait_entered(1);
        let erase = Submission {
            opcode,
            nsid: 1,
            cdw10: dword,
            ..Submission::zeroed()
        };
        let erasing = guest.submit(0, erase);
        backend.wait_entered(2);
        backend.hold(false);
        super::driver::result(&guest.wait(0, erasing)).unwrap();
        let ended = |guest: &mut Guest| guest.admin(log_page(log::id::SELF_TEST, 564)).is_ok();
        eventually("an end of sanitizing", || ended(&mut guest));
        eventually("the end", || log(&mut guest).current == 0);
        assert_eq!(log(&mut guest).results[0].status, expected);
    }
}
