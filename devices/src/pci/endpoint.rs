//! The configuration space of an endpoint, ready to use: header, BARs, power management, MSI-X, PCI
//! Express with function level reset, and the INTx line.

mod builder;

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use super::bar::{self, Bar};
use super::capability::{self, PowerState, express};
use super::config_space::{
    COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_MEMORY, ConfigSpace, Identity,
    STATUS_INTERRUPT,
};
use super::function::{BarRange, Decode};
use super::locked;
use super::msix::Msix;
use crate::guest_acts::{Act, ActLog};
use crate::interrupt::IntxLine;

pub use builder::{EndpointBuilder, EndpointError};

/// What an endpoint is attached to, and so which capabilities it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A root port or a switch's downstream port: a PCI Express endpoint.
    Express,
    /// The root bus: an endpoint integrated into the root complex, without a link.
    RootComplex,
    /// A conventional PCI bus: 256 bytes of configuration space, no PCI Express capability.
    Conventional,
}

/// What a configuration write did, beyond its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct EndpointWrite {
    /// What it did to decoding: hand this to the caller of `write_config`.
    pub decode: Decode,
    /// The guest initiated a function level reset: reset the function, then call
    /// [`EndpointConfig::reset`], and answer [`Decode::Changed`].
    pub flr: bool,
    /// The power state that the function came into, where it changed.
    pub power: Option<PowerState>,
    /// Whether MSI-X was enabled, disabled, masked or unmasked as a whole.
    pub msix: bool,
    /// Bus mastering as it is now, where it changed. Without it: no DMA.
    pub bus_master: Option<bool>,
}

/// An endpoint's configuration space. All methods are for any thread.
pub struct EndpointConfig {
    space: Mutex<ConfigSpace>,
    bars: Vec<Bar>,
    power_at: u16,
    msix_at: Option<u16>,
    express_at: Option<u16>,
    msix: Option<Arc<Msix>>,
    intx: Option<Arc<dyn IntxLine>>,
    /// The command register and whether the function is in D3hot, for readers without the lock.
    command: AtomicU16,
    asleep: AtomicBool,
    /// Whether the device has a reason to interrupt by its pin.
    interrupt: AtomicBool,
    /// Whether the line was told so.
    asserted: Mutex<bool>,
    /// What the guest did; registers of the device itself are noted here too.
    acts: ActLog,
}

impl EndpointConfig {
    /// Starts a configuration space.
    pub fn builder(identity: Identity) -> EndpointBuilder {
        EndpointBuilder::new(identity)
    }

    /// For [`PciFunction::read_config`](super::PciFunction::read_config).
    pub fn read(&self, offset: u16) -> u32 {
        let value = locked(&self.space).read(offset);
        if offset == COMMAND && self.interrupt.load(Ordering::Acquire) {
            return value | u32::from(STATUS_INTERRUPT) << 16;
        }
        match &self.msix {
            Some(msix) if self.msix_at == Some(offset) => value | msix.control(),
            _ => value,
        }
    }

    /// For [`PciFunction::write_config`](super::PciFunction::write_config).
    pub fn write(&self, offset: u16, value: u32, mask: u32) -> EndpointWrite {
        let mut space = locked(&self.space);
        let before = (self.decoded(&space), space.command(), self.power(&space));
        capability::write_with_power(&mut space, self.power_at, offset, value, mask);
        let after = (self.decoded(&space), space.command(), self.power(&space));
        self.mirror(&space);
        drop(space);

        let msix = match &self.msix {
            Some(msix) if self.msix_at == Some(offset) => msix.write_control(value, mask),
            _ => false,
        };
        self.drive_line();
        let device_control = self.express_at.map(|at| at + express::DEVICE_CONTROL);
        let flr = device_control == Some(offset) && value & mask & express::INITIATE_FLR != 0;
        let master = after.1 & COMMAND_BUS_MASTER;
        let was_master = before.1 & COMMAND_BUS_MASTER;
        if was_master != 0 && master == 0 {
            self.acts.note(Act::BusMasterOff);
        }
        if flr {
            self.acts.note(Act::FunctionReset);
        }
        EndpointWrite {
            decode: if before.0 == after.0 {
                Decode::Same
            } else {
                Decode::Changed
            },
            flr,
            power: (before.2 != after.2).then_some(after.2),
            msix,
            bus_master: (was_master != master).then_some(master != 0),
        }
    }

    /// For [`PciFunction::decoded_bars`](super::PciFunction::decoded_bars): none in D3hot either.
    pub fn decoded_bars(&self) -> Vec<BarRange> {
        if self.command.load(Ordering::Acquire) & COMMAND_MEMORY == 0 {
            return Vec::new();
        }
        self.decoded(&locked(&self.space))
    }

    /// Whether the function may read and write guest memory and send messages: bus mastering, and D0.
    pub fn bus_master(&self) -> bool {
        self.command.load(Ordering::Acquire) & COMMAND_BUS_MASTER != 0
            && self.power_state() == PowerState::D0
    }

    /// The power state.
    pub fn power_state(&self) -> PowerState {
        if self.asleep.load(Ordering::Acquire) {
            PowerState::D3Hot
        } else {
            PowerState::D0
        }
    }

    /// What the guest did to the function. Resets leave it alone, since they are part of it; the device
    /// lets it begin anew when it is shut down.
    pub fn acts(&self) -> &ActLog {
        &self.acts
    }

    /// The function's MSI-X.
    pub fn msix(&self) -> Option<&Arc<Msix>> {
        self.msix.as_ref()
    }

    /// The function's BARs.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// Says whether the device has a reason to interrupt by its pin. The line follows as long as INTx
    /// is not disabled and MSI-X is off; the status register shows it in any case.
    pub fn set_interrupt(&self, pending: bool) {
        self.interrupt.store(pending, Ordering::Release);
        self.drive_line();
    }

    /// Puts registers, MSI-X and line back to their state after power-on. BARs are no longer decoded.
    pub fn reset(&self) {
        {
            let mut space = locked(&self.space);
            space.reset();
            self.mirror(&space);
        }
        if let Some(msix) = &self.msix {
            msix.reset();
        }
        self.set_interrupt(false);
    }

    /// Gives interrupt vectors back to the machine.
    pub fn release(&self) {
        self.set_interrupt(false);
        if let Some(msix) = &self.msix {
            msix.release();
        }
    }

    fn mirror(&self, space: &ConfigSpace) {
        self.command.store(space.command(), Ordering::Release);
        self.asleep
            .store(self.power(space) == PowerState::D3Hot, Ordering::Release);
    }

    fn power(&self, space: &ConfigSpace) -> PowerState {
        capability::power_state(space, self.power_at)
    }

    fn decoded(&self, space: &ConfigSpace) -> Vec<BarRange> {
        match self.power(space) {
            PowerState::D0 => bar::decoded(&self.bars, space),
            PowerState::D3Hot => Vec::new(),
        }
    }

    /// Brings the line to what the registers say; the lock keeps two writers in order.
    fn drive_line(&self) {
        let Some(line) = &self.intx else { return };
        let mut asserted = locked(&self.asserted);
        let disabled = self.command.load(Ordering::Acquire) & COMMAND_INTX_DISABLE != 0
            || self.msix.as_ref().is_some_and(|msix| msix.enabled())
            || self.power_state() != PowerState::D0;
        let now = self.interrupt.load(Ordering::Acquire) && !disabled;
        if *asserted != now {
            *asserted = now;
            line.set(now);
        }
    }
}

#[cfg(test)]
mod tests;
