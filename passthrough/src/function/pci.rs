//! The function as the PCI hierarchy sees it: accesses to configuration space and to BARs.

use std::ops::Range;
use std::sync::atomic::Ordering;

use devices::guest_acts::Act;
use devices::pci::{BarRange, Decode, PciFunction, read_registers};
use vm_memory::GuestAddress;

use crate::client::region;
use crate::function::layout::{Owner, Span};
use crate::function::{Function, bars, locked};

/// Where an access lies that concerns a range of the function's own.
enum Hit {
    Outside,
    /// It begins there, so many bytes in.
    Inside(u64),
    /// It reaches in from before it: it has no defined effect.
    Across,
}

impl Span {
    fn hit(&self, bar: u8, offset: u64, length: usize) -> Hit {
        let end = offset.saturating_add(length as u64);
        if bar != self.bar || end <= self.start || offset >= self.start + self.size {
            return Hit::Outside;
        }
        offset
            .checked_sub(self.start)
            .map_or(Hit::Across, Hit::Inside)
    }
}

impl PciFunction for Function {
    fn read_config(&self, offset: u16) -> u32 {
        if !self.is_there() {
            return u32::MAX;
        }
        if self.layout.owner(offset) != Owner::Function {
            let mut data = [0; 4];
            let read = self.client.read(region::CONFIG, offset.into(), &mut data);
            return match read {
                Ok(()) => u32::from_le_bytes(data),
                Err(failure) => {
                    self.note(&failure);
                    u32::MAX
                }
            };
        }
        let value = locked(&self.registers).read(offset);
        let msi = self.layout.msi.and_then(|msi| msi.mask_and_pending());
        match msi {
            Some((_, pending)) if pending == offset => self.interrupts.pending_msi(),
            _ => value,
        }
    }

    fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode {
        if !self.is_there() {
            return Decode::Same;
        }
        match self.layout.owner(offset) {
            Owner::Function => {}
            Owner::DeviceReads => return Decode::Same,
            Owner::Device => {
                self.write_device(offset, value, mask);
                return Decode::Same;
            }
        }
        let change = {
            let mut registers = locked(&self.registers);
            // A reset that began meanwhile has put them to power-on.
            if self.guest_reset.is_running() {
                return Decode::Same;
            }
            registers.write(&self.layout, offset, value, mask)
        };
        match change.master {
            Some(true) => self.quiesced.store(false, Ordering::Release),
            Some(false) => self.acts.note(Act::BusMasterOff),
            None => {}
        }
        if change.reset {
            self.acts.note(Act::FunctionReset);
            self.begin_reset();
            return Decode::Changed;
        }
        if change.settle {
            self.settle_or_warn();
        }
        change.decode
    }

    fn decoded_bars(&self) -> Vec<BarRange> {
        match self.is_there() {
            true => locked(&self.registers).decoded(&self.layout),
            false => Vec::new(),
        }
    }

    fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(u8::MAX);
        if !self.is_there() || data.is_empty() {
            return;
        }
        if let Some(msix) = &self.layout.msix {
            match msix.table.hit(bar, offset, data.len()) {
                Hit::Outside => {}
                Hit::Inside(at) => return locked(&self.registers).read_table(at, data),
                Hit::Across => return,
            }
            match msix.pending.hit(bar, offset, data.len()) {
                Hit::Outside => {}
                Hit::Inside(at) => {
                    let bits = |register| self.interrupts.pending_msix(register as usize * 8);
                    return read_registers(at, data, bits);
                }
                Hit::Across => return,
            }
        }
        let region = self.client.region(bar.into());
        if !region.readable || !bars::is_inside(&*self.client, bar, offset, data.len()) {
            return;
        }
        for (at, part) in bars::natural(offset, data.len()) {
            if let Err(failure) = self.client.read(bar.into(), at, &mut data[part]) {
                data.fill(u8::MAX);
                return self.note(&failure);
            }
        }
    }

    fn write_bar(&self, bar: u8, offset: u64, data: &[u8]) {
        if !self.is_there() {
            return;
        }
        if let Some(msix) = &self.layout.msix {
            match msix.table.hit(bar, offset, data.len()) {
                Hit::Outside => {}
                Hit::Inside(at) => return self.write_table(at, data),
                Hit::Across => return,
            }
            if !matches!(msix.pending.hit(bar, offset, data.len()), Hit::Outside) {
                return;
            }
        }
        let region = self.client.region(bar.into());
        if !region.writable || !bars::is_inside(&*self.client, bar, offset, data.len()) {
            return;
        }
        for (at, part) in bars::natural(offset, data.len()) {
            if let Err(failure) = self.client.write(bar.into(), at, &data[part]) {
                return self.note(&failure);
            }
        }
    }

    fn placed(&self, bar: u8, at: Option<GuestAddress>) {
        self.windows.place(bar, at);
        self.io_events.place(bar, at);
    }

    fn bus_reset(&self) {
        if !self.is_lost() {
            self.begin_reset();
        }
    }
}

impl Function {
    fn write_table(&self, at: u64, data: &[u8]) {
        let settle = {
            let mut registers = locked(&self.registers);
            !self.guest_reset.is_running() && registers.write_table(&self.layout, at, data)
        };
        if settle {
            self.settle_or_warn();
        }
    }

    /// Writes the bytes that `mask` selects to a register that is the device's own.
    fn write_device(&self, offset: u16, value: u32, mask: u32) {
        let bytes = value.to_le_bytes();
        let written = written(mask)
            .flat_map(|run| {
                let first = run.start;
                bars::natural(u64::from(offset) + first as u64, run.len())
                    .map(move |(at, part)| (at, first + part.start..first + part.end))
            })
            .try_for_each(|(at, part)| self.client.write(region::CONFIG, at, &bytes[part]));
        if let Err(failure) = written {
            self.note(&failure);
        }
    }
}

/// The runs of bytes that a mask selects.
fn written(mask: u32) -> impl Iterator<Item = Range<usize>> {
    let selected = mask.to_le_bytes().map(|byte| byte != 0);
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + selected.get(at..)?.iter().position(|byte| *byte)?;
        let rest = selected.get(start..)?;
        let length = rest.iter().position(|byte| !byte).unwrap_or(rest.len());
        at = start + length;
        Some(start..at)
    })
}
