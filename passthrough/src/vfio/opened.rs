//! What the machine has open of a device: its file, and the group or the address space that it is held by.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::warn;

use super::address_space::AddressSpace;
use super::interrupts;
use super::leave::Ending;
use crate::client::IrqType;

/// Is told which files of VFIO belong to the machine: KVM's VFIO device.
pub trait Assignment: Send + Sync {
    /// A group's file, or the file of a device that is opened by its own node, before the device is in use.
    ///
    /// # Errors
    /// The host refuses.
    fn add(&self, file: BorrowedFd<'_>) -> io::Result<()>;

    /// Forgets a file, which is about to be closed.
    ///
    /// # Errors
    /// The host refuses: the file stays open.
    fn remove(&self, file: BorrowedFd<'_>) -> io::Result<()>;
}

/// A group of the host that the machine has.
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) file: File,
    pub(super) assignment: Option<Arc<dyn Assignment>>,
    /// After the file: a container goes when its groups have.
    pub(super) _space: Arc<AddressSpace>,
}

impl Drop for Group {
    fn drop(&mut self) {
        forget(self.assignment.as_ref(), self.file.as_fd());
    }
}

/// By what a device is held.
pub(super) enum Hold {
    Group(Arc<Group>),
    Own {
        assignment: Option<Arc<dyn Assignment>>,
        _space: Arc<AddressSpace>,
    },
}

/// An open device. Its file goes before what holds it.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) hold: Hold,
    /// Interrupt types that are on, a bit each. They go with the file: one that is opened anew has none.
    on: AtomicU8,
    /// After the file and what holds it.
    ending: OnceLock<Ending>,
}

impl Opened {
    pub(super) fn new(file: File, hold: Hold) -> Self {
        Self {
            file,
            hold,
            on: AtomicU8::new(0),
            ending: OnceLock::new(),
        }
    }

    /// Has this dropped once the file is closed, by whoever uses it last.
    pub(super) fn ends_with(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    pub(super) fn is_on(&self, irq: IrqType) -> bool {
        self.on.load(Ordering::Acquire) & bit(irq) != 0
    }

    pub(super) fn note(&self, irq: IrqType, on: bool) {
        match on {
            true => self.on.fetch_or(bit(irq), Ordering::AcqRel),
            false => self.on.fetch_and(!bit(irq), Ordering::AcqRel),
        };
    }

    /// Its group, where it is held by that.
    pub(super) fn group(&self) -> Option<&Arc<Group>> {
        match &self.hold {
            Hold::Group(group) => Some(group),
            Hold::Own { .. } => None,
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Hold::Own { assignment, .. } = &self.hold {
            forget(assignment.as_ref(), self.file.as_fd());
        }
    }
}

fn bit(irq: IrqType) -> u8 {
    1 << interrupts::index(irq)
}

fn forget(assignment: Option<&Arc<dyn Assignment>>, file: BorrowedFd<'_>) {
    if let Some(Err(error)) = assignment.map(|assignment| assignment.remove(file)) {
        warn!("KVM keeps a file of VFIO that is not needed any more: {error}");
    }
}
