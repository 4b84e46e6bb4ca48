//! Stand-ins for what is around the hierarchy in this module's tests: the machine's interrupt routing,
//! a line, a plain endpoint, and a guest's accesses.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vm_device::DeviceMmio;
use vm_device::bus::MmioAddress;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use crate::interrupt::{IntxLine, MsiMessage, MsiRouter, Route};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};
use crate::pci::*;

pub const NVME: Identity = Identity {
    vendor: 0x1B36,
    device: 0x0010,
    class: 0x01_08_02,
    revision: 2,
    subsystem_vendor: 0x1AF4,
    subsystem: 0x1100,
};

/// Routing that keeps what it is told.
#[derive(Default)]
pub struct Router {
    pub messages: Mutex<BTreeMap<Route, Option<MsiMessage>>>,
    pub changes: AtomicUsize,
    pub detached: AtomicUsize,
    /// A change with this message in it is refused as a whole.
    pub refuses: Mutex<Option<MsiMessage>>,
    /// All are.
    pub refuses_all: AtomicBool,
}

impl Router {
    pub fn message(&self, route: u32) -> Option<MsiMessage> {
        self.messages
            .lock()
            .unwrap()
            .get(&Route(route))
            .copied()
            .flatten()
    }

    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::Relaxed)
    }
}

impl MsiRouter for Router {
    fn attach(&self, vectors: &[&EventFd]) -> io::Result<Vec<Route>> {
        let mut messages = self.messages.lock().unwrap();
        let first = messages.len() as u32;
        let routes: Vec<_> = (first..).map(Route).take(vectors.len()).collect();
        messages.extend(routes.iter().map(|route| (*route, None)));
        Ok(routes)
    }

    fn set_messages(&self, changes: &[(Route, Option<MsiMessage>)]) -> io::Result<()> {
        assert!(!changes.is_empty());
        self.changes.fetch_add(1, Ordering::Relaxed);
        let refused = *self.refuses.lock().unwrap();
        let is_refused = refused.is_some() && changes.iter().any(|(_, to)| *to == refused);
        if is_refused || self.refuses_all.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.messages
            .lock()
            .unwrap()
            .extend(changes.iter().copied());
        Ok(())
    }

    fn detach(&self, routes: &[(Route, &EventFd)]) {
        self.detached.fetch_add(routes.len(), Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Line {
    pub asserted: AtomicBool,
    pub changes: AtomicUsize,
}

impl IntxLine for Line {
    fn set(&self, asserted: bool) {
        let before = self.asserted.swap(asserted, Ordering::Relaxed);
        assert_ne!(before, asserted, "told twice");
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// An endpoint whose BARs are a few bytes of memory. It keeps where it was told that its BARs are.
pub struct Endpoint {
    pub config: EndpointConfig,
    pub memory: Mutex<[u8; 16]>,
    pub placed: Mutex<BTreeMap<u8, u64>>,
    pub told: AtomicUsize,
    pub resets: AtomicUsize,
}

impl Endpoint {
    pub fn new(bars: &[Bar]) -> Arc<Self> {
        let builder = EndpointConfig::builder(NVME);
        let builder = bars.iter().fold(builder, |builder, bar| builder.bar(*bar));
        Arc::new(Self {
            config: builder.build().unwrap(),
            memory: Mutex::default(),
            placed: Mutex::default(),
            told: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
        })
    }

    /// A drive: one 64-bit BAR of 16 KiB.
    pub fn drive() -> Arc<Self> {
        Self::new(&[Bar::memory64(0, 0x4000)])
    }

    pub fn at(&self, bar: u8) -> Option<u64> {
        self.placed.lock().unwrap().get(&bar).copied()
    }

    /// An access of `length` bytes lies in the BAR.
    fn assert_inside(&self, bar: u8, offset: u64, length: usize) {
        let bars = self.config.bars();
        let found = bars.iter().find(|each| each.index() == bar).unwrap();
        assert!(offset + length as u64 <= found.size());
    }
}

impl PciFunction for Endpoint {
    fn read_config(&self, offset: u16) -> u32 {
        self.config.read(offset)
    }

    fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode {
        let write = self.config.write(offset, value, mask);
        if write.flr {
            self.bus_reset();
            return Decode::Changed;
        }
        write.decode
    }

    fn decoded_bars(&self) -> Vec<BarRange> {
        self.config.decoded_bars()
    }

    fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]) {
        self.assert_inside(bar, offset, data.len());
        let memory = self.memory.lock().unwrap();
        data.iter_mut()
            .zip(offset..)
            .for_each(|(byte, at)| *byte = memory[at as usize % 16]);
    }

    fn write_bar(&self, bar: u8, offset: u64, data: &[u8]) {
        self.assert_inside(bar, offset, data.len());
        let mut memory = self.memory.lock().unwrap();
        data.iter()
            .zip(offset..)
            .for_each(|(byte, at)| memory[at as usize % 16] = *byte);
    }

    fn placed(&self, bar: u8, at: Option<GuestAddress>) {
        self.told.fetch_add(1, Ordering::Relaxed);
        let mut placed = self.placed.lock().unwrap();
        match at {
            Some(at) => assert_eq!(placed.insert(bar, at.0), None, "placed twice"),
            None => assert!(placed.remove(&bar).is_some(), "taken away twice"),
        }
    }

    fn bus_reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.config.reset();
    }
}

impl Device for Endpoint {
    fn shut_down(&self, _by: Deadline, _phases: &mut Phases) -> Result<Finish, ShutdownError> {
        self.config.reset();
        Ok(Finish::Now)
    }

    fn release(&self) {
        self.config.release();
    }
}

pub fn place(device: u8) -> DevFn {
    DevFn::new(device, 0).unwrap()
}

pub fn bridge(id: &str, device: u8, kind: BridgeKind, behind: Vec<Node>) -> Node {
    Node::bridge(
        id,
        place(device),
        Arc::new(Bridge::new(kind, device)),
        behind,
    )
    .unwrap()
}

/// Host windows like a PC's: below 4 GiB and far above.
pub fn host_windows() -> Vec<std::ops::RangeInclusive<u64>> {
    vec![0xC000_0000..=0xDFFF_FFFF, 0x80_0000_0000..=0xFF_FFFF_FFFF]
}

pub fn machine(nodes: Vec<Node>) -> RootComplex {
    RootComplex::new(Arc::new(Bus::root(nodes).unwrap()), host_windows())
}

/// What a guest does to configuration space, over ECAM.
pub struct Guest<'a>(pub &'a RootComplex);

impl Guest<'_> {
    fn offset(bus: u8, device: u8, register: u16) -> u64 {
        u64::from(bus) << 20 | u64::from(device) << 15 | u64::from(register)
    }

    pub fn read(&self, bus: u8, device: u8, register: u16) -> u32 {
        let mut data = [0; 4];
        self.0.mmio_read(
            MmioAddress(0),
            Self::offset(bus, device, register),
            &mut data,
        );
        u32::from_le_bytes(data)
    }

    pub fn read16(&self, bus: u8, device: u8, register: u16) -> u16 {
        let mut data = [0; 2];
        self.0.mmio_read(
            MmioAddress(0),
            Self::offset(bus, device, register),
            &mut data,
        );
        u16::from_le_bytes(data)
    }

    pub fn write(&self, bus: u8, device: u8, register: u16, value: u32) {
        let offset = Self::offset(bus, device, register);
        self.0
            .mmio_write(MmioAddress(0), offset, &value.to_le_bytes());
    }

    pub fn write16(&self, bus: u8, device: u8, register: u16, value: u16) {
        let offset = Self::offset(bus, device, register);
        self.0
            .mmio_write(MmioAddress(0), offset, &value.to_le_bytes());
    }

    pub fn command(&self, bus: u8, device: u8, command: u16) {
        self.write16(bus, device, 4, command);
    }

    /// Opens a bridge's memory window over whole MiBs and turns it on.
    pub fn window(&self, bus: u8, device: u8, base: u32, limit: u32) {
        self.write(bus, device, 0x20, base >> 16 & 0xFFF0 | limit & 0xFFF0_0000);
        self.command(bus, device, 6);
    }

    /// Opens a bridge's prefetchable window over whole MiBs and turns it on.
    pub fn prefetchable_window(&self, bus: u8, device: u8, base: u64, limit: u64) {
        let register = base as u32 >> 16 & 0xFFF0 | limit as u32 & 0xFFF0_0000;
        self.write(bus, device, 0x24, register);
        self.write(bus, device, 0x28, (base >> 32) as u32);
        self.write(bus, device, 0x2C, (limit >> 32) as u32);
        self.command(bus, device, 6);
    }

    /// Programs a 64-bit BAR 0 and turns decoding on.
    pub fn bar(&self, bus: u8, device: u8, base: u64) {
        self.write(bus, device, 0x10, base as u32);
        self.write(bus, device, 0x14, (base >> 32) as u32);
        self.command(bus, device, 6);
    }

    /// The offset of a capability.
    pub fn capability(&self, bus: u8, device: u8, id: u8) -> Option<u16> {
        let mut at = self.read(bus, device, 0x34) as u8;
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            let [found, next, ..] = self.read(bus, device, at.into()).to_le_bytes();
            if found == id {
                return Some(at.into());
            }
            at = next;
        }
        panic!("the capability list does not end");
    }
}
