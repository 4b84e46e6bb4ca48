//! Format NVM and Sanitize: what is left, what is refused meanwhile, and what a reset does to them.

use std::sync::atomic::Ordering;

use super::backend::TestBackend;
use super::commands::{identify, log_page, page};
use super::driver::{DATA, DISK, Guest, config, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::{self, cns};
use crate::spec::log::{self, SanitizeStatus, Smart};
use crate::spec::registers::offset;
use crate::spec::{Status, Submission};

fn format(nsid: u32, dword: u32) -> Submission {
    Submission {
        opcode: admin::FORMAT,
        nsid,
        cdw10: dword,
        ..Submission::zeroed()
    }
}

fn sanitize(dword: u32, pattern: u32) -> Submission {
    Submission {
        opcode: admin::SANITIZE,
        cdw10: dword,
        cdw11: pattern,
        ..Submission::zeroed()
    }
}

const BLOCK_ERASE: u32 = 2;
const OVERWRITE: u32 = 3;

fn status(guest: &mut Guest) -> SanitizeStatus {
    page(guest, log_page(log::id::SANITIZE, 512))
}

fn write(guest: &mut Guest, byte: u8) {
    guest.fill(DATA, &[byte; 4096]);
    let last = DISK / 512 - 8;
    for block in [0, last] {
        guest
            .run(1, transfer(io::WRITE, block, 8, DATA, 0))
            .unwrap();
    }
}

fn read(guest: &mut Guest, block: u64) -> Vec<u8> {
    guest.run(1, transfer(io::READ, block, 1, DATA, 0)).unwrap();
    guest.bytes(DATA, 512)
}

#[test]
fn a_format_erases_and_changes_the_block_size() {
    let mut guest = Guest::up();
    write(&mut guest, 7);
    guest
        .run(1, transfer(io::WRITE_UNCORRECTABLE, 3, 1, 0, 0))
        .unwrap();
    guest.admin_ok(format(1, 1));
    let data: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 1));
    assert_eq!(({ data.nsze }, data.flbas), (DISK / 4096, 1));
    for block in [0, DISK / 4096 - 1] {
        guest.run(1, transfer(io::READ, block, 1, DATA, 0)).unwrap();
        assert_eq!(guest.bytes(DATA, 4096), [0; 4096]);
    }
    let changed: [u32; 2] = page(&mut guest, log_page(log::id::CHANGED_NAMESPACES, 4096));
    assert_eq!(changed, [1, 0]);
    // With an erase of user data, and back.
    guest.admin_ok(format(u32::MAX, 1 << 9));
    let data: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 1));
    assert_eq!(({ data.nsze }, data.flbas), (DISK / 512, 0));
    for (command, status) in [
        (format(1, 2), Status::INVALID_FORMAT),
        (format(1, 1 << 12), Status::INVALID_FORMAT),
        (format(1, 1 << 5), Status::INVALID_FORMAT),
        (format(1, 2 << 9), Status::INVALID_FIELD),
        (format(2, 0), Status::INVALID_NAMESPACE),
    ] {
        assert_eq!(guest.admin(command), refused(status), "{command:?}");
    }
}

#[test]
fn a_namespace_serves_nobody_while_it_is_formatted() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    let formatting = guest.submit(0, format(1, 1));
    backend.wait_entered(1);
    let read = transfer(io::READ, 0, 1, DATA, 0);
    assert_eq!(guest.run(1, read), refused(Status::FORMAT_IN_PROGRESS));
    backend.hold(false);
    assert_eq!(result(&guest.wait(0, formatting)), Ok(0));
    assert_eq!(guest.run(1, read), Ok(0));
}

#[test]
fn a_reset_cuts_a_format_short_and_leaves_the_block_size() {
    let size = 1 << 30;
    let backend = TestBackend::new(size);
    let mut guest = Guest::on(backend.clone());
    guest.enable();
    backend.hold(true);
    guest.submit(0, format(1, 1));
    backend.wait_entered(1);
    guest.write(offset::CC, 0);
    backend.hold(false);
    eventually("not ready", || !guest.is_ready());
    assert!(
        backend.entered.load(Ordering::SeqCst) < 4,
        "pieces are left"
    );
    guest.enable();
    guest.create_pair(1);
    let data: identify::Namespace = page(&mut guest, identify(cns::NAMESPACE, 1));
    assert_eq!(({ data.nsze }, data.flbas), (size / 512, 0));
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn a_sanitize_erases_everything_and_tells() {
    let mut guest = Guest::up();
    let controller: identify::Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    assert_eq!(
        controller.sanicap & 0b111,
        0b110,
        "block erase and overwrite"
    );
    let before = status(&mut guest);
    assert_eq!((before.status, before.progress), (0, u16::MAX));
    write(&mut guest, 7);
    let request = Submission {
        opcode: admin::ASYNC_EVENT_REQUEST,
        ..Submission::zeroed()
    };
    let waiting = guest.submit(0, request);
    guest.admin_ok(sanitize(BLOCK_ERASE, 0));
    assert_eq!(result(&guest.wait(0, waiting)), Ok(0x0081_0106));
    let after = status(&mut guest);
    assert_eq!((after.status, after.progress), (0x101, u16::MAX));
    assert_eq!((after.dword, after.estimates), (BLOCK_ERASE, [u32::MAX; 6]));
    assert_eq!(read(&mut guest, DISK / 512 - 1), [0; 512]);
    write(&mut guest, 1);
    assert_eq!(status(&mut guest).status, 1, "something was written since");

    guest.admin_ok(sanitize(OVERWRITE | 3 << 4 | 1 << 8, 0x1122_3344));
    eventually("the end", || status(&mut guest).status & 7 == 1);
    assert_eq!(status(&mut guest).status, 0x101 | 3 << 3, "three passes");
    assert_eq!(
        read(&mut guest, 0)[..8],
        [0x44, 0x33, 0x22, 0x11, 0x44, 0x33, 0x22, 0x11]
    );
    for action in [0, 4, 5] {
        let unknown = guest.admin(sanitize(action, 0));
        assert_eq!(unknown, refused(Status::INVALID_FIELD));
    }
    assert_eq!(guest.admin(sanitize(1, 0)), Ok(0), "no failure to leave");
}

#[test]
fn few_commands_are_served_meanwhile_and_no_reset_ends_it() {
    let backend = TestBackend::new(1 << 30);
    let mut guest = Guest::up_on(backend.clone());
    backend.hold(true);
    guest.admin_ok(sanitize(BLOCK_ERASE, 0));
    backend.wait_entered(1);
    let busy = refused(Status::SANITIZE_IN_PROGRESS);
    for opcode in [io::READ, io::WRITE, io::VERIFY, io::WRITE_UNCORRECTABLE] {
        assert_eq!(guest.run(1, transfer(opcode, 0, 1, DATA, 0)), busy);
    }
    assert_eq!(guest.admin(sanitize(BLOCK_ERASE, 0)), busy);
    assert_eq!(guest.admin(format(1, 0)), busy);
    assert_eq!(guest.admin(log_page(log::id::COMMAND_EFFECTS, 4096)), busy);
    let _: Smart = page(&mut guest, log_page(log::id::SMART, 512));
    let now = status(&mut guest);
    assert_eq!(now.status & 7, 2);
    assert!(now.progress < u16::MAX);
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.enable();
    guest.create_pair(1);
    assert_eq!(status(&mut guest).status & 7, 2, "it goes on");
    backend.hold(false);
    eventually("the end", || status(&mut guest).status & 7 == 1);
    guest.run(1, transfer(io::READ, 0, 1, DATA, 0)).unwrap();
}

#[test]
fn a_failed_sanitize_is_left_as_its_order_allows() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::up_on(backend.clone());
    backend.fail_flushes.store(true, Ordering::SeqCst);
    let failed = refused(Status::SANITIZE_FAILED);
    let read = transfer(io::READ, 0, 1, DATA, 0);
    guest.admin_ok(sanitize(BLOCK_ERASE, 0));
    eventually("the failure", || status(&mut guest).status & 7 == 3);
    assert_eq!(guest.run(1, read), failed);
    assert_eq!(guest.admin(sanitize(1, 0)), failed, "not by itself");
    // Unrestricted: the host may leave it.
    guest.admin_ok(sanitize(BLOCK_ERASE | 1 << 3, 0));
    eventually("the failure", || status(&mut guest).status & 7 == 3);
    assert_eq!(guest.run(1, read), failed);
    guest.admin_ok(sanitize(1, 0));
    assert_eq!(guest.run(1, read), Ok(0));
    assert_eq!(status(&mut guest).status, 3, "the log keeps it");
    backend.fail_flushes.store(false, Ordering::SeqCst);
    guest.admin_ok(sanitize(BLOCK_ERASE, 0));
    eventually("success", || status(&mut guest).status == 0x101);
}

#[test]
fn a_sanitize_waits_for_what_is_under_way() {
    let backend = TestBackend::new(DISK);
    let mut guest = Guest::with(config(vec![backend.clone()]));
    guest.enable();
    guest.create_pair(1);
    guest.fill(DATA, &[9; 512]);
    backend.hold(true);
    let written = guest.submit(1, transfer(io::WRITE, 0, 1, DATA, 0));
    backend.wait_entered(1);
    guest.admin_ok(sanitize(BLOCK_ERASE, 0));
    assert_eq!(status(&mut guest).status & 7, 2);
    backend.hold(false);
    assert_eq!(result(&guest.wait(1, written)), Ok(0));
    eventually("the end", || status(&mut guest).status & 7 == 1);
    assert_eq!(read(&mut guest, 0), [0; 512]);
}
