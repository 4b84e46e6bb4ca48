//! What a controller notes of the way down that its guest takes.

use std::time::Duration;

use devices::guest_acts::{Act, GuestActs};
use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::PciFunction;

use super::backend::TestBackend;
use super::driver::{DISK, ENABLE, Guest, config, eventually};
use crate::ShutdownModel;
use crate::spec::Submission;
use crate::spec::command::admin;
use crate::spec::registers::offset;

const NORMAL: u32 = ENABLE | 1 << 14;
const ABRUPT: u32 = ENABLE | 2 << 14;
const FOREVER: Duration = Duration::from_secs(3600);

fn acts(guest: &Guest) -> GuestActs {
    guest.controller.guest_acts()
}

fn count(guest: &Guest, act: Act) -> u64 {
    acts(guest).of(act).map_or(0, |times| times.count)
}

fn delete(guest: &mut Guest, opcode: u8, id: u16) -> Result<u32, u16> {
    guest.admin(Submission {
        opcode,
        cdw10: id.into(),
        ..zerocopy::FromZeros::new_zeroed()
    })
}

fn with_latency(latency: Duration) -> Guest {
    let mut config = config(vec![TestBackend::new(DISK)]);
    config.behaviour.shutdown = ShutdownModel {
        latency: latency.into(),
        abrupt_latency: latency.into(),
        estimate: None,
    };
    Guest::with(config)
}

fn shut_down(guest: &Guest) {
    let by = Deadline::after(Duration::from_secs(20));
    guest
        .controller
        .shut_down(by, &mut Phases::default())
        .unwrap();
}

#[test]
fn the_way_down_of_a_driver_is_noted_in_its_order() {
    let mut guest = Guest::new();
    guest.enable();
    for id in 1..=3 {
        guest.create_pair(id);
    }
    for id in 1..=3 {
        delete(&mut guest, admin::DELETE_SQ, id).unwrap();
    }
    for id in 1..=3 {
        delete(&mut guest, admin::DELETE_CQ, id).unwrap();
    }
    assert!(delete(&mut guest, admin::DELETE_SQ, 1).is_err());
    assert!(delete(&mut guest, admin::DELETE_CQ, 9).is_err());
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    guest.write(offset::CC, NORMAL & !1);
    guest.controller.write_config(4, 0b010, 0xFFFF);

    let acts = acts(&guest);
    let of = |act| acts.of(act).unwrap();
    for (act, times) in [
        (Act::Enable, 1),
        (Act::DeleteSubmissionQueue, 3),
        (Act::DeleteCompletionQueue, 3),
        (Act::ShutdownNormal, 1),
        (Act::Disable, 1),
        (Act::BusMasterOff, 1),
    ] {
        assert_eq!(of(act).count, times, "{act:?}");
    }
    let handshake = acts.handshake.unwrap();
    assert!(of(Act::Enable).last <= of(Act::DeleteSubmissionQueue).first);
    assert!(of(Act::DeleteSubmissionQueue).last <= of(Act::DeleteCompletionQueue).first);
    assert!(of(Act::DeleteCompletionQueue).last <= handshake.requested);
    assert!(Some(handshake.requested) <= handshake.completed);
    assert!(handshake.completed <= handshake.seen);
    assert!(handshake.seen <= Some(of(Act::Disable).first));
    assert_eq!(acts.of(Act::ShutdownAbrupt), None);
}

#[test]
fn a_handshake_that_the_guest_does_not_wait_for_is_not_finished() {
    let mut guest = with_latency(FOREVER);
    guest.enable();
    guest.write(offset::CC, ABRUPT);
    assert_eq!(guest.shst(), 1);
    let handshake = acts(&guest).handshake.unwrap();
    assert_eq!((handshake.completed, handshake.seen), (None, None));
    assert_eq!(handshake.polls, 1);
    assert_eq!(count(&guest, Act::ShutdownAbrupt), 1);
    // The reset that ends it does not complete it.
    guest.write(offset::CC, 0);
    assert_eq!(acts(&guest).handshake.unwrap().completed, None);
}

#[test]
fn a_second_request_in_one_handshake_is_counted_and_begins_none() {
    let mut guest = with_latency(FOREVER);
    guest.enable();
    guest.write(offset::CC, NORMAL);
    let first = acts(&guest).handshake.unwrap().requested;
    for cc in [ABRUPT, NORMAL, ENABLE, NORMAL] {
        guest.write(offset::CC, cc);
    }
    assert_eq!(acts(&guest).handshake.unwrap().requested, first);
    assert_eq!(count(&guest, Act::ShutdownNormal), 3);
    assert_eq!(count(&guest, Act::ShutdownAbrupt), 1);
}

#[test]
fn a_driver_that_starts_the_drive_anew_begins_its_own_notes() {
    let mut guest = Guest::new();
    guest.enable();
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    assert!(acts(&guest).handshake.is_some());
    guest.enable();
    let acts = acts(&guest);
    assert_eq!(acts.handshake, None, "a session that is over");
    let kinds: Vec<_> = acts.iter().map(|(act, _)| act).collect();
    assert_eq!(kinds, [Act::Enable]);
}

#[test]
fn a_drive_shut_down_again_without_a_start_shows_the_last_handshake() {
    let mut guest = Guest::new();
    guest.enable();
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    let first = acts(&guest).handshake.unwrap();
    guest.write(offset::CC, 0);
    guest.write(offset::CC, NORMAL & !1);
    eventually("another completed shutdown", || guest.shst() == 2);
    let last = acts(&guest).handshake.unwrap();
    assert!(last.requested >= first.completed.unwrap());
    assert_eq!(count(&guest, Act::ShutdownNormal), 2);
}

#[test]
fn resets_keep_the_notes_and_a_teardown_ends_them() {
    let mut guest = with_latency(Duration::ZERO);
    guest.enable();
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    // A function level reset: bit 15 of the device control register.
    let at = (0x40..0x100)
        .step_by(4)
        .find(|&at| guest.controller.read_config(at) & 0xFF == 0x10)
        .unwrap();
    guest.controller.write_config(at + 8, 0x8000, 0xFF00);
    assert_eq!(count(&guest, Act::FunctionReset), 1);
    assert!(acts(&guest).handshake.unwrap().completed.is_some());
    shut_down(&guest);
    assert!(
        acts(&guest).is_empty(),
        "the next boot has done nothing yet"
    );
}

#[test]
fn a_handshake_that_a_teardown_cuts_off_leaves_nothing_to_the_next_boot() {
    let mut guest = with_latency(Duration::from_millis(5));
    guest.enable();
    guest.write(offset::CC, NORMAL);
    shut_down(&guest);
    guest.power_up();
    guest.enable();
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    let handshake = acts(&guest).handshake.unwrap();
    let took = handshake.completed.unwrap() - handshake.requested;
    assert!(took >= Duration::from_millis(5), "its own timer ended it");
    assert_eq!(count(&guest, Act::ShutdownNormal), 1);
}

#[test]
fn shutdowns_and_resets_of_the_subsystem_are_noted_too() {
    let mut guest = with_latency(Duration::ZERO);
    guest.enable();
    // "Abpt".
    guest.write(offset::NSSD, 0x4162_7074);
    eventually("a completed shutdown", || guest.shst() == 2);
    let handshake = acts(&guest).handshake.unwrap();
    assert!(handshake.abrupt && handshake.completed.is_some());
    assert_eq!(count(&guest, Act::ShutdownAbrupt), 1);
    assert_eq!(count(&guest, Act::SubsystemReset), 0);
    // Anything but "NVMe" resets nothing.
    guest.write(offset::NSSR, 1);
    guest.write(offset::NSSR, 0x4E56_4D65);
    assert_eq!(count(&guest, Act::SubsystemReset), 1);
}

#[test]
fn a_normal_handshake_is_not_abrupt() {
    let mut guest = with_latency(FOREVER);
    guest.enable();
    guest.write(offset::CC, NORMAL);
    let handshake = acts(&guest).handshake.unwrap();
    assert_eq!((handshake.abrupt, handshake.modelled), (false, FOREVER));
}
