//! What the kernel is asked for: one trait for the ioctls of VFIO and of iommufd, and for what else is done with
//! their files. Tests put one of their own before
//! [`Kernel`], so that calls fail or take their time as they want them to.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use rustix::process::{Resource, getrlimit};
use vfio_bindings::bindings::vfio::{
    vfio_device_info, vfio_group_status, vfio_iommu_type1_info_cap_iova_range, vfio_irq_info,
};
use vm_memory::VolatileSlice;

mod kernel;
mod record;

pub use kernel::Kernel;
pub use record::Record;

/// A range of I/O virtual addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first address.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// What an ioctl is asked for. Its answer, where it has one beside the returned number, is written into the argument.
#[derive(Debug)]
pub enum Request<'a> {
    /// `VFIO_GET_API_VERSION`, of a container.
    ApiVersion,
    /// `VFIO_CHECK_EXTENSION`, of a container.
    HasExtension(u32),
    /// `VFIO_SET_IOMMU`, of a container.
    SetIommu(u32),
    /// `VFIO_IOMMU_GET_INFO`, of a container: `vfio_iommu_type1_info` with capabilities.
    IommuInfo(&'a mut Record),
    /// `VFIO_IOMMU_MAP_DMA`, of a container, for reads and writes.
    MapDma {
        /// What is mapped; the kernel pins it.
        memory: VolatileSlice<'a>,
        /// Where devices find it.
        iova: u64,
    },
    /// `VFIO_GROUP_GET_STATUS`.
    GroupStatus(&'a mut vfio_group_status),
    /// `VFIO_GROUP_SET_CONTAINER`.
    SetContainer(BorrowedFd<'a>),
    /// `VFIO_DEVICE_GET_INFO`.
    DeviceInfo(&'a mut vfio_device_info),
    /// `VFIO_DEVICE_GET_REGION_INFO`: `vfio_region_info` with capabilities.
    RegionInfo(&'a mut Record),
    /// `VFIO_DEVICE_GET_IRQ_INFO`.
    IrqInfo(&'a mut vfio_irq_info),
    /// `VFIO_DEVICE_SET_IRQS`: `vfio_irq_set` with its data.
    SetIrqs(&'a Record),
    /// `VFIO_DEVICE_RESET`.
    Reset,
    /// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`: `vfio_pci_hot_reset_info` with its devices.
    HotResetInfo(&'a mut Record),
    /// `VFIO_DEVICE_PCI_HOT_RESET`: `vfio_pci_hot_reset` with its groups.
    HotReset(&'a Record),
    /// `VFIO_DEVICE_BIND_IOMMUFD`, of a device's own node.
    BindIommufd(BorrowedFd<'a>),
    /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`, of a device that is bound.
    Attach {
        /// The address space.
        ioas: u32,
    },
    /// `IOMMU_IOAS_ALLOC`, of iommufd: its answer is the number of the new address space.
    IoasAlloc {
        /// The number.
        ioas: &'a mut u32,
    },
    /// `IOMMU_IOAS_IOVA_RANGES`, of iommufd.
    IoasRanges {
        /// The address space.
        ioas: u32,
        /// What devices can reach.
        ranges: &'a mut Vec<IovaRange>,
    },
    /// `IOMMU_IOAS_MAP`, of iommufd, for reads and writes.
    IoasMap {
        /// The address space.
        ioas: u32,
        /// What is mapped; the kernel pins it.
        memory: VolatileSlice<'a>,
        /// Where devices find it.
        iova: u64,
    },
}

/// Asks the kernel.
pub trait Ioctls: Send + Sync {
    /// One ioctl of `file`. The number is what the kernel returned, 0 from most.
    ///
    /// # Errors
    /// The kernel's, as it gave it.
    fn call(&self, file: BorrowedFd<'_>, request: Request<'_>) -> io::Result<u32>;

    /// Opens a node of VFIO or of iommufd.
    ///
    /// # Errors
    /// The kernel's, as it gave it.
    fn open(&self, node: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(node)
    }

    /// Reads all of `data` from `at` on in a device's file.
    ///
    /// # Errors
    /// The kernel's, as it gave it.
    fn read(&self, file: &File, at: u64, data: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(data, at)
    }

    /// Writes all of `data` from `at` on to a device's file.
    ///
    /// # Errors
    /// The kernel's, as it gave it.
    fn write(&self, file: &File, at: u64, data: &[u8]) -> io::Result<()> {
        file.write_all_at(data, at)
    }

    /// How much memory the process may lock, in bytes; none is no limit.
    fn locked_memory_limit(&self) -> Option<u64> {
        getrlimit(Resource::Memlock).current
    }

    /// Has a thread of this name do `work`.
    ///
    /// # Errors
    /// The host has no thread to spare.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(work).map(drop)
    }

    /// `VFIO_GROUP_GET_DEVICE_FD`: opens the device `name` of a group.
    ///
    /// # Errors
    /// The kernel's, as it gave it.
    fn device(&self, group: BorrowedFd<'_>, name: &CStr) -> io::Result<File>;
}

/// Offset of the ranges in an `IOVA_RANGE` capability.
pub(crate) const IOVA_RANGES: usize = size_of::<vfio_iommu_type1_info_cap_iova_range>();
