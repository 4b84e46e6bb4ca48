//! Devices that go and come back while the guest looks elsewhere.

use std::sync::atomic::Ordering;

use devices::lifecycle::{Device, Phases};
use devices::pci::PciFunction;
use vm_memory::GuestAddress;

use super::Bench;
use super::resets::{at_work, soon};

fn tear_down(bench: &Bench) {
    let ended = bench.function.shut_down(soon(), &mut Phases::default());
    ended.unwrap();
}

/// It has forgotten what the guest's driver told it.
#[test]
fn a_device_that_was_gone_while_nobody_looked_is_lost_to_this_boot() {
    let bench = at_work();
    bench.device.set_gone(true);
    bench.device.set_gone(false);
    assert_eq!(bench.read(0), u32::MAX);
    assert_eq!(bench.read_bar32(0, 0), u32::MAX);
    assert!(bench.function.is_lost());
    tear_down(&bench);
    assert_eq!(bench.read(0), 0xA808_144D);
    assert!(!bench.function.is_lost());
}

#[test]
fn news_of_an_earlier_session_change_nothing() {
    let bench = at_work();
    bench.device.set_gone(true);
    tear_down(&bench);
    bench.function.let_go();
    assert_eq!(bench.read(0), 0xA808_144D);
    bench.function.placed(0, Some(GuestAddress(0x8000_0000)));
    assert_eq!(bench.mapper.now(), [(0x8000_0000, 0x2000)]);
    bench.function.let_go();
    assert_eq!(bench.mapper.now().len(), 1);
}

#[test]
fn what_is_mapped_of_a_device_that_is_gone_is_given_back() {
    for is_back in [false, true] {
        let bench = at_work();
        assert_eq!(bench.mapper.now().len(), 1);
        bench.device.set_gone(true);
        bench.device.set_gone(!is_back);
        bench.function.let_go();
        assert_eq!(bench.mapper.now(), []);
        assert_eq!(bench.read(0), u32::MAX);
        tear_down(&bench);
        bench.function.placed(0, Some(GuestAddress(0x8000_0000)));
        assert_eq!(bench.mapper.now().len(), 1);
    }
}

#[test]
fn a_device_that_goes_once_more_while_it_is_torn_down_is_not_seen() {
    let bench = at_work();
    let (begun, go_on) = bench.device.hold_reset();
    std::thread::scope(|scope| {
        scope.spawn(|| tear_down(&bench));
        begun.recv().unwrap();
        bench.device.set_gone(true);
        bench.device.set_gone(false);
        go_on.send(()).unwrap();
    });
    assert!(bench.function.is_lost());
    assert_eq!(bench.read(0), u32::MAX);
    let maps = bench.device.maps.load(Ordering::Relaxed);
    tear_down(&bench);
    assert!(!bench.function.is_lost());
    assert_eq!(bench.device.maps.load(Ordering::Relaxed), maps + 2);
}
