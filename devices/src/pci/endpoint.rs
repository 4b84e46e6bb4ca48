//! The configuration space of an endpoint, ready to use: header, BARs, power management, MSI-X, PCI
//! Express with function level reset, and the INTx line.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use super::bar::{self, Bar};
use super::capability::{self, ExpressType, PowerState, express};
use super::config_space::{
    COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_MEMORY, ConfigSpace, Identity,
    STATUS_INTERRUPT,
};
use super::function::{BarRange, Decode};
use super::intx::IntxPin;
use super::locked;
use super::msix::Msix;
use crate::interrupt::IntxLine;

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

/// Why a configuration space cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A BAR does not fit into the six registers there are, or two take the same one.
    #[error("BAR {0} takes a register that another BAR has or that does not exist")]
    BarClash(u8),
    /// The MSI-X layout names a BAR that the function does not have.
    #[error("the MSI-X table lies in BAR {0}, which the function does not have")]
    NoMsixBar(u8),
    /// The MSI-X table or its pending bits do not fit.
    #[error("the MSI-X table and pending bits end at {end:#x}, past BAR {bar} of {size:#x} bytes")]
    MsixOutside {
        /// The BAR.
        bar: u8,
        /// Where the structures end.
        end: u64,
        /// The BAR's size.
        size: u64,
    },
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

/// Collects what an endpoint's configuration space shall hold.
pub struct EndpointBuilder {
    identity: Identity,
    attachment: Attachment,
    bars: Vec<Bar>,
    msix: Option<Arc<Msix>>,
    intx: Option<(IntxPin, Arc<dyn IntxLine>)>,
    serial_number: Option<u64>,
}

impl EndpointBuilder {
    /// Where the endpoint is attached; [`Attachment::Express`] if not said.
    pub fn attachment(mut self, attachment: Attachment) -> Self {
        self.attachment = attachment;
        self
    }

    /// Adds a BAR.
    pub fn bar(mut self, bar: Bar) -> Self {
        self.bars.push(bar);
        self
    }

    /// Adds the MSI-X capability.
    pub fn msix(mut self, msix: Arc<Msix>) -> Self {
        self.msix = Some(msix);
        self
    }

    /// Gives the function an interrupt pin and the line that it is wired to.
    pub fn intx(mut self, pin: IntxPin, line: Arc<dyn IntxLine>) -> Self {
        self.intx = Some((pin, line));
        self
    }

    /// Adds a device serial number; express functions only.
    pub fn serial_number(mut self, serial: u64) -> Self {
        self.serial_number = Some(serial);
        self
    }

    /// Builds the configuration space.
    pub fn build(self) -> Result<EndpointConfig, EndpointError> {
        self.check()?;
        let express = self.attachment != Attachment::Conventional;
        let mut space = if express {
            ConfigSpace::express()
        } else {
            ConfigSpace::conventional()
        };
        let pin = self.intx.as_ref().map_or(0, |(pin, _)| pin.register());
        space.define_type0(&self.identity, pin);
        for bar in &self.bars {
            bar.define(&mut space);
        }
        let power_at = capability::add_power_management(&mut space, false);
        let msix_at = self.msix.as_ref().map(|msix| {
            let layout = msix.layout();
            let (table, pba) = (layout.table, layout.pba);
            capability::add_msix(&mut space, msix.vectors(), layout.bar, table, pba)
        });
        let express_at = match self.attachment {
            Attachment::Express => Some(ExpressType::Endpoint),
            Attachment::RootComplex => Some(ExpressType::RootComplexIntegrated),
            Attachment::Conventional => None,
        }
        .map(|kind| capability::add_express(&mut space, kind));
        if let Some(serial) = self.serial_number.filter(|_| express) {
            capability::add_serial_number(&mut space, serial);
        }
        Ok(EndpointConfig {
            space: Mutex::new(space),
            bars: self.bars,
            power_at,
            msix_at,
            express_at,
            msix: self.msix,
            intx: self.intx.map(|(_, line)| line),
            command: AtomicU16::new(0),
            asleep: AtomicBool::new(false),
            interrupt: AtomicBool::new(false),
            asserted: Mutex::new(false),
        })
    }

    fn check(&self) -> Result<(), EndpointError> {
        let mut taken = [false; 6];
        for bar in &self.bars {
            for register in bar.registers() {
                match taken.get_mut(usize::from(register)) {
                    Some(taken) if !*taken => *taken = true,
                    _ => return Err(EndpointError::BarClash(bar.index())),
                }
            }
        }
        let Some(msix) = &self.msix else {
            return Ok(());
        };
        let (bar, end) = (msix.layout().bar, msix.end());
        match self.bars.iter().find(|candidate| candidate.index() == bar) {
            None => Err(EndpointError::NoMsixBar(bar)),
            Some(found) if found.size() < end => Err(EndpointError::MsixOutside {
                bar,
                end,
                size: found.size(),
            }),
            Some(_) => Ok(()),
        }
    }
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
}

impl EndpointConfig {
    /// Starts a configuration space.
    pub fn builder(identity: Identity) -> EndpointBuilder {
        EndpointBuilder {
            identity,
            attachment: Attachment::Express,
            bars: Vec::new(),
            msix: None,
            intx: None,
            serial_number: None,
        }
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
        let master = after.1 & COMMAND_BUS_MASTER;
        EndpointWrite {
            decode: if before.0 == after.0 {
                Decode::Same
            } else {
                Decode::Changed
            },
            flr: device_control == Some(offset) && value & mask & express::INITIATE_FLR != 0,
            power: (before.2 != after.2).then_some(after.2),
            msix,
            bus_master: (before.1 & COMMAND_BUS_MASTER != master).then_some(master != 0),
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
