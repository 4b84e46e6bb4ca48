//! What whoever observes a function is told.

use std::sync::{Arc, Mutex};

use devices::lifecycle::{Device, Finish, Phases};
use devices::pci::PciFunction;

use super::device::*;
use super::resets::{at_work, names, soon};
use super::{Bench, COMMAND};
use crate::client::Observer;

/// Why the device was said to be gone, and what else was said of it.
#[derive(Default)]
struct Told(Mutex<Vec<String>>, Mutex<Vec<String>>);

impl Told {
    fn of(bench: &Bench) -> Arc<Self> {
        let told = Arc::<Self>::default();
        bench.function.observe(told.clone());
        told
    }
}

impl Observer for Told {
    fn gone(&self, reason: &str) {
        self.0.lock().unwrap().push(reason.to_owned());
    }

    fn back(&self) {}

    fn warn(&self, message: &str) {
        self.1.lock().unwrap().push(message.to_owned());
    }
}

#[test]
fn a_reset_that_fails_leaves_no_device_until_a_teardown() {
    let bench = at_work();
    bench.device.reset_errors.lock().unwrap().push(libc::EIO);
    let told = Told::of(&bench);
    bench.function.bus_reset();
    // The teardown waits for it.
    let mut phases = Phases::default();
    assert_eq!(bench.read(0), u32::MAX);
    let done = bench.function.shut_down(soon(), &mut phases).unwrap();
    assert_eq!(done, Finish::Now);
    let names = names(&phases);
    let own: Vec<_> = names
        .iter()
        .filter(|name| **name != "guest-reset")
        .collect();
    assert_eq!(own, [&"revive", &"quiesce", &"reset", &"re-arm"]);
    let told = told.0.lock().unwrap();
    let asked = |reason: &String| reason.contains("the guest asked for");
    assert!(told.len() == 1 && told.iter().all(asked), "{told:?}");
    assert_eq!(bench.read(0), 0xA808_144D);
}

#[test]
fn what_the_host_refuses_is_told_once_until_a_teardown() {
    let bench = Bench::new();
    let told = Told::of(&bench);
    let refuse = || {
        let refusals = [Refusal::Connect, Refusal::Connect];
        bench.device.refuses.lock().unwrap().extend(refusals);
        bench.enable();
        bench.write16(COMMAND, 0);
        bench.enable();
        assert_eq!(bench.device.connected(), 0);
    };
    refuse();
    let said = told.1.lock().unwrap().clone();
    assert!(said.len() == 1 && said[0].contains("Connect"), "{said:?}");
    let ended = bench.function.shut_down(soon(), &mut Phases::default());
    ended.unwrap();
    refuse();
    assert_eq!(told.1.lock().unwrap().len(), 2);
    assert!(told.0.lock().unwrap().is_empty(), "it is not gone");
}

#[test]
fn each_reset_that_fails_is_told_once() {
    let bench = at_work();
    let told = Told::of(&bench);
    for failed in 1..3 {
        bench.device.reset_errors.lock().unwrap().push(libc::EIO);
        bench.function.bus_reset();
        while !bench.function.is_lost() {
            std::thread::yield_now();
        }
        // The guest tries again, and finds nobody.
        bench.function.bus_reset();
        bench.write(EXPRESS + 8, 1 << 15);
        let ended = bench.function.shut_down(soon(), &mut Phases::default());
        ended.unwrap();
        assert_eq!(told.0.lock().unwrap().len(), failed);
    }
    let calls = bench.device.take_calls();
    let resets = calls.iter().filter(|call| **call == Call::Reset);
    assert_eq!(resets.count(), 4, "two of the guest's, two of teardowns");
}

/// Of a device that is gone its client tells.
#[test]
fn a_device_that_goes_during_a_reset_is_told_of_by_one() {
    let bench = at_work();
    let told = Told::of(&bench);
    let (begun, go_on) = bench.device.hold_reset();
    bench.function.bus_reset();
    begun.recv().unwrap();
    bench.device.set_gone(true);
    go_on.send(()).unwrap();
    let ended = bench.function.shut_down(soon(), &mut Phases::default());
    ended.unwrap();
    assert!(told.0.lock().unwrap().is_empty());
    assert_eq!(bench.read(0), 0xA808_144D);
}

#[test]
fn a_device_that_is_there_and_does_not_answer_is_told_of_once() {
    let bench = at_work();
    let told = Told::of(&bench);
    let reads = [Refusal::Read, Refusal::Read];
    bench.device.refuses.lock().unwrap().extend(reads);
    assert_eq!(bench.read_bar32(0, 0x10), u32::MAX);
    assert_eq!(bench.read_bar32(0, 0x10), u32::MAX);
    let gone = told.0.lock().unwrap().clone();
    assert!(gone.len() == 1 && gone[0].contains("no answer"), "{gone:?}");
}
