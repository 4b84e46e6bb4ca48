//! Namespaces that the guest creates, attaches, detaches and deletes, and what is left of them after a restart.

use std::path::Path;

use tempfile::TempDir;
use zerocopy::IntoBytes;

use super::backend::TestBackend;
use super::commands::{features, identify, log_page, page};
use super::driver::{DATA, DISK, Guest, config, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::{self, cns};
use crate::spec::{Status, Submission, feature, log};
use crate::{ControllerConfig, NamespaceStore};

const CAPACITY: u64 = 8 << 20;

fn with_store(path: &Path) -> ControllerConfig {
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.namespace_store = Some(NamespaceStore {
        path: path.join("store"),
        capacity: CAPACITY,
    });
    config
}

fn start(folder: &TempDir) -> Guest {
    let mut guest = Guest::with(with_store(folder.path()));
    guest.enable();
    guest.create_pair(1);
    guest
}

fn create(guest: &mut Guest, blocks: u64, format: u8) -> Result<u32, u16> {
    create_as(guest, |data| {
        (data.nsze, data.ncap, data.flbas) = (blocks, blocks, format);
    })
}

fn create_as(guest: &mut Guest, fill: impl FnOnce(&mut identify::Namespace)) -> Result<u32, u16> {
    let mut data: identify::Namespace = zerocopy::FromZeros::new_zeroed();
    fill(&mut data);
    guest.fill(DATA, data.as_bytes());
    guest.admin(Submission {
        opcode: admin::NAMESPACE_MANAGEMENT,
        prp1: DATA,
        ..Submission::zeroed()
    })
}

fn delete(guest: &mut Guest, nsid: u32) -> Result<u32, u16> {
    guest.admin(Submission {
        opcode: admin::NAMESPACE_MANAGEMENT,
        nsid,
        cdw10: 1,
        ..Submission::zeroed()
    })
}

fn attach(guest: &mut Guest, nsid: u32, attach: bool, controllers: &[u16]) -> Result<u32, u16> {
    let mut list = vec![controllers.len() as u16];
    list.extend(controllers);
    guest.fill(DATA, &[0; 4096]);
    guest.fill(DATA, list.as_bytes());
    guest.admin(Submission {
        opcode: admin::NAMESPACE_ATTACHMENT,
        nsid,
        prp1: DATA,
        cdw10: u32::from(!attach),
        ..Submission::zeroed()
    })
}

fn ids(guest: &mut Guest, selector: u8) -> Vec<u32> {
    let list: [u32; 1024] = page(guest, identify(selector, 0));
    list.into_iter().take_while(|id| *id != 0).collect()
}

fn unallocated(guest: &mut Guest) -> u128 {
    let data: identify::Controller = page(guest, identify(cns::CONTROLLER, 0));
    data.unvmcap
}

fn on(nsid: u32, opcode: u8, block: u64) -> Submission {
    Submission {
        nsid,
        ..transfer(opcode, block, 1, DATA, 0)
    }
}

#[test]
fn a_namespace_is_created_attached_used_and_deleted() {
    let folder = TempDir::new().unwrap();
    let mut guest = start(&folder);
    let data: identify::Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    let (total, free, nn, oacs) = (data.tnvmcap, data.unvmcap, data.nn, data.oacs);
    assert_eq!((total, free), ((CAPACITY + DISK).into(), CAPACITY.into()));
    assert_eq!(({ data.mnan }, oacs & 1 << 3), (nn, 1 << 3));
    assert_eq!(nn, 65);

    assert_eq!(create(&mut guest, 256, 1), Ok(2));
    assert_eq!(unallocated(&mut guest), u128::from(CAPACITY - (1 << 20)));
    assert_eq!(ids(&mut guest, cns::ACTIVE_NAMESPACES), [1]);
    assert_eq!(ids(&mut guest, cns::ALLOCATED_NAMESPACES), [1, 2]);
    let inactive = refused(Status::INVALID_FIELD);
    assert_eq!(guest.run(1, on(2, io::READ, 0)), inactive);
    let hidden: [u8; 4096] = page(&mut guest, identify(cns::NAMESPACE, 2));
    assert_eq!(hidden, [0; 4096], "inactive");
    let data: identify::Namespace = page(&mut guest, identify(cns::ALLOCATED_NAMESPACE, 2));
    assert_eq!(({ data.nsze }, data.flbas), (256, 1));
    let list: [u16; 4] = page(&mut guest, identify(cns::ATTACHED_CONTROLLERS, 2));
    assert_eq!(list[0], 0);

    assert_eq!(attach(&mut guest, 2, true, &[0]), Ok(0));
    assert_eq!(ids(&mut guest, cns::ACTIVE_NAMESPACES), [1, 2]);
    let list: [u16; 4] = page(&mut guest, identify(cns::ATTACHED_CONTROLLERS, 2));
    assert_eq!(list, [1, 0, 0, 0]);
    guest.fill(DATA, &[5; 4096]);
    guest.run(1, on(2, io::WRITE, 255)).unwrap();
    let beyond = guest.run(1, on(2, io::WRITE, 256));
    assert_eq!(beyond, refused(Status::LBA_OUT_OF_RANGE));

    assert_eq!(delete(&mut guest, 2), Ok(0));
    assert_eq!(ids(&mut guest, cns::ALLOCATED_NAMESPACES), [1]);
    assert_eq!(unallocated(&mut guest), CAPACITY.into());
    assert_eq!(guest.run(1, on(2, io::READ, 0)), inactive);
    let beyond = guest.run(1, on(66, io::READ, 0));
    assert_eq!(beyond, refused(Status::INVALID_NAMESPACE));
    let files = std::fs::read_dir(folder.path().join("store")).unwrap();
    let raw = files.filter(|file| {
        file.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "raw")
    });
    assert_eq!(raw.count(), 0, "its storage is gone");
}

#[test]
fn created_namespaces_are_there_after_a_restart_with_their_names_and_data() {
    let folder = TempDir::new().unwrap();
    let names = |guest: &mut Guest, nsid| -> identify::Namespace {
        page(guest, identify(cns::ALLOCATED_NAMESPACE, nsid))
    };
    let mut guest = start(&folder);
    for _ in 0..3 {
        create(&mut guest, 64, 0).unwrap();
    }
    delete(&mut guest, 3).unwrap();
    let before = names(&mut guest, 2);
    attach(&mut guest, 2, true, &[0]).unwrap();
    attach(&mut guest, 1, false, &[0]).unwrap();
    guest.fill(DATA, &[9; 512]);
    guest.run(1, on(2, io::WRITE, 63)).unwrap();
    let second = Guest::try_with(with_store(folder.path())).map(|_| ());
    let message = second.unwrap_err().to_string();
    assert!(message.contains("in use"), "{message}");
    drop(guest);
    // What a kill between two steps of a creation leaves.
    let left = folder.path().join("store/namespace-77.raw");
    std::fs::write(&left, [0; 512]).unwrap();

    let mut guest = start(&folder);
    assert!(!left.exists());
    assert_eq!(ids(&mut guest, cns::ALLOCATED_NAMESPACES), [1, 2, 4]);
    assert_eq!(ids(&mut guest, cns::ACTIVE_NAMESPACES), [2]);
    let after = names(&mut guest, 2);
    assert_eq!((before.nguid, before.eui64), (after.nguid, after.eui64));
    guest.run(1, on(2, io::READ, 63)).unwrap();
    assert_eq!(guest.bytes(DATA, 512), [9; 512]);
    // A new namespace under an old identifier has names of its own, and no old data.
    delete(&mut guest, 2).unwrap();
    assert_eq!(create(&mut guest, 64, 0), Ok(2));
    assert_ne!(names(&mut guest, 2).nguid, before.nguid);
    attach(&mut guest, 2, true, &[0]).unwrap();
    guest.run(1, on(2, io::READ, 63)).unwrap();
    assert_eq!(guest.bytes(DATA, 512), [0; 512]);
}

#[test]
fn management_is_refused_with_every_status() {
    let folder = TempDir::new().unwrap();
    let mut guest = start(&folder);
    let too_much = create(&mut guest, CAPACITY / 512 + 1, 0);
    assert_eq!(too_much, refused(Status::INSUFFICIENT_CAPACITY));
    assert_eq!(
        create(&mut guest, u64::MAX, 1),
        refused(Status::INSUFFICIENT_CAPACITY)
    );
    assert_eq!(create(&mut guest, 0, 0), refused(Status::INVALID_FIELD));
    assert_eq!(create(&mut guest, 8, 2), refused(Status::INVALID_FORMAT));
    let thin = create_as(&mut guest, |data| (data.nsze, data.ncap) = (8, 7));
    assert_eq!(thin, refused(Status::THIN_PROVISIONING_NOT_SUPPORTED));
    let protected = create_as(&mut guest, |data| {
        (data.nsze, data.ncap, data.dps) = (8, 8, 1);
    });
    assert_eq!(protected, refused(Status::INVALID_FORMAT));
    let shared = create_as(&mut guest, |data| {
        (data.nsze, data.ncap, data.nmic) = (8, 8, 1);
    });
    assert_eq!(shared, refused(Status::INVALID_FIELD));
    for _ in 0..64 {
        create(&mut guest, 8, 0).unwrap();
    }
    let full = create(&mut guest, 8, 0);
    assert_eq!(full, refused(Status::NAMESPACE_ID_UNAVAILABLE));

    assert_eq!(delete(&mut guest, 1), refused(Status::OPERATION_DENIED));
    assert_eq!(
        delete(&mut guest, u32::MAX),
        refused(Status::OPERATION_DENIED)
    );
    delete(&mut guest, 9).unwrap();
    assert_eq!(delete(&mut guest, 9), refused(Status::INVALID_FIELD));
    assert_eq!(delete(&mut guest, 0), refused(Status::INVALID_NAMESPACE));
    assert_eq!(
        attach(&mut guest, 9, true, &[0]),
        refused(Status::INVALID_FIELD)
    );
    let already = attach(&mut guest, 1, true, &[0]);
    assert_eq!(already, refused(Status::NAMESPACE_ALREADY_ATTACHED));
    let not = attach(&mut guest, 2, false, &[0]);
    assert_eq!(not, refused(Status::NAMESPACE_NOT_ATTACHED));
    for list in [&[][..], &[1], &[0, 1]] {
        let invalid = attach(&mut guest, 2, true, list);
        assert_eq!(
            invalid,
            refused(Status::CONTROLLER_LIST_INVALID),
            "{list:?}"
        );
    }
}

#[test]
fn a_drive_without_a_store_has_no_management() {
    let mut guest = Guest::up();
    assert_eq!(create(&mut guest, 8, 0), refused(Status::INVALID_OPCODE));
    assert_eq!(
        attach(&mut guest, 1, false, &[0]),
        refused(Status::INVALID_OPCODE)
    );
    for selector in [0x10, 0x11, 0x12, 0x13, 0x1A, 0x1B] {
        let answer = guest.admin(identify(selector, 0));
        assert_eq!(answer, refused(Status::INVALID_FIELD), "{selector:#x}");
    }
    let effects: [u32; 256] = page(&mut guest, log_page(log::id::COMMAND_EFFECTS, 1024));
    assert_eq!((effects[0x0D], effects[0x15]), (0, 0));
}

#[test]
fn changes_are_told_once_to_a_host_that_wants_to_know() {
    let folder = TempDir::new().unwrap();
    let mut guest = start(&folder);
    let request = Submission {
        opcode: admin::ASYNC_EVENT_REQUEST,
        ..Submission::zeroed()
    };
    let waiting = guest.submit(0, request);
    create(&mut guest, 8, 0).unwrap();
    attach(&mut guest, 2, true, &[0]).unwrap();
    assert!(!guest.has_completion(0), "not asked for");
    let notices = features(admin::SET_FEATURES, feature::ASYNC_EVENTS, 1 << 8);
    guest.admin_ok(notices);
    attach(&mut guest, 1, false, &[0]).unwrap();
    assert_eq!(result(&guest.wait(0, waiting)), Ok(0x0004_0002));
    // More of it waits for the list to be read.
    let waiting = guest.submit(0, request);
    attach(&mut guest, 1, true, &[0]).unwrap();
    let changed: [u32; 4] = page(&mut guest, log_page(log::id::CHANGED_NAMESPACES, 4096));
    assert_eq!(changed, [1, 2, 0, 0]);
    assert!(!guest.has_completion(0), "the list told it");
    attach(&mut guest, 2, false, &[0]).unwrap();
    assert_eq!(result(&guest.wait(0, waiting)), Ok(0x0004_0002));
    let changed: [u32; 4] = page(&mut guest, log_page(log::id::CHANGED_NAMESPACES, 4096));
    assert_eq!(changed, [2, 0, 0, 0]);
    let changed: [u32; 4] = page(&mut guest, log_page(log::id::CHANGED_NAMESPACES, 4096));
    assert_eq!(changed, [0; 4]);
}

#[test]
fn a_list_that_cannot_be_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let mut guest = start(&folder);
    create(&mut guest, 8, 0).unwrap();
    create(&mut guest, 8, 0).unwrap();
    drop(guest);
    let list = folder.path().join("store/namespaces.json");
    let good = std::fs::read_to_string(&list).unwrap();
    for (from, to, reason) in [
        ("\"version\": 1", "\"version\": 2", "version is 2"),
        ("\"block_size\": 512", "\"block_size\": 520", "520 bytes"),
        ("\"id\": 3", "\"id\": 2", "there twice"),
        ("\"id\": 3", "\"id\": 0", "no namespace"),
        ("\"size\": 4096", "\"size\": 8192", "must have 8192"),
        ("{", "", "namespaces.json"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&list, good.replacen(from, to, 1)).unwrap();
        let mut message = String::new();
        // The last user of the store may still be letting it go.
        eventually("a refusal of the list", || {
            let refused = Guest::try_with(with_store(folder.path())).map(|_| ());
            message = refused.unwrap_err().to_string();
            !message.contains("in use")
        });
        assert!(message.contains(reason), "{reason}: {message}");
    }
    std::fs::remove_file(folder.path().join("store/namespace-1.raw")).unwrap();
    std::fs::write(&list, &good).unwrap();
    let refused = Guest::try_with(with_store(folder.path())).map(|_| ());
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("does not exist"), "{message}");
}

#[test]
fn a_format_that_outlasts_its_namespace_changes_no_other_of_that_identifier() {
    let folder = TempDir::new().unwrap();
    let mut guest = start(&folder);
    let id = create(&mut guest, 2048, 0).unwrap();
    let drive = guest.controller.drive.clone();
    let formatted = drive.namespaces.allocated(id).unwrap().unwrap();
    delete(&mut guest, id).unwrap();
    assert_eq!(create(&mut guest, 2048, 0), Ok(id));
    // What the command does last.
    let ended = drive.set_block_size(&formatted, 4096);
    assert_eq!(ended, Err(Status::INVALID_NAMESPACE));
    let other = drive.namespaces.allocated(id).unwrap().unwrap();
    assert_eq!(other.block_shift(), 9);
    drop((drive, formatted, other));
    drop(guest);
    let guest = start(&folder);
    let other = guest.controller.drive.namespaces.allocated(id);
    assert_eq!(other.unwrap().unwrap().block_shift(), 9);
}
