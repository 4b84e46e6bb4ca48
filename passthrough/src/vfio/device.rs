//! A device of the host that the machine has opened.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwapOption;

use super::Vfio;
use super::error::OpenError;
use super::facts::Facts;
use super::ioctls::{Record, Request};
use super::mappings::Mappings;
use super::opened::Opened;
use super::regions::Placed;
use super::reset::{ResetMethod, ResetSet};
use super::sysfs::HostDevice;
use crate::client::{Client, ClientError, Observer};

mod calls;

/// Command register (PCI 3.0, 6.2.2).
pub(super) const COMMAND: u64 = 0x04;
pub(super) const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// A device of the host, behind VFIO.
///
/// When the host wants it back, because its driver is being unbound, it is gone from then on: what was mapped of it
/// reads as all-ones, and its descriptors are closed as soon as no call uses them. Until then the host waits.
pub struct VfioDevice {
    pub(super) this: Weak<VfioDevice>,
    pub(super) vfio: Arc<Vfio>,
    pub(super) found: HostDevice,
    pub(super) name: String,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) regions: Vec<Placed>,
    /// INTx, MSI, MSI-X.
    pub(super) irqs: [u32; 3],
    pub(super) opened: ArcSwapOption<Opened>,
    /// How often it was opened.
    pub(super) sessions: AtomicU64,
    /// Why it is gone.
    pub(super) reason: ArcSwapOption<String>,
    /// It cannot write to memory any more.
    pub(super) quiet: AtomicBool,
    /// Files of it that are about to be closed.
    pub(super) closing: AtomicU32,
    pub(super) method: ResetMethod,
    pub(super) mappings: Mappings,
    /// What the alarms of this device are known by.
    pub(super) alarms: Mutex<Vec<u64>>,
}

impl VfioDevice {
    pub(super) fn new(
        vfio: Arc<Vfio>,
        found: HostDevice,
        opened: Opened,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, OpenError> {
        let name = found.path.to_string();
        let facts = Facts::ask(&vfio, &name, &opened)?;
        let method = vfio.reset_method(&found, facts.flags, &opened)?;
        let device = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            vfio,
            found,
            name,
            observer,
            regions: facts.regions,
            irqs: facts.irqs,
            opened: ArcSwapOption::from_pointee(opened),
            sessions: AtomicU64::new(1),
            reason: ArcSwapOption::empty(),
            quiet: AtomicBool::new(false),
            closing: AtomicU32::new(0),
            method,
            mappings: Mappings::default(),
            alarms: Mutex::default(),
        });
        device.watch(&facts.alarms);
        Ok(device)
    }

    /// The functions that it is reset together with, itself included; none where it is reset by itself.
    pub fn reset_set(&self) -> Option<ResetSet> {
        self.method.set()
    }

    /// What the host says of it, when it was opened.
    pub fn host_device(&self) -> &HostDevice {
        &self.found
    }

    /// The device's file, for as long as it is used.
    pub(super) fn opened(&self) -> Result<Arc<Opened>, ClientError> {
        self.opened.load_full().ok_or_else(|| ClientError::Gone {
            device: self.name.clone(),
            reason: self.gone().unwrap_or_else(|| "it is closed".to_owned()),
        })
    }

    pub(super) fn refused(&self, doing: impl Into<String>, source: io::Error) -> ClientError {
        ClientError::Refused {
            device: self.name.clone(),
            doing: doing.into(),
            source,
        }
    }

    /// What an access or a reset failed with. Where the kernel has no device behind the file any more, that is the end
    /// of it. Of interrupts it says the same where a pin leads nowhere.
    pub(super) fn failed(&self, doing: impl Into<String>, source: io::Error) -> ClientError {
        if source.raw_os_error() != Some(libc::ENODEV) {
            return self.refused(doing, source);
        }
        let doing = doing.into();
        self.leave(&format!("it is not there any more: {doing}: {source}"));
        ClientError::Gone {
            device: self.name.clone(),
            reason: self.gone().unwrap_or(doing),
        }
    }

    pub(super) fn set_irqs(&self, opened: &Opened, record: &Record) -> io::Result<()> {
        let request = Request::SetIrqs(record);
        match self.vfio.ioctls.call(opened.file.as_fd(), request)? {
            0 => Ok(()),
            vectors => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the host has {vectors} interrupt vectors for it, and it needs all of its own"
                ),
            )),
        }
    }

    /// Where a part of a region is in the device's file. All of it has to be inside.
    fn place(&self, region: u32, offset: u64, length: usize) -> io::Result<u64> {
        let placed = self.regions.get(region as usize);
        placed
            .filter(|placed| {
                let end = offset.checked_add(length as u64);
                end.is_some_and(|end| end <= placed.region.size)
            })
            .map(|placed| placed.at + offset)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}

impl Drop for VfioDevice {
    fn drop(&mut self) {
        self.close();
    }
}
