//! Writes that signal eventfds, where the device offers them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::lifecycle::{Deadline, Device, Phases};
use devices::pci::{Address, Bus, DevFn, Node, RootComplex};

use super::device::*;
use super::resets::wait;
use super::{Bench, COMMAND, MASTER, MEMORY};
use crate::client::{Area, Region};

const BAR4: u64 = 0xC020_0000;
const FLR: u32 = 1 << 15;

fn root(bench: &Bench) -> RootComplex {
    let node = Node::endpoint("drive0", place(), bench.function.clone());
    let windows: Vec<RangeInclusive<u64>> = vec![0xC000_0000..=0xDFFF_FFFF];
    let root = RootComplex::new(Arc::new(Bus::root(vec![node]).unwrap()), windows);
    root.with_io_events(bench.events.clone())
}

fn place() -> DevFn {
    DevFn::new(1, 0).unwrap()
}

fn write(root: &RootComplex, offset: u16, value: u32) {
    let address = Address {
        bus: 0,
        devfn: place(),
    };
    root.write_config(address, offset, value, u32::MAX);
}

/// Has BARs 0 and 4 decoded, BAR 4 at this address.
fn program(root: &RootComplex, bar4: u64) {
    write(root, COMMAND, 0);
    write(root, 0x10, 0xC000_0000);
    write(root, 0x14, 0);
    write(root, 0x1C, 0xC010_0000);
    write(root, 0x20, bar4 as u32);
    write(root, COMMAND, MEMORY | MASTER);
}

fn tear_down(bench: &Bench) -> Result<Phases, devices::lifecycle::ShutdownError> {
    let mut phases = Phases::default();
    let by = Deadline::after(Duration::from_secs(20));
    bench.function.shut_down(by, &mut phases).map(|_| phases)
}

/// A device that offers an eventfd for a write to BAR 4, which is decoded.
fn at_work() -> (Bench, RootComplex) {
    let device = Played::drive();
    device.offer(&[(4, 0x10)]);
    let bench = Bench::signalling(device);
    let root = root(&bench);
    program(&root, BAR4);
    bench.device.take_calls();
    (bench, root)
}

fn asked(calls: &[Call]) -> usize {
    let asked = calls
        .iter()
        .filter(|call| matches!(call, Call::IoEvents(_)));
    asked.count()
}

#[test]
fn what_is_offered_is_connected_where_the_guest_has_the_bar() {
    let device = Played::drive();
    device.offer(&[(4, 0x10), (4, 0x20)]);
    let bench = Bench::signalling(device);
    assert_eq!(asked(&bench.device.take_calls()), 3, "once of each BAR");
    assert!(bench.events.now().is_empty());
    let root = root(&bench);
    program(&root, BAR4);
    assert_eq!(bench.events.now(), [BAR4 + 0x10, BAR4 + 0x20]);
    let event = bench.device.offered(4, 0x20);
    assert!(bench.events.signals(BAR4 + 0x20, &event));

    program(&root, BAR4 + 0x1000);
    assert_eq!(bench.events.now(), [BAR4 + 0x1010, BAR4 + 0x1020]);
    assert_eq!(asked(&bench.device.take_calls()), 0, "no vCPU asks");
}

#[test]
fn writes_that_never_reach_the_device_signal_nothing() {
    let bar = Region {
        size: 0x4000,
        readable: true,
        writable: true,
        areas: vec![Area {
            offset: 0,
            size: 0x1000,
        }],
    };
    let read_only = Region {
        size: 0x100,
        readable: true,
        ..Region::default()
    };
    let device = Played::drive()
        .with_region(0, bar)
        .with_region(4, read_only);
    let places = [0xFFC, 0x1000, PENDING, TABLE + 12, TABLE + 16 * 8, 0x4000];
    let places: Vec<_> = places.into_iter().map(|at| (0, at)).collect();
    device.offer(&[&places[..], &[(3, 0x100), (4, 0), (5, 0), (7, 4)]].concat());
    let bench = Bench::signalling(device);
    program(&root(&bench), BAR4);
    let expected = [0xC000_1000, 0xC000_0000 + TABLE + 16 * 8];
    assert_eq!(bench.events.now(), expected);
}

#[test]
fn a_teardown_takes_them_away_and_asks_again_after_the_reset() {
    let (bench, root) = at_work();
    bench.device.offer(&[]);
    tear_down(&bench).unwrap();
    assert!(bench.events.now().is_empty());
    program(&root, BAR4);
    assert!(bench.events.now().is_empty(), "none is offered any more");

    bench.device.take_calls();
    bench.device.offer(&[(4, 0x30)]);
    tear_down(&bench).unwrap();
    let calls = bench.device.take_calls();
    let reset = calls.iter().position(|call| *call == Call::Reset).unwrap();
    assert_eq!((asked(&calls[..reset]), asked(&calls[reset..])), (0, 3));
    program(&root, BAR4 + 0x1000);
    assert_eq!(bench.events.now(), [BAR4 + 0x1030]);
}

#[test]
fn a_reset_of_the_guests_asking_does_the_same_and_nothing_signals_meanwhile() {
    let (bench, root) = at_work();
    let before = bench.device.offered(4, 0x10);
    bench.device.offer(&[(4, 0x10)]);
    let (begun, go_on) = bench.device.hold_reset();
    write(&root, EXPRESS + 8, FLR);
    begun.recv().unwrap();
    assert!(bench.events.now().is_empty());
    assert_eq!(asked(&bench.device.take_calls()), 0);
    go_on.send(()).unwrap();
    wait(&bench);
    program(&root, BAR4);
    let event = bench.device.offered(4, 0x10);
    assert!(bench.events.signals(BAR4 + 0x10, &event));
    assert!(!Arc::ptr_eq(&before, &event));
}

#[test]
fn nothing_signals_while_a_teardown_resets_the_device() {
    let (bench, _root) = at_work();
    let (begun, go_on) = bench.device.hold_reset();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| tear_down(&bench));
        begun.recv().unwrap();
        let now = bench.events.now();
        go_on.send(()).unwrap();
        assert!(now.is_empty(), "{now:?}");
        ended.join().unwrap().unwrap();
    });
}

#[test]
fn a_device_that_is_brought_back_has_those_that_it_offers_by_then() {
    let (bench, root) = at_work();
    bench.device.set_gone(true);
    bench.device.cannot_revive.store(true, Ordering::Relaxed);
    assert!(tear_down(&bench).is_err());
    assert!(bench.events.now().is_empty());
    bench.device.cannot_revive.store(false, Ordering::Relaxed);
    bench.device.offer(&[(4, 0x40)]);
    tear_down(&bench).unwrap();
    program(&root, BAR4);
    assert_eq!(bench.events.now(), [BAR4 + 0x40]);
}

#[test]
fn a_reset_that_fails_leaves_none() {
    let (bench, _root) = at_work();
    bench.device.reset_errors.lock().unwrap().push(libc::EIO);
    assert!(tear_down(&bench).is_err());
    assert!(bench.events.now().is_empty());
}

#[test]
fn those_that_the_machine_refuses_are_trapped_until_the_bar_moves() {
    let device = Played::drive();
    device.offer(&[(4, 0x10)]);
    let bench = Bench::signalling(device);
    bench.events.refuses.store(true, Ordering::Relaxed);
    let root = root(&bench);
    program(&root, BAR4);
    assert!(bench.events.now().is_empty());
    bench.device.take_calls();
    bench.write_bar32(4, 0x10, 7);
    let written = Call::Write(4, 0x10, vec![7, 0, 0, 0]);
    assert_eq!(bench.device.take_calls(), [written]);
    bench.events.refuses.store(false, Ordering::Relaxed);
    program(&root, BAR4 + 0x1000);
    assert_eq!(bench.events.now(), [BAR4 + 0x1010]);
}

#[test]
fn a_function_that_is_released_leaves_none_and_takes_none() {
    let (bench, root) = at_work();
    bench.function.release();
    assert!(bench.events.now().is_empty());
    program(&root, BAR4 + 0x1000);
    assert!(bench.events.now().is_empty());
}

#[test]
fn a_device_that_has_no_reset_is_asked_once() {
    let device = Played::drive().with_resets(Resets::Never);
    device.offer(&[(4, 0x10)]);
    let bench = Bench::signalling(device);
    let root = root(&bench);
    program(&root, BAR4);
    bench.device.take_calls();
    // As of a driver that has set it up, and is no more.
    bench.device.offer(&[(4, 0x20)]);
    tear_down(&bench).unwrap();
    assert_eq!(asked(&bench.device.take_calls()), 0);
    program(&root, BAR4 + 0x1000);
    assert_eq!(bench.events.now(), [BAR4 + 0x1010]);
    // Until it is given up.
    bench.device.stays_master.store(true, Ordering::Relaxed);
    assert!(tear_down(&bench).is_err());
    assert!(bench.events.now().is_empty());
}

/// Nobody knows in what state it is by then.
#[test]
fn a_device_without_a_reset_that_is_brought_back_has_none() {
    let device = Played::drive().with_resets(Resets::Never);
    device.offer(&[(4, 0x10)]);
    let bench = Bench::signalling(device);
    let root = root(&bench);
    program(&root, BAR4);
    bench.device.set_gone(true);
    tear_down(&bench).unwrap();
    assert!(bench.device.take_calls().contains(&Call::Revive));
    program(&root, BAR4 + 0x1000);
    assert!(bench.events.now().is_empty());
}
