//! The root complex: the host bridge, the two ways to configuration space (ECAM and the ports CF8 to
//! CFF), and memory accesses to BARs.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use vm_device::bus::{MmioAddress, MmioAddressOffset, PioAddress, PioAddressOffset};
use vm_device::{DeviceMmio, DevicePio};
use vm_memory::GuestAddress;

use super::bus::{Address, Bus, DevFn, Node, Visit};
use super::config_space::{ConfigSpace, Identity};
use super::function::Decode;
use super::placement::Placement;
use super::{locked, read_registers, write_registers};
use crate::io_event::IoEvents;

/// Size of the ECAM region for 256 buses: 1 MiB a bus (PCIe base 6.0, 7.2.2).
pub const ECAM_SIZE: u64 = 256 << 20;
/// The first of the eight ports that [`ConfigPorts`] answers.
pub const CONFIG_PORTS: u16 = 0xCF8;
/// How many ports [`ConfigPorts`] answers.
pub const CONFIG_PORTS_LEN: u16 = 8;

const HOST_BRIDGE: Identity = Identity {
    vendor: 0x1B36,
    device: 0x0008,
    class: 0x06_00_00,
    revision: 0,
    subsystem_vendor: 0x1AF4,
    subsystem: 0x1100,
};

/// The root of the PCI hierarchy, shared by all vCPUs. As a `DeviceMmio` it is the ECAM region.
pub struct RootComplex {
    bus: Arc<Bus>,
    host_bridge: Mutex<ConfigSpace>,
    /// The address register at port CF8.
    config_address: AtomicU32,
    placement: Placement,
}

impl RootComplex {
    /// The root complex over `bus`, whose host bridge forwards `windows` of guest-physical memory.
    pub fn new(bus: Arc<Bus>, windows: Vec<RangeInclusive<u64>>) -> Self {
        let mut host_bridge = ConfigSpace::conventional();
        host_bridge.define_type0(&HOST_BRIDGE, 0);
        Self {
            bus,
            host_bridge: Mutex::new(host_bridge),
            config_address: AtomicU32::new(0),
            placement: Placement::new(windows),
        }
    }

    /// Keeps eventfds to the BARs whose functions asked for them.
    pub fn with_io_events(self, io_events: Arc<dyn IoEvents>) -> Self {
        Self {
            placement: self.placement.with_io_events(io_events),
            ..self
        }
    }

    /// The root bus.
    pub fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// A guest's read of memory space. `data` is all-ones and the answer `false` where no BAR is.
    pub fn read(&self, address: GuestAddress, data: &mut [u8]) -> bool {
        self.placement.read(address.0, data)
    }

    /// A guest's write to memory space. Says whether a BAR is there.
    pub fn write(&self, address: GuestAddress, data: &[u8]) -> bool {
        self.placement.write(address.0, data)
    }

    /// Where BARs are visible, in the order of addresses.
    pub fn placed(&self) -> Vec<RangeInclusive<u64>> {
        self.placement.ranges()
    }

    /// After a teardown of all functions: the root complex's own registers go back to their state after
    /// power-on, and BARs are placed by what is programmed now. Bus numbers are 0 then: see
    /// [`number_buses`](super::number_buses).
    pub fn reset(&self) {
        locked(&self.host_bridge).reset();
        self.config_address.store(0, Ordering::Release);
        self.place();
    }

    /// Places BARs anew: for functions that reset themselves without a configuration write.
    pub fn place(&self) {
        self.placement.update(&self.bus);
    }

    /// Quarantines a function (or lets it go): it and everything behind it read all-ones, ignore
    /// writes, and have no BARs. Returns whether the function exists.
    pub fn set_quarantined(&self, id: &str, quarantined: bool) -> bool {
        let Some(node) = self.bus.find(id) else {
            return false;
        };
        node.set_quarantined(quarantined);
        self.place();
        true
    }

    /// The address at which the guest reaches a function now, if it does.
    pub fn address_of(&self, id: &str) -> Option<Address> {
        let visits = self.bus.walk();
        let visit = visits.iter().find(|visit| visit.node.id() == id)?;
        address_of(&self.bus, visit)
    }

    /// The addresses of all functions that the guest reaches now, by id.
    pub fn addresses(&self) -> HashMap<&str, Address> {
        let visits = self.bus.walk();
        let reached = visits
            .iter()
            .filter_map(|visit| Some((visit.node.id(), address_of(&self.bus, visit)?)));
        reached.collect()
    }

    /// Reads the configuration register at `offset` (a multiple of 4) of the function at `address`.
    pub fn read_config(&self, address: Address, offset: u16) -> u32 {
        if is_host_bridge(address) {
            return locked(&self.host_bridge).read(offset);
        }
        route(&self.bus, address).map_or(u32::MAX, |node| node.read_config(offset))
    }

    /// Writes the bytes of `value` that `mask` selects to a configuration register.
    pub fn write_config(&self, address: Address, offset: u16, value: u32, mask: u32) {
        if is_host_bridge(address) {
            return locked(&self.host_bridge).write(offset, value, mask);
        }
        let Some(node) = route(&self.bus, address) else {
            return;
        };
        match node.write_config(offset, value, mask) {
            Decode::Same => {}
            Decode::Changed => self.place(),
            Decode::ResetBehind => {
                for visit in node.behind().iter().flat_map(|behind| behind.bus.walk()) {
                    visit.node.function().bus_reset();
                }
                self.place();
            }
        }
    }
}

fn is_host_bridge(address: Address) -> bool {
    address.bus == 0 && address.devfn.device() == 0 && address.devfn.function() == 0
}

/// The function that a configuration access arrives at, by the bus numbers programmed now: on each bus
/// the first bridge whose range holds the bus takes it (PCI-to-PCI bridge 1.2, 3.1.2).
fn route(root: &Bus, address: Address) -> Option<&Node> {
    let mut bus = root;
    let mut here = 0;
    while here != address.bus {
        let (behind, numbers) = bus
            .nodes()
            .iter()
            .filter(|node| !node.is_quarantined())
            .filter_map(|node| node.behind())
            .map(|behind| (behind, behind.bridge.bus_numbers()))
            .find(|(_, numbers)| numbers.holds(address.bus))?;
        if !behind.bridge.passes() {
            return None;
        }
        (bus, here) = (&behind.bus, numbers.secondary);
    }
    bus.at(address.devfn)
}

fn address_of(root: &Bus, visit: &Visit<'_>) -> Option<Address> {
    let above = visit.parent.and_then(Node::behind);
    let bus = above.map_or(0, |behind| behind.bridge.bus_numbers().secondary);
    let address = Address {
        bus,
        devfn: visit.node.devfn(),
    };
    route(root, address)
        .filter(|node| node.id() == visit.node.id())
        .map(|_| address)
}

impl DeviceMmio for RootComplex {
    fn mmio_read(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        read_registers(offset, data, |register| match ecam(register) {
            Some((address, offset)) => self.read_config(address, offset),
            None => u32::MAX,
        });
    }

    fn mmio_write(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        write_registers(offset, data, |register, value, mask| {
            if let Some((address, offset)) = ecam(register) {
                self.write_config(address, offset, value, mask);
            }
        });
    }
}

/// The register that an offset in the ECAM region means.
fn ecam(offset: u64) -> Option<(Address, u16)> {
    let bus = u8::try_from(offset >> 20).ok()?;
    let devfn = DevFn::from((offset >> 12) as u8);
    Some((Address { bus, devfn }, (offset & 0xFFF) as u16))
}

/// The ports CF8 to CFF: the configuration mechanism of PCI local bus 3.0, 3.2.2.3.2. Register it over
/// all eight ports. Byte accesses to CF9, which is the reset control register, go to the device given.
pub struct ConfigPorts {
    root: Arc<RootComplex>,
    reset_control: Arc<dyn DevicePio + Send + Sync>,
}

const ADDRESS_ENABLE: u32 = 1 << 31;
const ADDRESS_WRITABLE: u32 = 0x80FF_FFFC;
const RESET_CONTROL: u16 = 0xCF9;

impl ConfigPorts {
    /// The ports of `root`. `reset_control` sees its accesses as offset 0 from base CF9.
    pub fn new(root: Arc<RootComplex>, reset_control: Arc<dyn DevicePio + Send + Sync>) -> Self {
        Self {
            root,
            reset_control,
        }
    }

    /// The function and the offset that the data port at `port` (4 to 7) means now.
    fn target(&self, port: u16) -> Option<(Address, u64)> {
        let address = self.root.config_address.load(Ordering::Acquire);
        if address & ADDRESS_ENABLE == 0 {
            return None;
        }
        let [register, devfn, bus, _] = address.to_le_bytes();
        let offset = u64::from(register & 0xFC) + u64::from(port & 3);
        Some((
            Address {
                bus,
                devfn: DevFn::from(devfn),
            },
            offset,
        ))
    }
}

/// Whether an access stays in the data ports.
fn is_data(port: u16, len: usize) -> bool {
    (4..8).contains(&port) && len <= usize::from(8 - port)
}

impl DevicePio for ConfigPorts {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        match (offset, data.len()) {
            (0, 4) => {
                let address = self.root.config_address.load(Ordering::Acquire);
                data.copy_from_slice(&address.to_le_bytes());
            }
            (1, 1) => self
                .reset_control
                .pio_read(PioAddress(RESET_CONTROL), 0, data),
            (port, len) if is_data(port, len) => match self.target(port) {
                Some((address, offset)) => read_registers(offset, data, |register| {
                    self.root.read_config(address, register as u16)
                }),
                None => data.fill(0xFF),
            },
            _ => data.fill(0xFF),
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        match (offset, data.len()) {
            (0, 4) => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(data);
                let address = u32::from_le_bytes(bytes) & ADDRESS_WRITABLE;
                self.root.config_address.store(address, Ordering::Release);
            }
            (1, 1) => self
                .reset_control
                .pio_write(PioAddress(RESET_CONTROL), 0, data),
            (port, len) if is_data(port, len) => {
                if let Some((address, offset)) = self.target(port) {
                    write_registers(offset, data, |register, value, mask| {
                        self.root
                            .write_config(address, register as u16, value, mask);
                    });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
