//! Opening a device: by its group in a container, or by its own node through iommufd.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use devices::lifecycle::Deadline;
use tracing::info;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU, vfio_group_status,
};

use super::address_space::AddressSpace;
use super::error::OpenError;
use super::ioctls::Request;
use super::opened::{Group, Hold, Opened};
use super::sysfs::HostDevice;
use super::{IommuBackend, Vfio};
use crate::naps::Naps;

/// How long a device may be in the hands of others for a moment: somebody resets it, or changes its driver. The kernel
/// puts whoever opens it off meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long the kernel is asked again for a device that it puts off. The time in which it is not asked, since another
/// device has its turn or memory is being mapped, does not count.
pub(super) struct Patience {
    left: Duration,
    /// Nothing is tried beyond this, whatever is left.
    limit: Option<Deadline>,
}

impl Patience {
    pub(super) fn new(left: Duration, limit: Option<Deadline>) -> Self {
        Self { left, limit }
    }

    /// Asks again as long as the kernel puts it off, once at least.
    fn until_taken<T>(&mut self, mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let own = Deadline::after(self.left);
        let by = self.limit.map_or(own, |limit| limit.min(own));
        let mut naps = Naps::default();
        let ended = loop {
            match ask() {
                Err(error)
                    if error.raw_os_error() == Some(libc::EAGAIN) && naps.sleep_before(by) => {}
                ended => break ended,
            }
        };
        self.left = own.remaining();
        ended
    }
}

impl Vfio {
    /// Opens the device, after its driver and its group were looked at.
    pub(super) fn open_device(
        &self,
        device: &HostDevice,
        patience: &mut Patience,
    ) -> Result<Opened, OpenError> {
        let number = self.roots.check(device)?;
        let name = device.path.to_string();
        let iommu = self.roots.dev.join("iommu");
        let node = match self.host.backend {
            IommuBackend::Group => None,
            IommuBackend::Auto => device.node.as_ref().filter(|_| iommu.exists()),
            IommuBackend::Iommufd => Some(device.node.as_ref().ok_or(OpenError::NoNode {
                device: name.clone(),
                node: "/dev/vfio/devices".to_owned(),
                hint: "the kernel has no device nodes for iommufd (CONFIG_VFIO_DEVICE_CDEV, Linux 6.6); set the \
                       backend to group or auto",
            })?),
        };
        match node {
            Some(node) => self.open_node(&name, node, &iommu, patience),
            None => self.open_in_group(&name, number, patience),
        }
    }

    fn open_in_group(
        &self,
        device: &str,
        number: u32,
        patience: &mut Patience,
    ) -> Result<Opened, OpenError> {
        let group = self.group(device, number, patience)?;
        let name = CString::new(device)
            .map_err(|error| OpenError::refused(device, "opening it", error.into()))?;
        let file = patience
            .until_taken(|| self.ioctls.device(group.file.as_fd(), &name))
            .map_err(|error| OpenError::opening(device, &node_of(number), error))?;
        Ok(Opened::new(file, Hold::Group(group)))
    }

    /// The group, in the machine's container.
    fn group(
        &self,
        device: &str,
        number: u32,
        patience: &mut Patience,
    ) -> Result<Arc<Group>, OpenError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = self
            .groups()
            .into_iter()
            .find(|group| group.number == number)
        {
            return Ok(group);
        }
        let path = self.roots.dev.join("vfio").join(number.to_string());
        let file = patience
            .until_taken(|| self.ioctls.open(&path))
            .map_err(|error| OpenError::opening(device, &node_of(number), error))?;
        let mut status = vfio_group_status::default();
        let doing = "asking for its IOMMU group's state";
        self.ask(
            device,
            doing,
            file.as_fd(),
            Request::GroupStatus(&mut status),
        )?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            self.roots.check_group(device, number)?;
            let error = io::Error::from_raw_os_error(libc::EPERM);
            let doing = format!("the kernel calls its IOMMU group {number} not viable");
            return Err(OpenError::refused(device, doing, error));
        }
        let existing = self.shared().space.upgrade();
        let space = match &existing {
            Some(space) => space.clone(),
            None => Arc::new(self.container(device)?),
        };
        self.ioctls
            .call(file.as_fd(), Request::SetContainer(space.as_fd()))
            .map_err(|error| self.not_taken(device, number, error))?;
        if existing.is_none() {
            let request = Request::SetIommu(VFIO_TYPE1v2_IOMMU);
            self.ask(device, "setting up the IOMMU", space.as_fd(), request)?;
            self.map_memory(device, &space)?;
        } else {
            space.check_reach(device, &self.host.memory)?;
        }
        self.assign(device, file.as_fd())?;
        let group = Arc::new(Group {
            number,
            file,
            assignment: self.host.assignment.clone(),
            _space: space,
        });
        let mut shared = self.shared();
        shared.groups.retain(|group| group.strong_count() > 0);
        shared.groups.push(Arc::downgrade(&group));
        Ok(group)
    }

    /// Since Linux 6.0 it is only now that the kernel looks at who uses the group.
    fn not_taken(&self, device: &str, number: u32, error: io::Error) -> OpenError {
        if let Err(not_viable) = self.roots.check_group(device, number) {
            return not_viable;
        }
        if error.raw_os_error() == Some(libc::EBUSY) {
            return OpenError::opening(device, &node_of(number), error);
        }
        let doing = format!("taking its IOMMU group {number} into the machine's container");
        OpenError::refused(device, doing, error)
    }

    fn container(&self, device: &str) -> Result<AddressSpace, OpenError> {
        let file = self
            .ioctls
            .open(&self.roots.dev.join("vfio/vfio"))
            .map_err(|error| OpenError::opening(device, "/dev/vfio/vfio", error))?;
        let version = self.ask(
            device,
            "asking for the version of VFIO",
            file.as_fd(),
            Request::ApiVersion,
        )?;
        if version != VFIO_API_VERSION {
            let error = io::Error::other(format!("version {version} of VFIO, not 0"));
            return Err(OpenError::refused(device, "opening a container", error));
        }
        let extension = Request::HasExtension(VFIO_TYPE1v2_IOMMU);
        if self.ask(
            device,
            "asking for the kinds of IOMMU",
            file.as_fd(),
            extension,
        )? == 0
        {
            return Err(OpenError::NoNode {
                device: device.to_owned(),
                node: "VFIO's driver for the IOMMU".to_owned(),
                hint: "load it, as root: `modprobe vfio_iommu_type1`",
            });
        }
        Ok(AddressSpace::container(self.ioctls.clone(), file))
    }

    fn open_node(
        &self,
        device: &str,
        node: &Path,
        iommu: &Path,
        patience: &mut Patience,
    ) -> Result<Opened, OpenError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = self.shared().space.upgrade();
        // The first one maps guest memory, and the others wait for that; they open their devices side by side.
        let turn = existing.is_none().then_some(turn);
        let space = match &existing {
            Some(space) => space.clone(),
            None => Arc::new(self.iommufd(device, iommu)?),
        };
        let shown = node.display().to_string();
        let file = patience
            .until_taken(|| self.ioctls.open(node))
            .map_err(|error| OpenError::opening(device, &shown, error))?;
        self.assign(device, file.as_fd())?;
        let hold = Hold::Own {
            assignment: self.host.assignment.clone(),
            _space: space.clone(),
        };
        let opened = Opened::new(file, hold);
        let bind = || {
            let request = Request::BindIommufd(space.as_fd());
            self.ioctls.call(opened.file.as_fd(), request)
        };
        patience
            .until_taken(bind)
            .map_err(|error| match error.raw_os_error() {
                // What the kernel answers where the device is open already.
                Some(libc::EBUSY | libc::EINVAL) => OpenError::Busy {
                    device: device.to_owned(),
                    node: shown,
                },
                Some(libc::EAGAIN) => OpenError::opening(device, &shown, error),
                _ => OpenError::refused(device, "binding it to iommufd", error),
            })?;
        if let Some(ioas) = space.ioas() {
            let request = Request::Attach { ioas };
            self.ask(
                device,
                "attaching it to guest memory",
                opened.file.as_fd(),
                request,
            )?;
        }
        match turn {
            Some(_turn) => self.map_memory(device, &space)?,
            None => space.check_reach(device, &self.host.memory)?,
        }
        Ok(opened)
    }

    fn iommufd(&self, device: &str, iommu: &Path) -> Result<AddressSpace, OpenError> {
        let file = self
            .ioctls
            .open(iommu)
            .map_err(|error| OpenError::opening(device, "/dev/iommu", error))?;
        AddressSpace::iommufd(self.ioctls.clone(), file)
            .map_err(|error| OpenError::refused(device, "asking for an address space", error))
    }

    /// Maps guest memory into a new address space, and has other devices find it.
    fn map_memory(&self, device: &str, space: &Arc<AddressSpace>) -> Result<(), OpenError> {
        let interface = if space.ioas().is_some() {
            "iommufd"
        } else {
            "group"
        };
        info!(
            device,
            interface, "the machine's devices are opened through VFIO"
        );
        let mut tally = self.dma();
        let mapped = space.map(device, &self.host.memory, &mut tally);
        let mut shared = self.shared();
        shared.tally = tally;
        if mapped.is_ok() {
            shared.space = Arc::downgrade(space);
        }
        mapped
    }

    fn assign(&self, device: &str, file: BorrowedFd<'_>) -> Result<(), OpenError> {
        match &self.host.assignment {
            Some(assignment) => assignment
                .add(file)
                .map_err(|error| OpenError::refused(device, "giving it to KVM", error)),
            None => Ok(()),
        }
    }

    fn ask(
        &self,
        device: &str,
        doing: &str,
        file: BorrowedFd<'_>,
        request: Request<'_>,
    ) -> Result<u32, OpenError> {
        self.ioctls
            .call(file, request)
            .map_err(|error| OpenError::refused(device, doing, error))
    }

    /// The groups that the machine has.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        let shared = self.shared();
        shared.groups.iter().filter_map(Weak::upgrade).collect()
    }
}

fn node_of(group: u32) -> String {
    format!("/dev/vfio/{group}")
}
