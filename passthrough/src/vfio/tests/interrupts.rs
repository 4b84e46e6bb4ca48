//! What the kernel is told of interrupts.

use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::*;
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::client::{Client, IrqType};

const SIGNAL: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
const OFF: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
const NONE: u32 = u32::MAX;

fn event() -> Arc<EventFd> {
    Arc::new(EventFd::new(0).unwrap())
}

#[allow(unsafe_code)]
fn fd(event: &EventFd) -> Option<BorrowedFd<'_>> {
    // SAFETY: the eventfd is borrowed for as long.
    Some(unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) })
}

fn number(event: &EventFd) -> u32 {
    event.as_raw_fd() as u32
}

#[test]
fn msix_is_turned_on_with_all_vectors_and_then_changed_one_by_one() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let (first, second) = (event(), event());
    device
        .connect(IrqType::Msix, 1, &[fd(&first), None])
        .unwrap();
    assert_eq!(
        scene.script.irqs(),
        [[SIGNAL, 2, 0, 4, NONE, number(&first), NONE, NONE]]
    );
    device.connect(IrqType::Msix, 3, &[fd(&second)]).unwrap();
    device.connect(IrqType::Msix, 1, &[None]).unwrap();
    assert_eq!(
        scene.script.irqs(),
        [[SIGNAL, 2, 3, 1, number(&second)], [SIGNAL, 2, 1, 1, NONE]]
    );
    device.disconnect(IrqType::Msix).unwrap();
    device.disconnect(IrqType::Msix).unwrap();
    assert_eq!(scene.script.irqs(), [[OFF, 2, 0, 0]]);
}

#[test]
fn msi_is_turned_on_with_as_many_vectors_as_are_given() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    let event = event();
    device
        .connect(IrqType::Msi, 0, &[fd(&event), None])
        .unwrap();
    assert_eq!(
        scene.script.irqs(),
        [[SIGNAL, 1, 0, 2, number(&event), NONE]]
    );
}

#[test]
fn vectors_beyond_the_devices_or_the_hosts_are_refused() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    for first in [4, u32::MAX] {
        assert!(device.connect(IrqType::Msix, first, &[None]).is_err());
    }
    assert!(scene.script.irqs().is_empty());
    // The kernel answers with how many it could have.
    scene.script.returns("SetIrqs", 2);
    let text = device
        .connect(IrqType::Msix, 0, &[None])
        .unwrap_err()
        .to_string();
    assert!(text.contains("the host has 2 interrupt vectors"), "{text}");
    // It is off still: turned on again, it has all of them.
    scene.script.irqs();
    device.connect(IrqType::Msix, 0, &[None]).unwrap();
    assert_eq!(scene.script.irqs()[0][2..4], [0, 4]);
}

#[test]
fn a_pin_is_masked_and_unmasked_while_it_is_connected() {
    let scene = Scene::with(&[("0000:01:00.0", 7)]);
    let device = scene.open("0000:01:00.0").unwrap();
    device.set_pin_masked(true).unwrap();
    device.unmask_pin_by(None).unwrap();
    assert!(scene.script.irqs().is_empty());
    let (trigger, ended) = (event(), event());
    device.connect(IrqType::Intx, 0, &[fd(&trigger)]).unwrap();
    device.unmask_pin_by(Some(&ended)).unwrap();
    device.set_pin_masked(true).unwrap();
    device.set_pin_masked(false).unwrap();
    device.unmask_pin_by(None).unwrap();
    let by = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;
    assert_eq!(
        scene.script.irqs(),
        [
            vec![SIGNAL, 0, 0, 1, number(&trigger)],
            vec![by, 0, 0, 1, number(&ended)],
            vec![VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 0, 0, 1],
            vec![VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1],
            vec![by, 0, 0, 1, NONE],
        ]
    );
}
