//! From what an endpoint's configuration space shall hold to the space.

use std::sync::atomic::{AtomicBool, AtomicU16};
use std::sync::{Arc, Mutex};

use super::{Attachment, EndpointConfig};
use crate::guest_acts::ActLog;
use crate::interrupt::IntxLine;
use crate::pci::bar::Bar;
use crate::pci::capability::{self, ExpressType};
use crate::pci::config_space::{ConfigSpace, Identity};
use crate::pci::intx::IntxPin;
use crate::pci::msix::Msix;

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
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            attachment: Attachment::Express,
            bars: Vec::new(),
            msix: None,
            intx: None,
            serial_number: None,
        }
    }

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
            acts: ActLog::default(),
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
