//! Devices of the host, handed out by its kernel: VFIO.
//!
//! [`Vfio`] is what a machine's devices share, first of all guest memory that is mapped for DMA; it opens
//! [`VfioDevice`]s, which are the [`crate::client::Client`]s of the kernel. All that the kernel is asked for goes
//! through [`ioctls::Ioctls`].
//!
//! A reset that hangs in the kernel cannot be called off: the thread that asked for it stays there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vm_memory::GuestMemoryMmap;

mod address_space;
mod alarms;
mod device;
mod error;
mod facts;
mod host_path;
mod interrupts;
pub mod ioctls;
mod leave;
mod mappings;
mod opened;
mod opening;
mod regions;
mod reset;
mod sysfs;
#[cfg(test)]
mod tests;

pub use address_space::DmaTally;
pub use device::VfioDevice;
pub use error::OpenError;
pub use host_path::{HostPath, HostPathError};
pub use opened::Assignment;
pub use reset::{ResetSet, UnfinishedReset};
pub use sysfs::{HostDevice, Roots};

use crate::client::{Client, Observer};
use address_space::AddressSpace;
use alarms::Alarms;
use ioctls::{Ioctls, Kernel};
use opened::Group;
use opening::Patience;
use reset::SharedReset;

/// Which of the kernel's two interfaces the devices of a machine are opened by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IommuBackend {
    /// iommufd where kernel and device have it, else groups.
    #[default]
    Auto,
    /// Groups in a container.
    Group,
    /// Devices' own nodes, and iommufd.
    Iommufd,
}

/// What a machine gives its devices.
pub struct VfioHost {
    /// Guest memory. All of it is mapped for DMA when the first device is opened.
    pub memory: GuestMemoryMmap<()>,
    /// How devices are opened.
    pub backend: IommuBackend,
    /// Who has to know of devices: KVM.
    pub assignment: Option<Arc<dyn Assignment>>,
}

/// What the devices of one machine share.
pub struct Vfio {
    /// Itself, for its devices.
    this: Weak<Vfio>,
    host: VfioHost,
    ioctls: Arc<dyn Ioctls>,
    roots: Roots,
    /// Held by whoever changes what is shared, over calls that block. Nobody else takes it.
    turn: Mutex<()>,
    shared: Mutex<Shared>,
    alarms: Alarms,
}

/// A leaf lock: held for a look, never over a call.
#[derive(Default)]
struct Shared {
    space: Weak<AddressSpace>,
    groups: Vec<Weak<Group>>,
    devices: Vec<Weak<VfioDevice>>,
    sets: Vec<Weak<SharedReset>>,
    tally: DmaTally,
}

impl Vfio {
    /// What devices of one machine will share. Opens nothing yet.
    pub fn new(host: VfioHost) -> Arc<Self> {
        Self::with_kernel(host, Arc::new(Kernel), Roots::default())
    }

    /// The same on a kernel, and a host's files, that are given: for tests.
    pub fn with_kernel(host: VfioHost, ioctls: Arc<dyn Ioctls>, roots: Roots) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            host,
            ioctls,
            roots,
            turn: Mutex::default(),
            shared: Mutex::default(),
            alarms: Alarms::default(),
        })
    }

    /// Opens a device, and with the first one maps guest memory for DMA. `observer` is told when the host takes the
    /// device back.
    ///
    /// # Errors
    /// What keeps the device from being passed through, and what mends it.
    pub fn open(
        &self,
        path: &HostPath,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<VfioDevice>, OpenError> {
        self.open_with(path, observer, Patience::new(opening::PATIENCE, None))
    }

    /// The same with another patience.
    fn open_with(
        &self,
        path: &HostPath,
        observer: Arc<dyn Observer>,
        mut patience: Patience,
    ) -> Result<Arc<VfioDevice>, OpenError> {
        let found = self.roots.look_up(*path)?;
        // The kernel opens a device of a group as often as it is asked to.
        let mut here = self.devices().into_iter();
        if here.any(|device| device.found.path == *path && device.gone().is_none()) {
            let error = std::io::Error::from_raw_os_error(libc::EBUSY);
            return Err(OpenError::refused(
                &path.to_string(),
                "this machine has it already",
                error,
            ));
        }
        let opened = self.open_device(&found, &mut patience)?;
        // It is called through an `Arc` of its own, which is still there.
        let Some(vfio) = self.this.upgrade() else {
            let error = std::io::Error::from_raw_os_error(libc::ESHUTDOWN);
            return Err(OpenError::refused(&path.to_string(), "opening it", error));
        };
        let device = VfioDevice::new(vfio, found, opened, observer)?;
        let mut shared = self.shared();
        shared.devices.retain(|device| device.strong_count() > 0);
        shared.devices.push(Arc::downgrade(&device));
        Ok(device)
    }

    /// Says whether all devices can be reset, given those that are open now. To be asked when all devices of the
    /// machine are open: until then, those that are reset with others may lack them.
    ///
    /// # Errors
    /// A device is reset together with others that are not all this machine's.
    pub fn check_reset_sets(&self) -> Result<(), OpenError> {
        for device in self.devices() {
            device.check_reset_set()?;
        }
        Ok(())
    }

    /// The sets whose reset was begun and not finished since this was last asked: a member was given up before its
    /// turn, or is gone, or the hot reset failed or has not ended. Those of their members that ended well in the
    /// teardown were not reset, or are in no defined state: the guest must not have them. Each is named as
    /// [`Client::name`] has it. A set that was reset is not among them, nor one that nobody came to.
    ///
    /// To be asked once after each teardown, with its devices at rest still: asking ends the round, and the next
    /// teardown begins anew. Never blocks.
    pub fn unfinished_resets(&self) -> Vec<UnfinishedReset> {
        let sets: Vec<_> = {
            let shared = self.shared();
            shared.sets.iter().filter_map(Weak::upgrade).collect()
        };
        let devices = self.devices();
        let missing = |path| {
            let device = devices.iter().find(|device| device.found.path == path)?;
            Some(match device.gone() {
                Some(reason) => format!("{path} is gone ({reason})"),
                None => format!("{path} did not get to its reset"),
            })
        };
        let unfinished = sets.iter().filter_map(|set| set.take_unfinished(missing));
        unfinished.collect()
    }

    /// What mapping guest memory for DMA took.
    pub fn dma(&self) -> DmaTally {
        self.shared().tally
    }

    /// The devices that are open.
    fn devices(&self) -> Vec<Arc<VfioDevice>> {
        let shared = self.shared();
        shared.devices.iter().filter_map(Weak::upgrade).collect()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
