//! CC.SHN: what a guest sees of a shutdown, and when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::guest_acts::Act;
use devices::lifecycle::Device;

use super::backend::TestBackend;
use super::driver::{DATA, DISK, ENABLE, Guest, config, eventually, transfer};
use crate::spec::command::io;
use crate::spec::registers::offset;

const NORMAL: u32 = ENABLE | 1 << 14;
const ABRUPT: u32 = ENABLE | 2 << 14;

fn guest(backend: &std::sync::Arc<TestBackend>, latency: Duration) -> Guest {
    let mut config = config(vec![backend.clone()]);
    config.behaviour.shutdown.latency = latency.into();
    Guest::up_with(config)
}

#[test]
fn a_shutdown_takes_its_latency_and_a_real_flush() {
    let backend = TestBackend::new(DISK);
    let latency = Duration::from_millis(60);
    let mut guest = guest(&backend, latency);
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    guest.write(offset::CC, NORMAL);
    assert_eq!(
        guest.csts() & 0b1111,
        0b0101,
        "SHST = 01b, RDY = 1, CFS = 0"
    );
    // The admin queue is served meanwhile.
    guest.admin_ok(transfer(
        crate::spec::command::admin::IDENTIFY,
        1,
        1,
        DATA,
        0,
    ));
    eventually("a completed shutdown", || guest.shst() == 2);
    assert!(guest.is_ready());
    assert_eq!(backend.flushes.load(Ordering::SeqCst), 1);
    let acts = guest.controller.guest_acts();
    let handshake = acts.handshake.unwrap();
    let (asked, done) = (handshake.requested, handshake.completed.unwrap());
    assert!(done - asked >= latency);
    assert!(acts.of(Act::Enable).unwrap().last < asked);
    let polls = acts.of(Act::Poll).unwrap();
    assert_eq!(polls.count, handshake.polls);
    assert!(polls.count >= 2 && polls.first < done);
    assert!(polls.last >= done && handshake.seen == Some(polls.last));
}

#[test]
fn a_slow_flush_outlasts_the_latency() {
    let backend = TestBackend::new(DISK);
    let mut guest = guest(&backend, Duration::from_millis(5));
    guest.run(1, transfer(io::WRITE, 0, 1, DATA, 0)).unwrap();
    backend.hold(true);
    guest.write(offset::CC, NORMAL);
    backend.wait_entered(2);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(guest.shst(), 1);
    backend.hold(false);
    eventually("a completed shutdown", || guest.shst() == 2);
}

#[test]
fn a_flush_that_fails_is_fatal_and_never_complete() {
    let backend = TestBackend::new(DISK);
    let guest = guest(&backend, Duration::ZERO);
    backend.fail_flushes.store(true, Ordering::SeqCst);
    guest.write(offset::CC, NORMAL);
    eventually("fatal status", || guest.has_failed());
    assert_eq!(guest.shst(), 1);
}

#[test]
fn abrupt_and_normal_have_latencies_of_their_own() {
    let guest = guest(&TestBackend::new(DISK), Duration::from_secs(3600));
    guest.write(offset::CC, ABRUPT);
    eventually("a completed shutdown", || guest.shst() == 2);
}

#[test]
fn a_reset_ends_a_shutdown_and_its_timer_does_not_end_the_next() {
    let backend = TestBackend::new(DISK);
    let mut guest = guest(&backend, Duration::from_millis(50));
    guest.write(offset::CC, NORMAL);
    assert_eq!(guest.shst(), 1);
    guest.write(offset::CC, 0);
    eventually("not ready", || !guest.is_ready());
    assert_eq!(guest.shst(), 0);
    std::thread::sleep(Duration::from_millis(25));
    guest.enable();
    guest.write(offset::CC, NORMAL);
    eventually("a completed shutdown", || guest.shst() == 2);
    let handshake = guest.controller.guest_acts().handshake.unwrap();
    let took = handshake.completed.unwrap() - handshake.requested;
    assert!(took >= Duration::from_millis(50));
    // Nothing is fetched once the shutdown is complete.
    guest.submit(
        0,
        transfer(crate::spec::command::admin::IDENTIFY, 1, 1, DATA, 0),
    );
    std::thread::sleep(Duration::from_millis(10));
    assert!(!guest.has_completion(0));
}

#[test]
fn a_disabled_controller_can_be_shut_down() {
    let guest = Guest::new();
    guest.write(offset::CC, NORMAL & !1);
    eventually("a completed shutdown", || guest.shst() == 2);
    assert!(!guest.is_ready());
}
