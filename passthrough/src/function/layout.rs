//! From the configuration space of the device to the one that the guest sees.
//!
//! Capabilities stay where they are in the device, for drivers that know by heart where they are. Shown are power
//! management, MSI, MSI-X, PCI Express, advanced features and vendor-specific ones; extended ones see [`extended`].
//! All others read zero: VPD, hot-plug, HyperTransport, enhanced allocation and the rest.

mod extended;
mod structures;

use devices::pci::config_space::{COMMAND, STATUS_CAPABILITIES};
use devices::pci::{Attachment, Bar, ConfigSpace, Identity, IntxPin};

use crate::client::{Client, IrqType};
use crate::function::physical::{Capability, Physical};
use crate::function::{FunctionError, bars};

const CAPABILITY_POINTER: u16 = 0x34;
const INTERRUPT_PIN: u16 = 0x3D;
const FIRST_CAPABILITY: u16 = 0x40;
const CONVENTIONAL_END: u16 = 0x100;
const REGISTERS: usize = 1024;

/// Ids of capabilities.
mod id {
    pub(super) const POWER: u16 = 0x01;
    pub(super) const MSI: u16 = 0x05;
    pub(super) const VENDOR: u16 = 0x09;
    pub(super) const EXPRESS: u16 = 0x10;
    pub(super) const MSIX: u16 = 0x11;
    pub(super) const ADVANCED_FEATURES: u16 = 0x13;
}

/// Who answers for a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// The function: what it did not define reads zero.
    #[default]
    Function,
    /// The device is read; writes do nothing.
    DeviceReads,
    /// The device.
    Device,
}

/// Where the MSI capability has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsiPlace {
    pub(super) at: u16,
    /// With a 64-bit address.
    pub(super) wide: bool,
    /// With mask and pending bits.
    pub(super) maskable: bool,
    /// The most vectors that the guest can turn on: a power of two up to 32.
    pub(super) vectors: u16,
}

impl MsiPlace {
    /// The register of the message's data.
    pub(super) fn data(&self) -> u16 {
        self.at + if self.wide { 12 } else { 8 }
    }

    /// The registers of the mask bits and the pending bits.
    pub(super) fn mask_and_pending(&self) -> Option<(u16, u16)> {
        self.maskable.then(|| (self.data() + 4, self.data() + 8))
    }

    /// The capability's bytes.
    pub(super) fn length(&self) -> u16 {
        let data = if self.wide { 16 } else { 12 };
        data + if self.maskable { 8 } else { 0 }
    }
}

/// A range of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) bar: u8,
    pub(super) start: u64,
    pub(super) size: u64,
}

/// Where MSI-X has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsixPlace {
    pub(super) at: u16,
    pub(super) vectors: u16,
    pub(super) table: Span,
    pub(super) pending: Span,
}

/// What the guest finds, and where: it does not change.
pub(super) struct Layout {
    pub(super) bars: Vec<Bar>,
    pub(super) has_pin: bool,
    pub(super) power_at: Option<u16>,
    pub(super) express_at: Option<u16>,
    pub(super) features_at: Option<u16>,
    pub(super) msi: Option<MsiPlace>,
    pub(super) msix: Option<MsixPlace>,
    owners: Vec<Owner>,
}

impl Layout {
    /// Who answers for the register at `offset`.
    pub(super) fn owner(&self, offset: u16) -> Owner {
        let owner = self.owners.get(usize::from(offset / 4));
        owner.copied().unwrap_or_default()
    }

    fn set_owner(&mut self, at: u16, length: u16, owner: Owner) {
        let registers = usize::from(at / 4)..usize::from((at + length).div_ceil(4));
        if let Some(owners) = self.owners.get_mut(registers) {
            owners.fill(owner);
        }
    }
}

/// Lays out the function: what the guest finds, and the registers at power-on.
pub(super) fn lay_out(
    client: &dyn Client,
    physical: &Physical,
    attachment: Attachment,
    pin: Option<IntxPin>,
) -> Result<(Layout, ConfigSpace), FunctionError> {
    let capabilities = physical.capabilities();
    let is_express = attachment != Attachment::Conventional
        && physical.is_extended()
        && capabilities.iter().any(|found| found.id == id::EXPRESS);
    let mut space = match is_express {
        true => ConfigSpace::express(),
        false => ConfigSpace::conventional(),
    };
    let has_pin = client.irqs(IrqType::Intx) > 0 && physical.byte(INTERRUPT_PIN) != 0;
    let pin = pin.filter(|_| has_pin);
    space.define_type0(&identity(physical), pin.map_or(0, IntxPin::register));
    let mut layout = Layout {
        bars: bars::memory_bars(client, physical)?,
        has_pin: pin.is_some(),
        power_at: None,
        express_at: None,
        features_at: None,
        msi: None,
        msix: None,
        owners: vec![Owner::default(); REGISTERS],
    };
    for bar in &layout.bars {
        bar.define(&mut space);
    }

    // What no capability has is the device's own, as drivers of some devices expect.
    let own = CONVENTIONAL_END - FIRST_CAPABILITY;
    layout.set_owner(FIRST_CAPABILITY, own, Owner::Device);
    let mut shown = Vec::new();
    for found in capabilities {
        let length = define(&mut layout, &mut space, client, physical, attachment, found)?;
        match length {
            Some(length) => {
                shown.push(found);
                // The device's own again where the function has defined all that the capability has.
                layout.set_owner(found.at, length.min(found.room), Owner::Function);
                if found.id == id::VENDOR {
                    let body = length.min(found.room).saturating_sub(4);
                    layout.set_owner(found.at + 4, body, Owner::Device);
                }
            }
            None => layout.set_owner(found.at, found.room, Owner::Function),
        }
    }
    link(&mut space, &shown);
    if is_express {
        extended::define(&mut layout, &mut space, physical);
    }
    Ok((layout, space))
}

fn identity(physical: &Physical) -> Identity {
    Identity {
        vendor: physical.word(0x00),
        device: physical.word(0x02),
        class: physical.dword(0x08) >> 8,
        revision: physical.byte(0x08),
        subsystem_vendor: physical.word(0x2C),
        subsystem: physical.word(0x2E),
    }
}

/// Defines the registers of one capability, and says how long it is; `None` for one that is not shown.
fn define(
    layout: &mut Layout,
    space: &mut ConfigSpace,
    client: &dyn Client,
    physical: &Physical,
    attachment: Attachment,
    found: Capability,
) -> Result<Option<u16>, FunctionError> {
    let Capability { id, at, room } = found;
    let length = match id {
        id::POWER if room >= 8 && layout.power_at.is_none() => {
            structures::define_power(space, at);
            layout.power_at = Some(at);
            8
        }
        id::MSI if layout.msi.is_none() => {
            let Some(msi) = structures::define_msi(space, client, physical, found) else {
                return Ok(None);
            };
            layout.msi = Some(msi);
            msi.length()
        }
        id::MSIX if room >= 12 && layout.msix.is_none() && client.irqs(IrqType::Msix) > 0 => {
            let msix = structures::define_msix(space, client, physical, at, &layout.bars)?;
            layout.msix = Some(msix);
            12
        }
        id::EXPRESS if layout.express_at.is_none() => {
            if !space.is_express() || room < structures::EXPRESS_DEVICE {
                return Ok(None);
            }
            structures::define_express(space, client, physical, attachment, found);
            layout.express_at = Some(at);
            structures::EXPRESS_WHOLE
        }
        id::ADVANCED_FEATURES
            if room >= 8 && layout.features_at.is_none() && client.can_reset() =>
        {
            structures::define_advanced_features(space, at);
            layout.features_at = Some(at);
            8
        }
        id::VENDOR => {
            let length = physical.byte(at + 2);
            if length < 3 || u16::from(length) > room {
                return Ok(None);
            }
            space.define(at, physical.dword(at) & 0xFFFF_0000 | u32::from(id), 0);
            u16::from(length)
        }
        _ => return Ok(None),
    };
    Ok(Some(length))
}

/// Links those that are shown, in their order.
fn link(space: &mut ConfigSpace, shown: &[Capability]) {
    let Some(first) = shown.first() else { return };
    space.define(CAPABILITY_POINTER, first.at.into(), 0);
    space.preset(COMMAND, 0, u32::from(STATUS_CAPABILITIES) << 16);
    for pair in shown.windows(2) {
        if let [one, next] = pair {
            space.preset(one.at, 0xFF00, u32::from(next.at) << 8);
        }
    }
}
