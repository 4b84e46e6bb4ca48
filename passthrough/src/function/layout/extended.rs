//! Extended capabilities: the serial number, as it was when the function was made, and vendor-specific ones, which
//! the guest can read. All others read zero: SR-IOV, ATS, PRI, PASID, AER, ARI, resizable BARs and the rest change what
//! the host's kernel or its IOMMU has set up.

use devices::pci::ConfigSpace;

use super::{Layout, Owner};
use crate::function::physical::{Capability, Physical};

const SERIAL_NUMBER: u16 = 0x0003;
const VENDOR: u16 = 0x000B;
/// Where the list begins, whatever is there.
const FIRST: u16 = 0x100;
/// Version 1 of a capability.
const VERSION: u32 = 1 << 16;

pub(super) fn define(layout: &mut Layout, space: &mut ConfigSpace, physical: &Physical) {
    let mut shown = Vec::new();
    for found in physical.extended_capabilities() {
        let Capability { id, at, room } = found;
        match id {
            SERIAL_NUMBER if room >= 12 => {
                space.define(at + 4, physical.dword(at + 4), 0);
                space.define(at + 8, physical.dword(at + 8), 0);
            }
            VENDOR if room >= 8 => {
                let length = (physical.dword(at + 4) >> 20) as u16;
                if !(8..=room).contains(&length) {
                    continue;
                }
                space.define(at + 4, physical.dword(at + 4), 0);
                layout.set_owner(at + 8, length - 8, Owner::DeviceReads);
            }
            _ => continue,
        }
        let version = physical.dword(at) & 0x000F_0000;
        space.define(at, version | u32::from(id), 0);
        shown.push(at);
    }
    let Some(first) = shown.first().copied() else {
        return;
    };
    if first != FIRST {
        // A null capability leads there (PCIe base 6.0, 7.9.28).
        space.define(FIRST, u32::from(first) << 20 | VERSION, 0);
    }
    for pair in shown.windows(2) {
        if let [one, next] = pair {
            space.preset(*one, 0xFFF0_0000, u32::from(*next) << 20);
        }
    }
}
