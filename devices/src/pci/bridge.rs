//! A bridge of any kind: its type 1 configuration space, what it forwards, and how it is reset.

mod routing;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use vm_memory::GuestAddress;

use super::capability::{self, ExpressType, PowerState, express};
use super::config_space::{COMMAND_BUS_MASTER, COMMAND_MEMORY, ConfigSpace, INTERRUPT, Identity};
use super::function::{BarRange, Decode, PciFunction};
use super::locked;
use crate::guest_acts::{Act, ActLog, GuestActs};
use crate::latency::{Latency, Purpose};
use crate::lifecycle::{Deadline, Device, Finish, Phases, ShutdownError};

pub use routing::{BusNumbers, Windows};

/// Where the bus numbers are: primary, secondary, subordinate, secondary latency timer.
pub const BUS_NUMBERS: u16 = 0x18;
/// Bridge control, in the register of interrupt line and pin: secondary bus reset.
const SECONDARY_BUS_RESET: u32 = 1 << 22;

/// What a bridge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BridgeKind {
    /// A port of the root complex.
    RootPort,
    /// The port of a switch that leads to the root.
    Upstream,
    /// A port of a switch that leads away from the root.
    Downstream,
    /// A bridge from PCI Express to conventional PCI.
    PciBridge,
    /// A bridge between two conventional buses.
    ConventionalBridge,
}

impl BridgeKind {
    /// Vendor and device ID: those of parts whose drivers bind by class.
    fn ids(self) -> (u16, u16) {
        match self {
            Self::RootPort => (0x1B36, 0x000C),
            Self::Upstream => (0x104C, 0x8232),
            Self::Downstream => (0x104C, 0x8233),
            Self::PciBridge => (0x1B36, 0x000E),
            Self::ConventionalBridge => (0x1B36, 0x0001),
        }
    }

    fn express(self, port: u8) -> Option<ExpressType> {
        match self {
            Self::RootPort => Some(ExpressType::RootPort(port)),
            Self::Upstream => Some(ExpressType::Upstream(port)),
            Self::Downstream => Some(ExpressType::Downstream(port)),
            Self::PciBridge => Some(ExpressType::PciBridge),
            Self::ConventionalBridge => None,
        }
    }

    /// Whether one link leads away from the root: only device 0 can be behind it.
    pub fn has_link_below(self) -> bool {
        matches!(self, Self::RootPort | Self::Downstream)
    }

    /// Whether the bus behind is a conventional one.
    pub fn is_conventional_below(self) -> bool {
        matches!(self, Self::PciBridge | Self::ConventionalBridge)
    }
}

/// A PCI-to-PCI bridge (PCI-to-PCI bridge 1.2; PCIe base 6.0, 7.5.1.3), without I/O window.
pub struct Bridge {
    kind: BridgeKind,
    space: Mutex<ConfigSpace>,
    power_at: u16,
    express_at: Option<u16>,
    /// The register of the bus numbers, for routing without the lock.
    numbers: AtomicU32,
    /// Whether configuration and memory accesses pass: D0, link not disabled, bus not held in reset.
    passing: AtomicBool,
    occupied: AtomicBool,
    reset_latency: Mutex<Latency>,
    seed: u64,
    /// Teardowns so far, each with its draw.
    teardowns: AtomicU64,
    acts: ActLog,
}

impl Bridge {
    /// A bridge. `port` is its port number, and its slot's where it has one.
    pub fn new(kind: BridgeKind, port: u8) -> Self {
        let (vendor, device) = kind.ids();
        let (subsystem_vendor, subsystem) = (0x1AF4, 0x1100);
        let identity = Identity {
            vendor,
            device,
            class: 0x06_04_00,
            revision: 1,
            subsystem_vendor,
            subsystem,
        };
        let express = kind.express(port);
        let mut space = match express {
            Some(_) => ConfigSpace::express(),
            None => ConfigSpace::conventional(),
        };
        // Ports with services of their own have a pin beside MSI.
        let pin = u8::from(kind.has_link_below());
        space.define_type1(&identity, pin, kind.is_conventional_below());
        let power_at = capability::add_power_management(&mut space, kind.has_link_below());
        if express.is_some() {
            capability::add_msi(&mut space);
        }
        capability::add_subsystem(&mut space, subsystem_vendor, subsystem);
        let express_at = express.map(|express| capability::add_express(&mut space, express));
        Self {
            kind,
            space: Mutex::new(space),
            power_at,
            express_at,
            numbers: AtomicU32::new(0),
            passing: AtomicBool::new(true),
            occupied: AtomicBool::new(false),
            reset_latency: Mutex::default(),
            seed: 0,
            teardowns: AtomicU64::new(0),
            acts: ActLog::default(),
        }
    }

    /// The same bridge, whose reset at a teardown takes this long (a modelled latency), drawn from `seed`
    /// where it varies.
    pub fn with_reset_latency(self, latency: Latency, seed: u64) -> Self {
        Self {
            reset_latency: Mutex::new(latency),
            seed,
            ..self
        }
    }

    /// Changes what the next teardowns take.
    pub fn set_reset_latency(&self, latency: Latency) {
        *locked(&self.reset_latency) = latency;
    }

    /// What the bridge is.
    pub fn kind(&self) -> BridgeKind {
        self.kind
    }

    /// Says whether a device is at the other end of the link: presence detect and link status.
    pub fn set_occupied(&self, occupied: bool) {
        self.occupied.store(occupied, Ordering::Release);
    }

    /// The bus numbers as they are now.
    pub fn bus_numbers(&self) -> BusNumbers {
        let [primary, secondary, subordinate, _] =
            self.numbers.load(Ordering::Acquire).to_le_bytes();
        BusNumbers {
            primary,
            secondary,
            subordinate,
        }
    }

    /// Whether accesses reach the bus behind: the bridge is in D0, its link not disabled and the bus
    /// not held in reset.
    pub fn passes(&self) -> bool {
        self.passing.load(Ordering::Acquire)
    }

    /// What the bridge forwards: nothing while its memory decoding is off or nothing passes.
    pub fn windows(&self) -> Windows {
        self.open_windows(&locked(&self.space))
    }

    /// Back to the state after power-on. Presence of a device is not a state.
    pub fn reset(&self) {
        let mut space = locked(&self.space);
        space.reset();
        self.mirror(&space);
    }

    fn open_windows(&self, space: &ConfigSpace) -> Windows {
        if space.command() & COMMAND_MEMORY == 0 || !self.passing(space) {
            return Windows::default();
        }
        let pair = |offset| {
            let register = space.read(offset);
            let base = u64::from(register & 0xFFF0) << 16;
            let limit = u64::from(register >> 16 & 0xFFF0) << 16 | 0xF_FFFF;
            (base, limit)
        };
        let upper = |offset| u64::from(space.read(offset)) << 32;
        let (base, limit) = pair(0x20);
        let memory = base..=limit;
        let (base, limit) = pair(0x24);
        let prefetchable = base | upper(0x28)..=limit | upper(0x2C);
        Windows {
            memory: Some(memory).filter(|window| !window.is_empty()),
            prefetchable: Some(prefetchable).filter(|window| !window.is_empty()),
        }
    }

    fn passing(&self, space: &ConfigSpace) -> bool {
        capability::power_state(space, self.power_at) == PowerState::D0 && !self.is_down(space)
    }

    /// Whether the bus behind is held in reset, or its link is disabled.
    fn is_down(&self, space: &ConfigSpace) -> bool {
        let held = is_held_in_reset(space);
        let disabled = self
            .express_at
            .is_some_and(|at| space.read(at + express::LINK_CONTROL) & express::LINK_DISABLE != 0);
        held || disabled
    }

    fn mirror(&self, space: &ConfigSpace) {
        self.numbers
            .store(space.read(BUS_NUMBERS), Ordering::Release);
        self.passing.store(self.passing(space), Ordering::Release);
    }

    /// What a register says beyond its stored bits.
    fn computed(&self, space: &ConfigSpace, offset: u16, value: u32) -> u32 {
        let Some(at) = self.express_at.filter(|_| self.kind.has_link_below()) else {
            return value;
        };
        let occupied = self.occupied.load(Ordering::Acquire);
        let up = occupied && !self.is_down(space);
        let (status, status2) = capability::link_status(true, up);
        match offset.wrapping_sub(at) {
            express::LINK_CONTROL => value & 0xFFFF | status,
            express::LINK_CONTROL_2 => value & 0xFFFF | status2,
            express::SLOT_CONTROL if occupied => value | express::PRESENCE,
            _ => value,
        }
    }
}

/// Whether the guest holds the bus behind in reset.
fn is_held_in_reset(space: &ConfigSpace) -> bool {
    space.read(INTERRUPT) & SECONDARY_BUS_RESET != 0
}

impl PciFunction for Bridge {
    fn read_config(&self, offset: u16) -> u32 {
        let space = locked(&self.space);
        self.computed(&space, offset, space.read(offset))
    }

    fn write_config(&self, offset: u16, value: u32, mask: u32) -> Decode {
        let mut space = locked(&self.space);
        let state = |space: &ConfigSpace| {
            (
                self.open_windows(space),
                space.read(BUS_NUMBERS),
                self.passing(space),
            )
        };
        let guest_control = |space: &ConfigSpace| {
            let master = space.command() & COMMAND_BUS_MASTER != 0;
            (master, is_held_in_reset(space))
        };
        let was_down = self.is_down(&space);
        let before = state(&space);
        let (was_master, was_held) = guest_control(&space);
        capability::write_with_power(&mut space, self.power_at, offset, value, mask);
        self.mirror(&space);
        let (master, held) = guest_control(&space);
        if was_master && !master {
            self.acts.note(Act::BusMasterOff);
        }
        if held && !was_held {
            self.acts.note(Act::SecondaryBusReset);
        }
        if !was_down && self.is_down(&space) {
            Decode::ResetBehind
        } else if before != state(&space) {
            Decode::Changed
        } else {
            Decode::Same
        }
    }

    fn decoded_bars(&self) -> Vec<BarRange> {
        Vec::new()
    }

    fn read_bar(&self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xFF);
    }

    fn write_bar(&self, _bar: u8, _offset: u64, _data: &[u8]) {}

    fn placed(&self, _bar: u8, _at: Option<GuestAddress>) {}

    fn bus_reset(&self) {
        self.reset();
    }
}

impl Device for Bridge {
    fn shut_down(&self, _by: Deadline, phases: &mut Phases) -> Result<Finish, ShutdownError> {
        let start = Instant::now();
        self.reset();
        self.acts.begin_anew();
        let model = *locked(&self.reset_latency);
        let n = self.teardowns.fetch_add(1, Ordering::Relaxed);
        if model.is_zero() {
            phases.record("reset", start, Instant::now());
            return Ok(Finish::Now);
        }
        // Nothing is written to a bridge.
        let latency = model.draw(self.seed, Purpose::Teardown, n, 0);
        phases.model(latency);
        let end = start + latency;
        phases.record("reset", start, end);
        Ok(Finish::At(end))
    }

    fn guest_acts(&self) -> GuestActs {
        self.acts.read()
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests;
