//! The registers that the guest sees: configuration space and MSI-X table, and what they ask of the device.

use devices::interrupt::MsiMessage;
use devices::pci::bar;
use devices::pci::capability::{self, PowerState, express};
use devices::pci::config_space::{
    COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_MEMORY,
};
use devices::pci::{
    BarRange, ConfigSpace, Decode, TableEntry, msix, read_registers, write_registers,
};

use crate::function::interrupts::{Target, Wanted};
use crate::function::layout::{Layout, MsiPlace};

const MSI_ENABLE: u32 = 1 << 16;
/// Advanced features, control register: initiate a function level reset.
const FEATURES_FLR: u32 = 1 << 0;

/// See the module's header.
pub(super) struct Registers {
    space: ConfigSpace,
    table: Vec<TableEntry>,
}

/// What a configuration write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// To the addresses that are decoded.
    pub(super) decode: Decode,
    /// A function level reset was initiated.
    pub(super) reset: bool,
    /// Bus mastering as it is now, where it changed.
    pub(super) master: Option<bool>,
    /// The register is one of those that the device's interrupts or its command register follow.
    pub(super) settle: bool,
}

impl Registers {
    /// Registers at power-on.
    pub(super) fn new(space: ConfigSpace, layout: &Layout) -> Self {
        let entries = layout.msix.map_or(0, |msix| msix.vectors);
        Self {
            space,
            table: vec![TableEntry::default(); entries.into()],
        }
    }

    /// Puts them back to that.
    pub(super) fn reset(&mut self) {
        self.space.reset();
        self.table.fill(TableEntry::default());
    }

    /// The register at `offset`, but for pending bits.
    pub(super) fn read(&self, offset: u16) -> u32 {
        self.space.read(offset)
    }

    /// A guest's write.
    pub(super) fn write(&mut self, layout: &Layout, offset: u16, value: u32, mask: u32) -> Change {
        let before = (self.decoded(layout), self.is_master(layout));
        match layout.power_at {
            Some(at) => {
                capability::write_with_power(&mut self.space, at, offset, value, mask);
            }
            None => self.space.write(offset, value, mask),
        }
        let after = (self.decoded(layout), self.is_master(layout));
        let set = value & mask;
        let control = layout.express_at.map(|at| at + express::DEVICE_CONTROL);
        let features = layout.features_at.map(|at| at + 4);
        let can_reset = layout
            .express_at
            .is_some_and(|at| self.space.read(at + 4) & 1 << 28 != 0);
        let reset = control == Some(offset) && can_reset && set & express::INITIATE_FLR != 0
            || features == Some(offset) && set & FEATURES_FLR != 0;
        Change {
            decode: match before.0 == after.0 {
                true => Decode::Same,
                false => Decode::Changed,
            },
            reset,
            master: (before.1 != after.1).then_some(after.1),
            settle: self.is_followed(layout, offset),
        }
    }

    /// Whether interrupts or the device's command register follow the register at `offset`.
    fn is_followed(&self, layout: &Layout, offset: u16) -> bool {
        let msi = layout.msi.map(|msi| msi.at..msi.at + msi.length());
        offset == COMMAND
            || layout.power_at.is_some_and(|at| offset == at + 4)
            || layout.msix.is_some_and(|msix| offset == msix.at)
            || msi.is_some_and(|registers| registers.contains(&offset))
    }

    /// Reads the MSI-X table.
    pub(super) fn read_table(&self, at: u64, data: &mut [u8]) {
        read_registers(at, data, |register| {
            let entry = self.table.get((register / msix::ENTRY_SIZE) as usize);
            entry.map_or(0, |entry| entry.read(register % msix::ENTRY_SIZE))
        });
    }

    /// Writes the MSI-X table, and says whether a vector may be affected.
    pub(super) fn write_table(&mut self, layout: &Layout, at: u64, data: &[u8]) -> bool {
        write_registers(at, data, |register, value, mask| {
            let entry = self.table.get_mut((register / msix::ENTRY_SIZE) as usize);
            if let Some(entry) = entry {
                entry.write(register % msix::ENTRY_SIZE, value, mask);
            }
        });
        self.msix_control(layout) & msix::CONTROL_ENABLE != 0
    }

    /// The BARs that are decoded: none in D3hot.
    pub(super) fn decoded(&self, layout: &Layout) -> Vec<BarRange> {
        match self.is_awake(layout) {
            true => bar::decoded(&layout.bars, &self.space),
            false => Vec::new(),
        }
    }

    /// What the device shall have and do now.
    pub(super) fn wanted(&self, layout: &Layout) -> Wanted {
        let command = self.space.command();
        let master = self.is_master(layout);
        let msix = self.msix_targets(layout);
        let msi = match msix {
            Some(_) => None,
            None => layout.msi.and_then(|msi| self.msi_targets(&msi)),
        };
        // Not gated by bus mastering (PCI local bus 3.0, 6.2.2); but a function that decodes nothing has no driver.
        let pin = layout.has_pin
            && self.is_awake(layout)
            && command & (COMMAND_MEMORY | COMMAND_BUS_MASTER) != 0
            && command & COMMAND_INTX_DISABLE == 0
            && msix.is_none()
            && msi.is_none();
        let mut physical = COMMAND_MEMORY | command & COMMAND_INTX_DISABLE;
        if master {
            physical |= COMMAND_BUS_MASTER;
        }
        Wanted {
            command: physical,
            msix,
            msi,
            pin,
        }
    }

    fn msix_control(&self, layout: &Layout) -> u32 {
        layout.msix.map_or(0, |msix| self.space.read(msix.at))
    }

    fn msix_targets(&self, layout: &Layout) -> Option<Vec<Target>> {
        let control = self.msix_control(layout);
        if control & msix::CONTROL_ENABLE == 0 {
            return None;
        }
        let all_masked = control & msix::CONTROL_MASK != 0;
        let target = |entry: &TableEntry| match all_masked || entry.is_masked() {
            true => Target::Masked,
            false => Target::Open(entry.message),
        };
        Some(self.table.iter().map(target).collect())
    }

    /// Vector n of MSI has the message's data with n in its lowest bits (PCI local bus 3.0, 6.8.3.4).
    fn msi_targets(&self, msi: &MsiPlace) -> Option<Vec<Target>> {
        let header = self.space.read(msi.at);
        if header & MSI_ENABLE == 0 {
            return None;
        }
        let vectors = (1 << (header >> 20 & 0b111)).min(u32::from(msi.vectors));
        let high = if msi.wide {
            self.space.read(msi.at + 8)
        } else {
            0
        };
        let address = u64::from(high) << 32 | u64::from(self.space.read(msi.at + 4));
        let data = self.space.read(msi.data()) & 0xFFFF;
        let masked = msi
            .mask_and_pending()
            .map_or(0, |(mask, _)| self.space.read(mask));
        let target = |vector: u32| match masked >> vector & 1 {
            0 => Target::Open(MsiMessage {
                address,
                data: data & !(vectors - 1) | vector,
            }),
            _ => Target::Masked,
        };
        Some((0..vectors).map(target).collect())
    }

    fn is_awake(&self, layout: &Layout) -> bool {
        let state = layout
            .power_at
            .map(|at| capability::power_state(&self.space, at));
        state != Some(PowerState::D3Hot)
    }

    /// Bus mastering, which a function in D3hot does not do.
    fn is_master(&self, layout: &Layout) -> bool {
        self.space.command() & COMMAND_BUS_MASTER != 0 && self.is_awake(layout)
    }
}
