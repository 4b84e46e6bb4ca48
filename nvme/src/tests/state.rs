//! What a drive remembers over restarts of its process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::lifecycle::Device;
use tempfile::TempDir;

use super::backend::TestBackend;
use super::commands::{identify, log_page, page};
use super::driver::{DATA, DISK, ENABLE, Guest, config, eventually, transfer};
use crate::spec::Submission;
use crate::spec::command::{admin, io};
use crate::spec::identify::{self, cns};
use crate::spec::log::{self, SanitizeStatus, Smart};
use crate::spec::registers::offset;

fn start_on(backend: &Arc<TestBackend>, folder: &Path, block_size: u32) -> Guest {
    let mut config = config(vec![backend.clone()]);
    config.namespaces[0].block_size = block_size;
    config.state = Some(folder.join("drive.state"));
    Guest::with(config)
}

fn start(folder: &Path) -> Guest {
    let mut guest = start_on(&TestBackend::new(DISK), folder, 512);
    guest.enable();
    guest.create_pair(1);
    guest
}

fn smart(guest: &mut Guest) -> Smart {
    page(guest, log_page(log::id::SMART, 512))
}

fn shut_down(guest: &Guest) {
    guest.write(offset::CC, ENABLE | 1 << 14);
    eventually("a completed shutdown", || guest.shst() == 2);
}

/// What the file says once it says `until`.
fn saved(folder: &Path, until: &str) -> Vec<u8> {
    let path = folder.join("drive.state");
    eventually(until, || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(until))
    });
    std::fs::read(&path).unwrap()
}

/// Ends the process's part without a word to anybody, once the file says `until`.
fn kill(guest: Guest, folder: &Path, until: &str) {
    let text = saved(folder, until);
    let drive = Arc::downgrade(&guest.controller.drive);
    drop(guest);
    eventually("the end of saves", || drive.strong_count() == 0);
    std::fs::write(folder.join("drive.state"), text).unwrap();
}

#[test]
fn counters_go_on_and_a_kill_in_use_is_an_unsafe_shutdown() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let mut guest = start(folder);
    guest.run(1, transfer(io::WRITE, 0, 8, DATA, 0)).unwrap();
    guest.run(1, transfer(io::READ, 0, 8, DATA, 0)).unwrap();
    shut_down(&guest);
    guest.controller.release();
    drop(guest);

    let mut guest = start(folder);
    let found = smart(&mut guest);
    let (reads, writes) = (found.read_commands, found.write_commands);
    let (cycles, unsafe_ones) = (found.power_cycles, found.unsafe_shutdowns);
    assert_eq!((reads, writes, cycles, unsafe_ones), (1, 1, 2, 0));
    assert_eq!({ found.data_units_written }, 1);
    kill(guest, folder, "\"in_use\": true");

    let mut guest = start(folder);
    let found = smart(&mut guest);
    let (cycles, unsafe_ones) = (found.power_cycles, found.unsafe_shutdowns);
    assert_eq!((cycles, unsafe_ones), (3, 1));
    shut_down(&guest);
    kill(guest, folder, "\"in_use\": false");

    let mut guest = start(folder);
    let found = smart(&mut guest);
    let (cycles, unsafe_ones) = (found.power_cycles, found.unsafe_shutdowns);
    assert_eq!((cycles, unsafe_ones), (4, 1), "killed after a shutdown");
}

#[test]
fn a_format_is_remembered_until_the_configuration_changes() {
    let folder = TempDir::new().unwrap();
    let flbas = |guest: &mut Guest| {
        guest.enable();
        let data: identify::Namespace = page(guest, identify(cns::NAMESPACE, 1));
        data.flbas
    };
    let backend = TestBackend::new(DISK);
    let mut guest = start_on(&backend, folder.path(), 512);
    assert_eq!(flbas(&mut guest), 0);
    guest.admin_ok(Submission {
        opcode: admin::FORMAT,
        nsid: 1,
        cdw10: 1,
        ..Submission::zeroed()
    });
    // The command's end is the promise: no release, no shutdown.
    drop(guest);
    let mut guest = start_on(&backend, folder.path(), 512);
    assert_eq!(flbas(&mut guest), 1);
    drop(guest);
    let mut guest = start_on(&backend, folder.path(), 4096);
    assert_eq!(flbas(&mut guest), 1);
    drop(guest);
    let mut other = config(vec![backend]);
    other.state = Some(folder.path().join("other.state"));
    assert_eq!(flbas(&mut Guest::with(other)), 0);
}

#[test]
fn a_sanitize_that_a_kill_cut_off_begins_anew() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let backend = TestBackend::new(DISK);
    let mut guest = start_on(&backend, folder, 512);
    guest.enable();
    guest.create_pair(1);
    guest.fill(DATA, &[7; 512]);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    backend.hold(true);
    guest.admin_ok(Submission {
        opcode: admin::SANITIZE,
        cdw10: 2,
        ..Submission::zeroed()
    });
    saved(folder, "\"stage\": 2");
    // The old process does nothing any more, its call to the storage apart.
    let drive = Arc::clone(&guest.controller.drive);
    drive.released.store(true, Ordering::SeqCst);
    drop(guest);
    let fresh = TestBackend::new(DISK);
    let mut guest = start_on(&fresh, folder, 512);
    guest.enable();
    guest.create_pair(1);
    let status =
        |guest: &mut Guest| -> SanitizeStatus { page(guest, log_page(log::id::SANITIZE, 512)) };
    eventually("the end", || status(&mut guest).status == 0x101);
    assert!(fresh.entered.load(Ordering::SeqCst) > 0, "it erased");
    kill(guest, folder, "\"stage\": 1");
    let mut guest = start_on(&fresh, folder, 512);
    guest.enable();
    assert_eq!(status(&mut guest).status & 7, 1);
    backend.hold(false);
}

#[test]
fn a_file_that_is_no_state_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("drive.state");
    for content in ["", "{}", "{\"version\": 2}"] {
        std::fs::write(&path, content).unwrap();
        let mut config = config(vec![TestBackend::new(DISK)]);
        config.state = Some(path.clone());
        let refused = Guest::try_with(config).map(|_| ()).unwrap_err().to_string();
        assert!(
            refused.contains("drive.state is no drive's state"),
            "{refused}"
        );
        assert!(refused.contains("remove it"), "{refused}");
    }
}
