//! What `VFIO_DEVICE_SET_IRQS` is told.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};

use super::ioctls::Record;
use crate::client::IrqType;

/// No eventfd.
pub(super) const NONE: RawFd = -1;

/// VFIO's number of an interrupt type.
pub(super) fn index(irq: IrqType) -> u32 {
    match irq {
        IrqType::Intx => VFIO_PCI_INTX_IRQ_INDEX,
        IrqType::Msi => VFIO_PCI_MSI_IRQ_INDEX,
        IrqType::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
    }
}

/// Interrupts from `start` on signal `events`.
pub(super) fn signal(index: u32, start: u32, events: &[RawFd]) -> Record {
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    record(flags, index, start, events.len() as u32, events)
}

/// Turns a type off.
pub(super) fn off(index: u32) -> Record {
    let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    record(flags, index, 0, 0, &[])
}

/// Masks or unmasks the pin.
pub(super) fn mask_pin(masked: bool) -> Record {
    let action = if masked {
        VFIO_IRQ_SET_ACTION_MASK
    } else {
        VFIO_IRQ_SET_ACTION_UNMASK
    };
    let flags = VFIO_IRQ_SET_DATA_NONE | action;
    record(flags, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &[])
}

/// Has signals of `event` unmask the pin.
pub(super) fn unmask_pin_by(event: RawFd) -> Record {
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;
    record(flags, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &[event])
}

/// The descriptors of `events`.
pub(super) fn descriptors(events: &[Option<BorrowedFd<'_>>]) -> impl Iterator<Item = RawFd> {
    events
        .iter()
        .map(|event| event.map_or(NONE, |event| event.as_raw_fd()))
}

/// `vfio_irq_set`: flags at 4, index at 8, the first interrupt at 12, how many at 16, data from 20 on.
fn record(flags: u32, index: u32, start: u32, count: u32, data: &[RawFd]) -> Record {
    let mut record = Record::new(20 + 4 * data.len());
    for (number, value) in [flags, index, start, count].into_iter().enumerate() {
        record.set_u32(4 + 4 * number, value);
    }
    for (number, event) in data.iter().enumerate() {
        record.set_u32(20 + 4 * number, *event as u32);
    }
    record
}
