//! Interrupts that the host, the device or the machine refuses.

use std::sync::atomic::Ordering;

use devices::lifecycle::{Device, Phases};

use super::device::*;
use super::interrupts::{ENABLE, fill, message, ready, ready_with, set_masked};
use super::resets::soon;
use super::{Bench, COMMAND, MEMORY};
use crate::client::IrqType::{Intx as IntxIrq, Msi as MsiIrq, Msix as MsixIrq};

fn refuse(bench: &Bench, refusals: &[Refusal]) {
    bench.device.refuses.lock().unwrap().extend(refusals);
}

#[test]
fn what_the_host_refuses_is_tried_again_at_the_next_change() {
    let bench = ready();
    fill(&bench, 0);
    bench.device.refuses.lock().unwrap().push(Refusal::Connect);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.connected(), 0);
    assert_eq!(bench.read(0), 0xA808_144D, "the device goes on");
    fill(&bench, 1);
    assert_eq!(bench.device.connected(), 2);
    assert!(bench.device.signal(MsixIrq, 0));
    assert_eq!(bench.router.taken(0), 1);
}

#[test]
fn a_pin_that_the_host_refuses_leaves_its_line() {
    let bench = Bench::new();
    bench.device.refuses.lock().unwrap().push(Refusal::Connect);
    bench.enable();
    assert!(!bench.line.is_connected());
    bench.write16(COMMAND, MEMORY as u16);
    bench.enable();
    assert!(bench.line.is_connected());
}

#[test]
fn vectors_of_a_call_that_failed_halfway_are_connected_anew() {
    for device in [Played::drive(), Played::drive().of_a_server()] {
        let bench = ready_with(device);
        for vector in 0..3 {
            fill(&bench, vector);
        }
        bench.write(MSIX, ENABLE);
        refuse(&bench, &[Refusal::ConnectHalfway]);
        set_masked(&bench, 1, true);
        // The guest changes its mind: to what the vector did before the call.
        assert!(!bench.device.signal(MsixIrq, 1), "it was taken away");
        set_masked(&bench, 1, false);
        assert_eq!(bench.router.taken(1), 1, "what came meanwhile is lost");
        assert!(bench.device.signal(MsixIrq, 1));
        assert_eq!(bench.router.taken(1), 1);
        for untouched in [0, 2] {
            assert!(bench.device.signal(MsixIrq, untouched));
            assert_eq!(bench.router.taken(untouched as usize), 1);
        }
    }
}

#[test]
fn a_type_that_is_turned_on_halfway_is_off_until_the_next_change() {
    let bench = ready();
    fill(&bench, 0);
    refuse(&bench, &[Refusal::ConnectHalfway]);
    bench.device.take_calls();
    bench.write(MSIX, ENABLE);
    let mut present = vec![false; VECTORS.into()];
    present[0] = true;
    let on = Call::Connect(MsixIrq, 0, present);
    let calls = [on.clone(), Call::Disconnect(MsixIrq)];
    assert_eq!(bench.device.take_calls(), calls);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.device.take_calls(), [on]);

    // One that cannot be turned off either may still signal.
    let bench = ready();
    fill(&bench, 0);
    refuse(&bench, &[Refusal::ConnectHalfway, Refusal::Disconnect]);
    bench.write(MSIX, ENABLE);
    bench.device.take_calls();
    bench.write(MSIX, 0);
    assert_eq!(bench.device.take_calls(), [Call::Disconnect(MsixIrq)]);
}

#[test]
fn a_type_that_could_not_be_turned_off_is_connected_anew() {
    let bench = ready();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    refuse(&bench, &[Refusal::Disconnect]);
    bench.write(MSIX, 0);
    bench.device.take_calls();
    bench.write(MSIX, ENABLE);
    let calls = bench.device.take_calls();
    assert!(
        matches!(calls[..], [Call::Connect(MsixIrq, 0, _)]),
        "{calls:?}"
    );
    bench.router.taken(0);
    assert!(bench.device.signal(MsixIrq, 0));
    assert_eq!(bench.router.taken(0), 1);
}

#[test]
fn a_vector_whose_message_cannot_be_routed_waits_until_it_can() {
    let bench = ready();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    set_masked(&bench, 0, true);
    bench.write_bar32(0, TABLE + 8, 0x77);
    bench.router.refuses.store(true, Ordering::Relaxed);
    set_masked(&bench, 0, false);
    assert_eq!(bench.router.message(0), Some(message(0)));
    assert!(bench.device.signal(MsixIrq, 0));
    assert_eq!(bench.router.taken(0), 0, "not by another message");
    // What needs no message is done all the same.
    fill(&bench, 1);
    set_masked(&bench, 1, true);
    bench.router.refuses.store(false, Ordering::Relaxed);
    bench.write(MSIX, ENABLE);
    assert_eq!(bench.router.message(0).unwrap().data, 0x77);
    assert_eq!(bench.router.taken(0), 1);
}

#[test]
fn messages_that_stay_in_the_routing_fail_the_teardown() {
    let bench = ready();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    bench.router.refuses.store(true, Ordering::Relaxed);
    let failed = bench.function.shut_down(soon(), &mut Phases::default());
    let failure = failed.unwrap_err().to_string();
    assert!(failure.contains("interrupt routing"), "{failure}");
    assert_eq!(bench.router.message(0), Some(message(0)));
    bench.router.refuses.store(false, Ordering::Relaxed);
    let again = bench.function.shut_down(soon(), &mut Phases::default());
    again.unwrap();
    assert_eq!(bench.router.message(0), None);
}

#[test]
fn vectors_for_msi_that_the_machine_did_not_have_are_asked_for_again() {
    let bench = ready();
    bench.write(MSI + 4, 0xFEE0_0000);
    bench.router.refuses.store(true, Ordering::Relaxed);
    bench.write(MSI, 1 << 16);
    assert_eq!(bench.device.connected(), 0);
    bench.router.refuses.store(false, Ordering::Relaxed);
    bench.write(MSI, 1 << 16);
    assert!(bench.device.signal(MsiIrq, 0));
    assert_eq!(bench.router.taken(VECTORS.into()), 1);
}

#[test]
fn a_pin_that_is_neither_on_nor_off_is_turned_off_before_anything_else_is_on() {
    let bench = Bench::new();
    refuse(&bench, &[Refusal::UnmaskPin, Refusal::Disconnect]);
    bench.enable();
    assert_eq!(bench.device.connected(), 1, "it could not be turned off");
    bench.device.take_calls();
    fill(&bench, 0);
    bench.write(MSIX, ENABLE);
    let calls = bench.device.take_calls();
    assert!(calls.contains(&Call::Disconnect(IntxIrq)), "{calls:?}");
    assert!(!bench.line.is_connected() && bench.device.signal(MsixIrq, 0));

    // The same where the pin is wanted still.
    let bench = Bench::new();
    refuse(&bench, &[Refusal::UnmaskPin, Refusal::Disconnect]);
    bench.enable();
    bench.enable();
    assert!(bench.device.signal(IntxIrq, 0) && bench.line.taken());
    assert!(bench.device.unmask_by.lock().unwrap().is_some());
}
