//! The controller as a PCI function: identity, BAR 0 with registers, doorbells and MSI-X, and resets.

use std::sync::Arc;

use devices::pci::{
    Bar, BarRange, Decode, EndpointConfig, Identity, Msix, MsixLayout, PciFunction, PowerState,
};
use vm_memory::GuestAddress;

use crate::controller::{Connections, Controller, ControllerConfig, ControllerError};
use crate::doorbells;
use crate::spec::registers::offset;

/// Linux binds its driver by class. The pair 1b36:0010 of QEMU's drive would bring quirks with it that
/// suppress Write Zeroes, namespace lists and identifiers; 1b36 with an id that has none does not.
pub(crate) const VENDOR: u16 = 0x1B36;
const DEVICE: u16 = 0x5D00;
const SUBSYSTEM: u16 = 0x0001;
/// Mass storage, non-volatile memory, NVMe I/O controller.
const CLASS: u32 = 0x01_08_02;
const REVISION: u8 = 1;

const BAR: u8 = 0;
/// MSI-X behind the doorbells' page, which has room for 512 queue pairs at a stride of 4 bytes.
const MSIX_TABLE: u32 = 0x2000;

/// Builds the configuration space and attaches the vectors: one for the admin queue and one a queue pair, unless
/// the configuration says how many.
pub(crate) fn endpoint(
    config: &ControllerConfig,
    connections: &Connections,
) -> Result<EndpointConfig, ControllerError> {
    let vectors = config.vectors.unwrap_or(config.queue_limit + 1);
    let layout = MsixLayout::in_bar(BAR, MSIX_TABLE, vectors);
    let msix =
        Msix::attach(vectors, layout, Arc::clone(&connections.router)).map_err(|source| {
            ControllerError::Vectors {
                id: config.id.clone(),
                source,
            }
        })?;
    let identity = Identity {
        vendor: VENDOR,
        device: DEVICE,
        class: CLASS,
        revision: REVISION,
        subsystem_vendor: VENDOR,
        subsystem: SUBSYSTEM,
    };
    let mut builder = EndpointConfig::builder(identity)
        .attachment(config.attachment)
        .bar(Bar::memory64(BAR, msix.end()))
        .msix(Arc::new(msix));
    if let Some((pin, line)) = &connections.intx {
        builder = builder.intx(*pin, Arc::clone(line));
    }
    builder.build().map_err(|source| ControllerError::Endpoint {
        id: config.id.clone(),
        source,
    })
}

impl PciFunction for Controller {
    fn read_config(&self, offset: u16) -> u32 {
        if self.drive.faults.is_removed() {
            return u32::MAX;
        }
        self.drive.endpoint.read(offset)
    }

    fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode {
        if self.drive.faults.is_removed() {
            return Decode::Same;
        }
        let write = self.drive.endpoint.write(offset, value, mask);
        if write.flr {
            self.bus_reset();
            return Decode::Changed;
        }
        if let Some(session) = self.session.load_full() {
            let woken = write.power == Some(PowerState::D0) || write.bus_master == Some(true);
            if woken {
                session.schedule_all();
            }
            if woken || write.msix {
                session.update_pin();
            }
        }
        write.decode
    }

    fn decoded_bars(&self) -> Vec<BarRange> {
        if self.drive.faults.is_removed() {
            return Vec::new();
        }
        self.drive.endpoint.decoded_bars()
    }

    fn read_bar(&self, bar: u8, at: u64, data: &mut [u8]) {
        if self.drive.faults.is_removed() {
            data.fill(u8::MAX);
            return;
        }
        data.fill(0);
        if bar != BAR || self.msix_read(at, data) {
            return;
        }
        // Registers are 32 bits wide, and 64-bit ones may be read at once or by halves.
        let first = at & !3;
        let mut skip = (at % 4) as usize;
        let mut rest = data;
        let mut register = first;
        while !rest.is_empty() {
            let value = self.read_register(register).to_le_bytes();
            let count = rest.len().min(4 - skip);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&value[skip..skip + count]);
            (rest, skip, register) = (later, 0, register.wrapping_add(4));
        }
    }

    fn write_bar(&self, bar: u8, at: u64, data: &[u8]) {
        if self.drive.faults.is_removed()
            || bar != BAR
            || self
                .drive
                .endpoint
                .msix()
                .is_some_and(|msix| msix.write(at, data))
        {
            return;
        }
        // Writes that are not aligned dwords or pairs of them have no defined effect.
        let (words, []) = data.as_chunks::<4>() else {
            return;
        };
        if !at.is_multiple_of(data.len().max(4) as u64) {
            return;
        }
        for (word, register) in words.iter().zip((at..).step_by(4)) {
            let value = u32::from_le_bytes(*word);
            if (offset::DOORBELLS..u64::from(MSIX_TABLE)).contains(&register) {
                if let Some(session) = &*self.session.load() {
                    doorbells::ring(session, register - offset::DOORBELLS, value);
                }
            } else {
                self.write_register(register, value);
            }
        }
    }

    fn placed(&self, bar: u8, at: Option<GuestAddress>) {
        if bar == BAR {
            self.doorbells_placed(at.map(|at| at.0 + offset::DOORBELLS));
        }
    }

    fn bus_reset(&self) {
        self.reset_function();
        self.drive.endpoint.reset();
    }
}

impl Controller {
    fn msix_read(&self, at: u64, data: &mut [u8]) -> bool {
        self.drive
            .endpoint
            .msix()
            .is_some_and(|msix| msix.read(at, data))
    }
}
