//! The capabilities that the function answers for itself.

use devices::pci::capability::{express, link_status};
use devices::pci::{Attachment, Bar, ConfigSpace, msix};

use super::{MsiPlace, MsixPlace, Span, id};
use crate::client::{Client, IrqType};
use crate::function::FunctionError;
use crate::function::physical::{Capability, Physical};

/// The bytes of a PCI Express capability up to Device Status: what every function has.
pub(super) const EXPRESS_DEVICE: u16 = 0x0C;
/// Its bytes with all that version 2 has.
pub(super) const EXPRESS_WHOLE: u16 = 0x3C;
const DEVICE_CAPABILITIES: u16 = 0x04;
const DEVICE_CAPABILITIES_2: u16 = 0x24;
const DEVICE_CONTROL_2: u16 = 0x28;
const LINK_CAPABILITIES_2: u16 = 0x2C;
/// Device Capabilities that stay the device's: extended tags, latencies, role-based error reporting.
const DEVICE_KEPT: u32 = 1 << 5 | 0b111 << 6 | 0b111 << 9 | 1 << 15;
const EXTENDED_TAGS: u32 = 1 << 5;
const FLR: u32 = 1 << 28;

/// Power management with D0 and D3hot, which loses no state. The device itself stays in D0.
pub(super) fn define_power(space: &mut ConfigSpace, at: u16) {
    space.define(at, 0x0003 << 16 | u32::from(id::POWER), 0);
    space.define(at + 4, 1 << 3, 0b11);
}

/// MSI as the device has it. None without room for it, or without interrupts.
pub(super) fn define_msi(
    space: &mut ConfigSpace,
    client: &dyn Client,
    physical: &Physical,
    found: Capability,
) -> Option<MsiPlace> {
    let at = found.at;
    let header = physical.dword(at);
    let capable = header >> 17 & 0b111;
    let most = client.irqs(IrqType::Msi).min(1 << capable.min(5));
    let exponent = most.checked_ilog2()?;
    let msi = MsiPlace {
        at,
        wide: header & 1 << 23 != 0,
        maskable: header & 1 << 24 != 0,
        vectors: 1 << exponent,
    };
    if found.room < msi.length() {
        return None;
    }
    let kept = header & (1 << 23 | 1 << 24);
    // Enable, and how many.
    let writable = 1 << 16 | 0b111 << 20;
    space.define(at, kept | exponent << 17 | u32::from(id::MSI), writable);
    space.define(at + 4, 0, !0b11);
    if msi.wide {
        space.define(at + 8, 0, u32::MAX);
    }
    space.define(msi.data(), 0, 0xFFFF);
    if let Some((mask, _)) = msi.mask_and_pending() {
        let bits = u32::MAX >> (32 - u32::from(msi.vectors));
        space.define(mask, 0, bits);
    }
    Some(msi)
}

/// MSI-X with the device's table size and places.
pub(super) fn define_msix(
    space: &mut ConfigSpace,
    client: &dyn Client,
    physical: &Physical,
    at: u16,
    bars: &[Bar],
) -> Result<MsixPlace, FunctionError> {
    let header = physical.dword(at);
    let (table, pending) = (physical.dword(at + 4), physical.dword(at + 8));
    let vectors = (header >> 16 & 0x7FF) as u16 + 1;
    let span = |register: u32, size| Span {
        bar: (register & 7) as u8,
        start: (register & !7).into(),
        size,
    };
    let place = MsixPlace {
        at,
        vectors,
        table: span(table, u64::from(vectors) * msix::ENTRY_SIZE),
        pending: span(pending, u64::from(vectors.div_ceil(64)) * 8),
    };
    for span in [place.table, place.pending] {
        let bar = bars.iter().find(|bar| bar.index() == span.bar);
        let size = bar.map_or(0, |bar| client.region(bar.index().into()).size);
        if size < span.start + span.size {
            return Err(FunctionError::Msix {
                device: client.name().to_owned(),
                bar: span.bar,
                end: span.start + span.size,
                size,
            });
        }
    }
    let writable = msix::CONTROL_ENABLE | msix::CONTROL_MASK;
    space.define(
        at,
        u32::from(vectors - 1) << 16 | u32::from(id::MSIX),
        writable,
    );
    space.define(at + 4, table, 0);
    space.define(at + 8, pending, 0);
    Ok(place)
}

/// PCI Express as it is at this place of the tree: at the end of a link like all of this machine's, or inside the
/// root complex without one. Its controls are the function's own: the host has set the device's.
pub(super) fn define_express(
    space: &mut ConfigSpace,
    client: &dyn Client,
    physical: &Physical,
    attachment: Attachment,
    found: Capability,
) {
    let Capability { at, room, .. } = found;
    let (kind, has_link) = match attachment {
        Attachment::RootComplex => (9, false),
        Attachment::Express | Attachment::Conventional => (0, true),
    };
    let version = (physical.word(at + 2) & 0xF).clamp(1, 2);
    let version = if room < EXPRESS_WHOLE { 1 } else { version };
    let header = version | kind << 4;
    space.define(at, u32::from(header) << 16 | u32::from(id::EXPRESS), 0);

    let own = physical.dword(at + DEVICE_CAPABILITIES);
    // Payloads of 256 bytes at most, as ports of this machine take.
    let mut device = own & DEVICE_KEPT | (own & 0b111).min(1);
    if client.can_reset() {
        device |= FLR;
    }
    space.define(at + DEVICE_CAPABILITIES, device, 0);
    // As endpoints of this machine at power-on: 512-byte reads, no snoop, relaxed ordering.
    let tags = if device & EXTENDED_TAGS != 0 {
        1 << 8
    } else {
        0
    };
    space.define(at + express::DEVICE_CONTROL, 0x2810 | tags, 0x78FF | tags);
    space.define_clearable(at + express::DEVICE_CONTROL, 0xF << 16);

    if has_link && room >= express::LINK_CONTROL + 4 {
        let (status, _) = link_status(false, true);
        let speed_and_width = status >> 16 & 0x3FF;
        space.define(
            at + express::LINK_CAPABILITIES,
            speed_and_width | 1 << 22,
            0,
        );
        space.define(at + express::LINK_CONTROL, status, 1 << 3 | 1 << 6 | 1 << 7);
    }
    if version == 2 {
        space.define(at + DEVICE_CAPABILITIES_2, 0x1F, 0);
        space.define(at + DEVICE_CONTROL_2, 0, 0x1F);
        if has_link {
            let (status, status_2) = link_status(false, true);
            space.define(at + LINK_CAPABILITIES_2, 0b1110, 0);
            let target = status >> 16 & 0xF;
            space.define(at + express::LINK_CONTROL_2, status_2 | target, 0x0FBF);
        }
    }
}

/// Advanced features of a conventional function: function level reset, and that nothing is pending.
pub(super) fn define_advanced_features(space: &mut ConfigSpace, at: u16) {
    let length_and_features = 0x0306;
    let header = length_and_features << 16 | u32::from(id::ADVANCED_FEATURES);
    space.define(at, header, 0);
    space.define(at + 4, 0, 0);
}
