//! Accesses that a teardown does not wait for.

use devices::lifecycle::{Deadline, Device, Phases};

use super::Bench;
use super::device::*;
use crate::client::IrqType;

const ENABLE: u32 = 1 << 31;

fn shut_down(bench: &Bench) {
    let by = Deadline::after(std::time::Duration::from_secs(20));
    let mut phases = Phases::default();
    bench.function.shut_down(by, &mut phases).unwrap();
    let revived = phases.as_slice().iter().any(|phase| phase.name == "revive");
    assert!(!revived, "it was never gone");
}

#[test]
fn a_cancelled_read_is_all_ones_and_the_device_stays() {
    let bench = Bench::new();
    bench.enable();
    (bench.device.refuses.lock().unwrap()).push(Refusal::CancelledRead);
    assert_eq!(bench.read_bar32(0, 0x1C), u32::MAX);
    assert!(!bench.function.is_lost());
    assert_ne!(bench.read_bar32(0, 0x1C), u32::MAX);
    shut_down(&bench);
}

#[test]
fn a_type_whose_connection_was_cancelled_is_turned_off() {
    let bench = Bench::new();
    bench.enable();
    (bench.device.refuses.lock().unwrap()).push(Refusal::CancelledConnect);
    bench.write(MSIX, ENABLE);
    assert!(!bench.function.is_lost());
    shut_down(&bench);
    let calls = bench.device.take_calls();
    assert!(
        calls.contains(&Call::Disconnect(IrqType::Msix)),
        "{calls:?}"
    );
}
