//! The ioctls as the kernel has them.
#![allow(unsafe_code)] // Ioctls, and the descriptors that they return.

use std::ffi::{CStr, c_int, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

use iommufd_bindings as iommufd;
use vfio_bindings::bindings::vfio;
use vm_memory::VolatileSlice;
use vmm_sys_util::ioctl::{
    ioctl, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref, ioctl_with_val,
};

use super::{Ioctls, IovaRange, Record, Request};

/// Both families have their numbers under the same letter, without direction or size.
const fn number(offset: u32) -> c_ulong {
    ((vfio::VFIO_TYPE as c_ulong) << 8) | offset as c_ulong
}

const GET_API_VERSION: c_ulong = number(vfio::VFIO_BASE);
const CHECK_EXTENSION: c_ulong = number(vfio::VFIO_BASE + 1);
const SET_IOMMU: c_ulong = number(vfio::VFIO_BASE + 2);
const GROUP_GET_STATUS: c_ulong = number(vfio::VFIO_BASE + 3);
const GROUP_SET_CONTAINER: c_ulong = number(vfio::VFIO_BASE + 4);
const GROUP_GET_DEVICE_FD: c_ulong = number(vfio::VFIO_BASE + 6);
const DEVICE_GET_INFO: c_ulong = number(vfio::VFIO_BASE + 7);
const DEVICE_GET_REGION_INFO: c_ulong = number(vfio::VFIO_BASE + 8);
const DEVICE_GET_IRQ_INFO: c_ulong = number(vfio::VFIO_BASE + 9);
const DEVICE_SET_IRQS: c_ulong = number(vfio::VFIO_BASE + 10);
const DEVICE_RESET: c_ulong = number(vfio::VFIO_BASE + 11);
// The next two are of a device or of a container, by the file.
const DEVICE_GET_PCI_HOT_RESET_INFO: c_ulong = number(vfio::VFIO_BASE + 12);
const IOMMU_GET_INFO: c_ulong = number(vfio::VFIO_BASE + 12);
const DEVICE_PCI_HOT_RESET: c_ulong = number(vfio::VFIO_BASE + 13);
const IOMMU_MAP_DMA: c_ulong = number(vfio::VFIO_BASE + 13);
const DEVICE_BIND_IOMMUFD: c_ulong = number(vfio::VFIO_BASE + 18);
const DEVICE_ATTACH_IOMMUFD_PT: c_ulong = number(vfio::VFIO_BASE + 19);
const IOAS_ALLOC: c_ulong = number(iommufd::IOMMUFD_CMD_IOAS_ALLOC);
const IOAS_IOVA_RANGES: c_ulong = number(iommufd::IOMMUFD_CMD_IOAS_IOVA_RANGES);
const IOAS_MAP: c_ulong = number(iommufd::IOMMUFD_CMD_IOAS_MAP);

/// The kernel itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Ioctls for Kernel {
    fn call(&self, file: BorrowedFd<'_>, request: Request<'_>) -> io::Result<u32> {
        match request {
            Request::ApiVersion => plain(file, GET_API_VERSION),
            Request::Reset => plain(file, DEVICE_RESET),
            Request::HasExtension(number) => with_number(file, CHECK_EXTENSION, number),
            Request::SetIommu(kind) => with_number(file, SET_IOMMU, kind),
            Request::IommuInfo(record) => with_record(file, IOMMU_GET_INFO, record),
            Request::RegionInfo(record) => with_record(file, DEVICE_GET_REGION_INFO, record),
            Request::HotResetInfo(record) => {
                with_record(file, DEVICE_GET_PCI_HOT_RESET_INFO, record)
            }
            Request::SetIrqs(record) => reading_record(file, DEVICE_SET_IRQS, record),
            Request::HotReset(record) => reading_record(file, DEVICE_PCI_HOT_RESET, record),
            Request::GroupStatus(status) => {
                status.argsz = size_of_val(status) as u32;
                // SAFETY: the structure is this call's, and says its own size.
                returned(unsafe { ioctl_with_mut_ref(&file, GROUP_GET_STATUS, status) })
            }
            Request::DeviceInfo(answer) => {
                answer.argsz = size_of_val(answer) as u32;
                // SAFETY: as above.
                returned(unsafe { ioctl_with_mut_ref(&file, DEVICE_GET_INFO, answer) })
            }
            Request::IrqInfo(answer) => {
                answer.argsz = size_of_val(answer) as u32;
                // SAFETY: as above.
                returned(unsafe { ioctl_with_mut_ref(&file, DEVICE_GET_IRQ_INFO, answer) })
            }
            Request::SetContainer(container) => {
                let descriptor: c_int = container.as_raw_fd();
                // SAFETY: the call reads one descriptor, which is open.
                returned(unsafe { ioctl_with_ref(&file, GROUP_SET_CONTAINER, &descriptor) })
            }
            Request::MapDma { memory, iova } => map_dma(file, &memory, iova),
            Request::BindIommufd(iommufd) => bind(file, iommufd),
            Request::Attach { ioas } => attach(file, ioas),
            Request::IoasAlloc { ioas } => ioas_alloc(file, ioas),
            Request::IoasRanges { ioas, ranges } => ioas_ranges(file, ioas, ranges),
            Request::IoasMap { ioas, memory, iova } => ioas_map(file, ioas, &memory, iova),
        }
    }

    fn device(&self, group: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
        // SAFETY: the call reads a string that ends with 0.
        let descriptor = unsafe { ioctl_with_ptr(&group, GROUP_GET_DEVICE_FD, name.as_ptr()) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened it, for whoever asked.
        Ok(unsafe { File::from_raw_fd(descriptor) })
    }
}

fn returned(number: c_int) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

fn plain(file: BorrowedFd<'_>, request: c_ulong) -> io::Result<u32> {
    // SAFETY: these calls take no argument.
    returned(unsafe { ioctl(&file, request) })
}

fn with_number(file: BorrowedFd<'_>, request: c_ulong, value: u32) -> io::Result<u32> {
    // SAFETY: these calls take a number.
    returned(unsafe { ioctl_with_val(&file, request, c_ulong::from(value)) })
}

/// The kernel keeps to the size that a structure says it has: that must be no more than there is.
fn sized(record: &Record) -> io::Result<()> {
    if record.claimed_size() > record.bytes().len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(())
}

fn with_record(file: BorrowedFd<'_>, request: c_ulong, record: &mut Record) -> io::Result<u32> {
    sized(record)?;
    // SAFETY: the structure is this call's, and is as large as it says.
    returned(unsafe { ioctl_with_mut_ptr(&file, request, record.bytes_mut().as_mut_ptr()) })
}

fn reading_record(file: BorrowedFd<'_>, request: c_ulong, record: &Record) -> io::Result<u32> {
    sized(record)?;
    // SAFETY: the call reads the structure, which is as large as it says.
    returned(unsafe { ioctl_with_ptr(&file, request, record.bytes().as_ptr()) })
}

fn map_dma(file: BorrowedFd<'_>, memory: &VolatileSlice<'_>, iova: u64) -> io::Result<u32> {
    let range = vfio::vfio_iommu_type1_dma_map {
        argsz: size_of::<vfio::vfio_iommu_type1_dma_map>() as u32,
        flags: vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.ptr_guard_mut().as_ptr() as u64,
        iova,
        size: memory.len() as u64,
    };
    // SAFETY: the range is volatile memory that others may write to at any time. The kernel pins its pages: devices
    // write to those, and to no others, even after it was unmapped here.
    returned(unsafe { ioctl_with_ref(&file, IOMMU_MAP_DMA, &range) })
}

fn ioas_map(
    file: BorrowedFd<'_>,
    ioas: u32,
    memory: &VolatileSlice<'_>,
    iova: u64,
) -> io::Result<u32> {
    let mut range = iommufd::iommu_ioas_map {
        size: size_of::<iommufd::iommu_ioas_map>() as u32,
        flags: iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
        ioas_id: ioas,
        __reserved: 0,
        user_va: memory.ptr_guard_mut().as_ptr() as u64,
        length: memory.len() as u64,
        iova,
    };
    // SAFETY: as for `map_dma`.
    returned(unsafe { ioctl_with_mut_ref(&file, IOAS_MAP, &mut range) })
}

fn bind(file: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut argument = vfio::vfio_device_bind_iommufd {
        argsz: BIND_SIZE,
        flags: 0,
        iommufd: iommufd.as_raw_fd(),
        out_devid: 0,
        token_uuid_ptr: 0,
    };
    // SAFETY: the structure is this call's, and is larger than it says.
    returned(unsafe { ioctl_with_mut_ref(&file, DEVICE_BIND_IOMMUFD, &mut argument) })
}

/// Without the token, which kernels before 6.17 do not know.
const BIND_SIZE: u32 = 16;

fn attach(file: BorrowedFd<'_>, ioas: u32) -> io::Result<u32> {
    let mut argument = vfio::vfio_device_attach_iommufd_pt {
        argsz: ATTACH_SIZE,
        flags: 0,
        pt_id: ioas,
        pasid: 0,
    };
    // SAFETY: as above.
    returned(unsafe { ioctl_with_mut_ref(&file, DEVICE_ATTACH_IOMMUFD_PT, &mut argument) })
}

/// Without the PASID, which kernels before 6.15 do not know.
const ATTACH_SIZE: u32 = 12;

fn ioas_alloc(file: BorrowedFd<'_>, ioas: &mut u32) -> io::Result<u32> {
    let mut argument = iommufd::iommu_ioas_alloc {
        size: size_of::<iommufd::iommu_ioas_alloc>() as u32,
        flags: 0,
        out_ioas_id: 0,
    };
    // SAFETY: the structure is this call's, and says its own size.
    let answer = returned(unsafe { ioctl_with_mut_ref(&file, IOAS_ALLOC, &mut argument) })?;
    *ioas = argument.out_ioas_id;
    Ok(answer)
}

/// More ranges than platforms have holes.
const MAX_RANGES: usize = 256;

fn ioas_ranges(file: BorrowedFd<'_>, ioas: u32, ranges: &mut Vec<IovaRange>) -> io::Result<u32> {
    let mut found = vec![iommufd::iommu_iova_range { start: 0, last: 0 }; MAX_RANGES];
    let mut argument = iommufd::iommu_ioas_iova_ranges {
        size: size_of::<iommufd::iommu_ioas_iova_ranges>() as u32,
        ioas_id: ioas,
        num_iovas: MAX_RANGES as u32,
        __reserved: 0,
        allowed_iovas: found.as_mut_ptr() as u64,
        out_iova_alignment: 0,
    };
    // SAFETY: both structures are this call's; the kernel writes no more ranges than it is told there are.
    let answer = returned(unsafe { ioctl_with_mut_ref(&file, IOAS_IOVA_RANGES, &mut argument) })?;
    found.truncate(argument.num_iovas as usize);
    ranges.clear();
    ranges.extend(found.iter().map(|range| IovaRange {
        first: range.start,
        last: range.last,
    }));
    Ok(answer)
}
