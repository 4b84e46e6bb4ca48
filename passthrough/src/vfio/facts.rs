//! What the kernel says of a device that is open: its regions and its interrupts.

use std::io;
use std::os::fd::AsFd;

use vfio_bindings::bindings::vfio::{VFIO_DEVICE_FLAGS_PCI, vfio_device_info, vfio_irq_info};

use super::alarms::Alarm;
use super::error::OpenError;
use super::ioctls::Request;
use super::opened::Opened;
use super::regions::{self, Placed};
use super::{Vfio, interrupts};
use crate::client::IrqType;

/// What there is to know of a device before it is used.
pub(super) struct Facts {
    pub(super) flags: u32,
    pub(super) regions: Vec<Placed>,
    /// INTx, MSI, MSI-X.
    pub(super) irqs: [u32; 3],
    /// Alarms that it has, and their numbers as interrupts.
    pub(super) alarms: Vec<Alarm>,
}

impl Facts {
    pub(super) fn ask(vfio: &Vfio, name: &str, opened: &Opened) -> Result<Self, OpenError> {
        let refused = |doing: &'static str| move |error| OpenError::refused(name, doing, error);
        let file = opened.file.as_fd();
        let mut answer = vfio_device_info::default();
        vfio.ioctls
            .call(file, Request::DeviceInfo(&mut answer))
            .map_err(refused("asking what it is"))?;
        if answer.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            let error = io::Error::other("VFIO says that it is no PCI device");
            return Err(OpenError::refused(name, "asking what it is", error));
        }
        let irqs = |index: u32| {
            let mut irq = vfio_irq_info {
                index,
                ..vfio_irq_info::default()
            };
            let known = index < answer.num_irqs
                && vfio.ioctls.call(file, Request::IrqInfo(&mut irq)).is_ok();
            if known { irq.count } else { 0 }
        };
        Ok(Self {
            flags: answer.flags,
            regions: regions::ask(vfio.ioctls.as_ref(), &opened.file, answer.num_regions)
                .map_err(refused("asking for its regions"))?,
            irqs: [IrqType::Intx, IrqType::Msi, IrqType::Msix]
                .map(|irq| irqs(interrupts::index(irq))),
            alarms: Alarm::ALL
                .into_iter()
                .filter(|alarm| irqs(alarm.index()) > 0)
                .collect(),
        })
    }

    /// What is otherwise than when the device was opened first, for a user; none if nothing is.
    pub(super) fn difference(&self, regions: &[Placed], irqs: [u32; 3]) -> Option<String> {
        let places = regions.iter().zip(&self.regions).zip(PLACES);
        for ((before, now), place) in places {
            let (had, has) = (before.region.size, now.region.size);
            if had != has {
                return Some(format!("its {place} has {has} bytes, and had {had}"));
            }
            if before != now {
                return Some(format!(
                    "its {place} is read, written or mapped otherwise than before"
                ));
            }
        }
        let types = irqs
            .into_iter()
            .zip(self.irqs)
            .zip(["INTx", "MSI", "MSI-X"]);
        let mut other = types.filter(|((had, has), _)| had != has);
        other
            .next()
            .map(|((had, has), name)| format!("it has {has} interrupts of {name}, and had {had}"))
    }
}

/// What the regions are called, in VFIO's order.
const PLACES: [&str; regions::COUNT as usize] = [
    "BAR 0",
    "BAR 1",
    "BAR 2",
    "BAR 3",
    "BAR 4",
    "BAR 5",
    "expansion ROM",
    "configuration space",
];
