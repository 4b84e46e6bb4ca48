//! Features, logs and events.

use super::commands::{features, identify, log_page, page};
use super::driver::{DATA, Guest, eventually, refused, result, transfer};
use crate::spec::command::{admin, io};
use crate::spec::identify::{self, cns};
use crate::spec::log::{self, Smart};
use crate::spec::{Status, Submission, feature};

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
    assert_eq!((errors[0].parameter, errors[1].count), (40, 0), "dword 10");
    let slots: log::FirmwareSlots = page(&mut guest, log_page(log::id::FIRMWARE_SLOTS, 512));
    assert_eq!((slots.active, &slots.revision[0]), (1, b"1.0     "));
    let effects: [u32; 1024] = page(&mut guest, log_page(log::id::COMMAND_EFFECTS, 4096));
    assert_eq!(
        (
            effects[6],
            effects[256 + 1],
            effects[256 + 5],
            effects[256 + 6]
        ),
        (1, 0b11, 1, 0)
    );
    let known: [u32; 256] = page(&mut guest, log_page(log::id::FEATURE_EFFECTS, 1024));
    assert_eq!((known[0x06], known[0x16], known[0x03]), (1, 1, 0));
    let pages: [u32; 256] = page(&mut guest, log_page(log::id::SUPPORTED_PAGES, 1024));
    assert_eq!(pages.iter().filter(|page| **page == 1).count(), 9);
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

#[test]
fn a_silent_host_that_promised_to_speak_is_taken_for_gone() {
    let mut guest = Guest::up();
    let kas: identify::Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    assert_eq!({ kas.kas }, 10, "in seconds");
    let set = |time| features(admin::SET_FEATURES, feature::KEEP_ALIVE, time);
    guest.admin_ok(set(1));
    let kept = guest.admin_ok(features(admin::GET_FEATURES, feature::KEEP_ALIVE, 0));
    assert_eq!(kept, 1000);
    let alive = Submission {
        opcode: admin::KEEP_ALIVE,
        ..Submission::zeroed()
    };
    std::thread::sleep(std::time::Duration::from_millis(300));
    let spoken = std::time::Instant::now();
    guest.admin_ok(alive);
    eventually("the time-out", || guest.has_failed());
    assert!(
        spoken.elapsed().as_millis() >= 1000,
        "from the last word on"
    );
    guest.write(crate::spec::registers::offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    guest.enable();
    let errors: [log::ErrorEntry; 1] = page(&mut guest, log_page(log::id::ERRORS, 64));
    let status = errors[0].status >> 1;
    assert_eq!(
        (status, errors[0].cid),
        (Status::KEEP_ALIVE_EXPIRED.bits(), u16::MAX)
    );
}

#[test]
fn thermal_limits_and_host_behaviour_are_checked_and_kept() {
    let mut guest = Guest::up();
    let controller: identify::Controller = page(&mut guest, identify(cns::CONTROLLER, 0));
    let (least, most) = (u32::from(controller.mntmt), u32::from(controller.mxtmt));
    let set = |value| features(admin::SET_FEATURES, feature::THERMAL_MANAGEMENT, value);
    let get = features(admin::GET_FEATURES, feature::THERMAL_MANAGEMENT, 0);
    for good in [0, least << 16 | most, most, least << 16] {
        guest.admin_ok(set(good));
        assert_eq!(guest.admin_ok(get), good);
    }
    for bad in [
        least - 1,
        (most + 1) << 16,
        most << 16 | least,
        most << 16 | most,
    ] {
        assert_eq!(guest.admin(set(bad)), refused(Status::INVALID_FIELD));
    }

    let behaviour = features(admin::SET_FEATURES, feature::HOST_BEHAVIOR, 0);
    let mut data = [0; 512];
    data[0] = 1;
    guest.fill(DATA, &data);
    guest.admin_ok(behaviour);
    let get = features(admin::GET_FEATURES, feature::HOST_BEHAVIOR, 0);
    let kept: [u8; 512] = page(&mut guest, get);
    assert_eq!(kept, data);
    data[2] = 1;
    guest.fill(DATA, &data);
    assert_eq!(guest.admin(behaviour), refused(Status::INVALID_FIELD));
}
