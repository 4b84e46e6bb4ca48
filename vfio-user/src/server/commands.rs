//! What each command of a client comes to.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::{Device, IrqRequest, MOST_DESCRIPTORS, MOST_MAPS, MapRequest, Region, UnmapRequest};
use crate::protocol::{
    Capabilities, DEFAULT_TRANSFER, DeviceInfo, DmaMap, DmaUnmap, IoEventFd, IrqInfo, IrqSet,
    RegionAccess, RegionInfo, RegionIoFds, SmallWrite, SparseMmap, WriteMulti, command,
    device_flag, irq, map_flag, region, region_flag, unmap_flag,
};
use crate::wire::{Message, split};

/// What the server states in VERSION.
pub(super) fn capabilities() -> Capabilities {
    Capabilities {
        max_msg_fds: Some(MOST_DESCRIPTORS),
        max_data_xfer_size: Some(DEFAULT_TRANSFER),
        max_dma_maps: Some(MOST_MAPS),
        pgsizes: Some(4096),
        write_multiple: Some(true),
    }
}

/// A reply's payload, and what goes with it.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) payload: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl From<Vec<u8>> for Reply {
    fn from(payload: Vec<u8>) -> Self {
        Self {
            payload,
            descriptors: Vec::new(),
        }
    }
}

/// Executes a command other than VERSION and DMA_UNMAP of a client that takes so many `descriptors` in a message.
pub(super) fn execute(
    device: &dyn Device,
    message: Message,
    descriptors_taken: u32,
) -> Result<Reply, Errno> {
    let Message {
        header,
        payload,
        descriptors,
    } = message;
    let payload = payload.as_slice();
    match header.command {
        command::DMA_MAP => map(device, payload, descriptors),
        command::DEVICE_GET_INFO => device_info(payload),
        command::DEVICE_GET_REGION_INFO => region_info(device, payload),
        command::DEVICE_GET_REGION_IO_FDS => region_io_fds(device, payload, descriptors_taken),
        command::DEVICE_GET_IRQ_INFO => irq_info(device, payload),
        command::DEVICE_SET_IRQS => set_irqs(device, payload, descriptors),
        command::REGION_READ => read(device, payload),
        command::REGION_WRITE => write(device, payload),
        command::REGION_WRITE_MULTI => write_multi(device, payload),
        command::DEVICE_RESET if payload.is_empty() => device.reset().map(|()| Reply::default()),
        command::DEVICE_RESET => Err(Errno::INVAL),
        _ => Err(Errno::NOTSUP),
    }
}

/// The layout that is the whole payload.
fn whole<T: FromBytes>(payload: &[u8]) -> Result<T, Errno> {
    T::read_from_bytes(payload).map_err(|_| Errno::INVAL)
}

/// The layout that a payload begins with; later versions may make it longer.
fn first<T: FromBytes>(payload: &[u8]) -> Result<(T, &[u8]), Errno> {
    split(payload).ok_or(Errno::INVAL)
}

fn map(device: &dyn Device, payload: &[u8], descriptors: Vec<OwnedFd>) -> Result<Reply, Errno> {
    let map: DmaMap = whole(payload)?;
    let known = map_flag::READ | map_flag::WRITE;
    let last = map
        .size
        .checked_sub(1)
        .and_then(|more| map.address.checked_add(more));
    if map.flags & !known != 0 || last.is_none() || descriptors.len() > 1 {
        return Err(Errno::INVAL);
    }
    let file = descriptors.into_iter().next();
    device.map(MapRequest { map, file })?;
    Ok(Reply::default())
}

/// What DMA_UNMAP asks for.
pub(super) fn unmap_request(payload: &[u8]) -> Result<UnmapRequest, Errno> {
    let (unmap, _): (DmaUnmap, _) = first(payload)?;
    match unmap.flags {
        0 if unmap.size > 0 => Ok(UnmapRequest::Range(unmap.address, unmap.size)),
        unmap_flag::ALL if unmap.address == 0 && unmap.size == 0 => Ok(UnmapRequest::All),
        flags if flags & unmap_flag::GET_DIRTY_BITMAP != 0 => Err(Errno::NOTSUP),
        _ => Err(Errno::INVAL),
    }
}

fn device_info(payload: &[u8]) -> Result<Reply, Errno> {
    let (asked, _): (DeviceInfo, _) = first(payload)?;
    let argsz = size_of::<DeviceInfo>() as u32;
    if asked.argsz < argsz {
        return Err(Errno::INVAL);
    }
    let info = DeviceInfo {
        argsz,
        flags: device_flag::RESET | device_flag::PCI,
        regions: region::COUNT,
        irqs: irq::COUNT,
    };
    Ok(info.as_bytes().to_vec().into())
}

fn region_info(device: &dyn Device, payload: &[u8]) -> Result<Reply, Errno> {
    let (asked, _): (RegionInfo, _) = first(payload)?;
    let fixed = size_of::<RegionInfo>() as u32;
    if asked.argsz < fixed || asked.index >= region::COUNT {
        return Err(Errno::INVAL);
    }
    let Region {
        size,
        flags,
        file,
        areas,
    } = device.region(asked.index);
    let mut info = RegionInfo {
        argsz: fixed,
        flags,
        index: asked.index,
        cap_offset: 0,
        size,
        offset: 0,
    };
    let Some(file) = file else {
        return Ok(info.as_bytes().to_vec().into());
    };
    info.flags |= region_flag::MMAP | region_flag::CAPS;
    info.argsz += (size_of::<SparseMmap>() + areas.as_bytes().len()) as u32;
    // Also in a reply that is cut short: QEMU refuses one with the flag and no place.
    info.cap_offset = fixed;
    if asked.argsz < info.argsz {
        // Says how much it would be; the client asks again.
        return Ok(info.as_bytes().to_vec().into());
    }
    let sparse = SparseMmap {
        id: SparseMmap::ID,
        version: 1,
        next: 0,
        areas: areas.len() as u32,
        reserved: 0,
    };
    Ok(Reply {
        payload: [info.as_bytes(), sparse.as_bytes(), areas.as_bytes()].concat(),
        descriptors: vec![file.try_clone_to_owned().map_err(errno_of)?],
    })
}

fn region_io_fds(device: &dyn Device, payload: &[u8], taken: u32) -> Result<Reply, Errno> {
    let (asked, _): (RegionIoFds, _) = first(payload)?;
    let fixed = size_of::<RegionIoFds>();
    if (asked.argsz as usize) < fixed || asked.flags != 0 || asked.index >= region::COUNT {
        return Err(Errno::INVAL);
    }
    // No more than a message can carry to this client; what is left out is written as ever.
    let mut events = device.io_events(asked.index);
    events.truncate(taken.min(MOST_DESCRIPTORS) as usize);
    let needed = fixed + events.len() * size_of::<IoEventFd>();
    let mut reply = RegionIoFds {
        argsz: needed as u32,
        flags: 0,
        index: asked.index,
        count: events.len() as u32,
    };
    if (asked.argsz as usize) < needed {
        reply.count = 0;
        return Ok(reply.as_bytes().to_vec().into());
    }
    let entries: Vec<_> = (0..)
        .zip(&events)
        .map(|(fd_index, event)| IoEventFd {
            offset: event.offset,
            size: event.size,
            fd_index,
            kind: 0,
            flags: 0,
            padding: 0,
            datamatch: 0,
        })
        .collect();
    Ok(Reply {
        payload: [reply.as_bytes(), entries.as_bytes()].concat(),
        descriptors: events.into_iter().map(|event| event.event).collect(),
    })
}

fn irq_info(device: &dyn Device, payload: &[u8]) -> Result<Reply, Errno> {
    let (asked, _): (IrqInfo, _) = first(payload)?;
    let argsz = size_of::<IrqInfo>() as u32;
    if asked.argsz < argsz || asked.index >= irq::COUNT {
        return Err(Errno::INVAL);
    }
    let (flags, count) = device.irqs(asked.index);
    let info = IrqInfo {
        argsz,
        flags,
        index: asked.index,
        count,
    };
    Ok(info.as_bytes().to_vec().into())
}

fn set_irqs(
    device: &dyn Device,
    payload: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<Reply, Errno> {
    let (set, rest): (IrqSet, _) = first(payload)?;
    if set.index >= irq::COUNT {
        return Err(Errno::INVAL);
    }
    let (_, available) = device.irqs(set.index);
    device.set_irqs(IrqRequest::parse(&set, rest, descriptors, available)?)?;
    Ok(Reply::default())
}

/// Refuses what is not all inside its region.
fn check(device: &dyn Device, access: &RegionAccess) -> Result<(), Errno> {
    if access.region >= region::COUNT || access.count > DEFAULT_TRANSFER {
        return Err(Errno::INVAL);
    }
    let end = access.offset.checked_add(access.count.into());
    match end {
        Some(end) if end <= device.region(access.region).size => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

fn read(device: &dyn Device, payload: &[u8]) -> Result<Reply, Errno> {
    let access: RegionAccess = whole(payload)?;
    check(device, &access)?;
    let mut reply = payload.to_vec();
    reply.resize(payload.len() + access.count as usize, 0);
    device.read(access.region, access.offset, &mut reply[payload.len()..])?;
    Ok(reply.into())
}

fn write(device: &dyn Device, payload: &[u8]) -> Result<Reply, Errno> {
    let (access, data): (RegionAccess, _) = first(payload)?;
    if data.len() != access.count as usize {
        return Err(Errno::INVAL);
    }
    check(device, &access)?;
    device.write(access.region, access.offset, data)?;
    Ok(access.as_bytes().to_vec().into())
}

fn write_multi(device: &dyn Device, payload: &[u8]) -> Result<Reply, Errno> {
    let (multi, rest): (WriteMulti, _) = first(payload)?;
    let (writes, []) = rest.as_chunks::<{ size_of::<SmallWrite>() }>() else {
        return Err(Errno::INVAL);
    };
    if writes.len() as u64 != multi.count {
        return Err(Errno::INVAL);
    }
    for raw in writes {
        let write: SmallWrite = whole(raw)?;
        let data = write.data.get(..write.count as usize).ok_or(Errno::INVAL)?;
        let access = RegionAccess {
            offset: write.offset,
            region: write.region,
            count: write.count,
        };
        check(device, &access)?;
        device.write(write.region, write.offset, data)?;
    }
    Ok(multi.as_bytes().to_vec().into())
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl Reply {
    /// The descriptors as they are sent.
    pub(super) fn borrowed(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}
