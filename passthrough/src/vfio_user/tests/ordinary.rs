//! What a good server answers.

use std::fs::File;
use std::os::fd::OwnedFd;

use vfio_user::protocol::*;
use vfio_user::wire::Message;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::played::Shared;

/// Bytes of BAR 0.
pub const BAR: u64 = 0x4000;

/// Configuration space of an NVMe controller of some vendor, with MSI, MSI-X, and a list that has no end.
pub fn config() -> Vec<u8> {
    let mut config = vec![0; 256];
    config[..4].copy_from_slice(&[0x34, 0x12, 0x78, 0x56]);
    config[8..12].copy_from_slice(&[1, 2, 8, 1]);
    config[6] = 1 << 4;
    config[0x34] = 0x40;
    config[0x40..0x42].copy_from_slice(&[0x05, 0x50]);
    config[0x50..0x52].copy_from_slice(&[0x11, 0x40]);
    config
}

/// What a good server does and answers.
pub fn ordinary(message: Message, shared: &Shared, earlier: usize) -> (Vec<u8>, Vec<OwnedFd>) {
    let Message {
        header,
        payload,
        descriptors,
    } = message;
    let mut notes = shared.notes.lock().unwrap();
    notes.commands.push(header.command);
    let reply = match header.command {
        command::VERSION => {
            let version = Version { major: 0, minor: 1 };
            Proposal {
                version,
                capabilities: Some(shared.stated),
            }
            .to_payload()
        }
        command::DMA_MAP => {
            let map = DmaMap::read_from_bytes(&payload).unwrap();
            let file = descriptors.into_iter().next().map(File::from);
            notes.maps.push((earlier, map, file));
            Vec::new()
        }
        command::DEVICE_GET_INFO => device().as_bytes().to_vec(),
        command::DEVICE_GET_REGION_INFO => {
            let asked = RegionInfo::read_from_bytes(&payload).unwrap();
            region_info(asked.index).as_bytes().to_vec()
        }
        command::DEVICE_GET_IRQ_INFO => {
            let mut info = IrqInfo::read_from_bytes(&payload).unwrap();
            (info.flags, info.count) = (1, [1, 4, 10][info.index as usize]);
            info.as_bytes().to_vec()
        }
        command::DEVICE_SET_IRQS => {
            let set = IrqSet::read_from_bytes(&payload).unwrap();
            let unmask = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_UNMASK;
            if (set.flags, set.index == irq::INTX) == (unmask, false) {
                notes.unmasked.push((set.index, set.start, set.count));
            } else {
                notes.irqs.push((set, descriptors, header.wants_no_reply()));
            }
            Vec::new()
        }
        command::REGION_READ => {
            let access = RegionAccess::read_from_bytes(&payload).unwrap();
            let range = access.offset as usize..(access.offset + u64::from(access.count)) as usize;
            let data = match access.region {
                region::CONFIG => config()[range].to_vec(),
                _ => notes.bar[range].to_vec(),
            };
            [payload, data].concat()
        }
        command::REGION_WRITE => {
            let (access, data) = RegionAccess::read_from_prefix(&payload).unwrap();
            if access.region == region::BAR0 {
                let at = access.offset as usize;
                notes.bar[at..at + data.len()].copy_from_slice(data);
            }
            let quiet = header.wants_no_reply();
            notes.writes.push((access, data.to_vec(), quiet));
            access.as_bytes().to_vec()
        }
        command::DEVICE_RESET => {
            notes.resets += 1;
            Vec::new()
        }
        other => panic!("command {other}"),
    };
    (reply, Vec::new())
}

pub fn device() -> DeviceInfo {
    DeviceInfo {
        argsz: 16,
        flags: device_flag::RESET | device_flag::PCI,
        regions: region::COUNT,
        irqs: irq::COUNT,
    }
}

pub fn region_info(index: u32) -> RegionInfo {
    let mut info = RegionInfo::new_zeroed();
    (info.argsz, info.index) = (32, index);
    info.size = match index {
        region::BAR0 => BAR,
        region::CONFIG => 256,
        _ => 0,
    };
    if info.size > 0 {
        info.flags = region_flag::READ | region_flag::WRITE;
    }
    info
}
