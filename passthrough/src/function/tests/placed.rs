//! BARs that the guest programs anywhere: over each other, over memory that is none of theirs, and in halves.

use std::ops::RangeInclusive;
use std::sync::Arc;

use devices::pci::{Address, Attachment, Bus, DevFn, Node, RootComplex};
use proptest::prelude::*;
use vm_memory::GuestAddress;

use super::device::*;
use super::{Bench, COMMAND, MASTER, MEMORY};

const LOW: RangeInclusive<u64> = 0xC000_0000..=0xDFFF_FFFF;
const HIGH: RangeInclusive<u64> = 0x80_0000_0000..=0xFF_FFFF_FFFF;
/// What of BAR 0 is mapped: all but the pages of the MSI-X table and its pending bits.
const MAPPED: u64 = 0x2000;

/// Two functions of a machine: device 1 and device 2 of the root bus.
struct Machine {
    benches: [Bench; 2],
    root: RootComplex,
}

impl Machine {
    fn new() -> Self {
        let bench = || Bench::of(Played::drive(), Attachment::RootComplex);
        let benches = [bench(), bench()];
        let nodes = (1..).zip(&benches).map(|(device, bench)| {
            let devfn = DevFn::new(device, 0).unwrap();
            Node::endpoint(format!("drive{device}"), devfn, bench.function.clone())
        });
        let bus = Arc::new(Bus::root(nodes.collect()).unwrap());
        let root = RootComplex::new(bus, vec![LOW, HIGH]);
        Self { benches, root }
    }

    fn write(&self, function: usize, offset: u16, value: u32) {
        let devfn = DevFn::new(function as u8 + 1, 0).unwrap();
        let address = Address { bus: 0, devfn };
        self.root.write_config(address, offset, value, u32::MAX);
    }

    fn decode(&self, function: usize, on: bool) {
        let value = if on { MEMORY | MASTER } else { MASTER };
        self.write(function, COMMAND, value);
    }

    /// Has BAR 0 at `at`, decoded; the others where nothing is.
    fn program(&self, function: usize, at: u64) {
        self.decode(function, false);
        self.write(function, 0x10, at as u32);
        self.write(function, 0x14, (at >> 32) as u32);
        self.decode(function, true);
    }

    fn mapped(&self, function: usize) -> Vec<(u64, u64)> {
        self.benches[function].mapper.now()
    }

    /// Which function a read at `at` reaches.
    fn reached(&self, at: u64) -> Option<usize> {
        let reads = |bench: &Bench| bench.device.reads.lock().unwrap().len();
        let before: Vec<_> = self.benches.iter().map(reads).collect();
        let mut data = [0; 4];
        let found = self.root.read(GuestAddress(at), &mut data);
        let after: Vec<_> = self.benches.iter().map(reads).collect();
        let reached = (0..2).find(|at| before[*at] != after[*at]);
        assert_eq!(found, reached.is_some());
        reached
    }
}

#[test]
fn a_bar_over_memory_that_is_not_devices_is_nowhere() {
    let machine = Machine::new();
    let elsewhere = [
        // Guest memory, the last of it, ECAM, the IOAPIC, the window of interrupt messages, the reset vector.
        0,
        0x10_0000,
        0xBFFF_C000,
        0xE000_0000,
        0xFEC0_0000,
        0xFEE0_0000,
        0xFFFF_C000,
        // Guest memory above 4 GiB, the last before the window, and beyond all that a guest can address.
        1 << 32,
        0x7F_FFFF_C000,
        1 << 52,
        0xFFFF_FFFF_FFFF_C000,
    ];
    for at in elsewhere {
        machine.program(0, at);
        assert_eq!(machine.mapped(0), [], "{at:#x}");
        assert_eq!(machine.root.placed(), [], "{at:#x}");
        assert_eq!(machine.reached(at), None, "{at:#x}");
    }
    machine.program(0, 0xDFFF_C000);
    assert_eq!(machine.mapped(0), [(0xDFFF_C000, MAPPED)]);
    assert_eq!(machine.reached(0xDFFF_C000), Some(0));
}

#[test]
fn a_bar_that_is_written_in_halves_is_where_each_half_leads() {
    let machine = Machine::new();
    machine.program(0, 0x80_0000_0000);
    machine.write(0, 0x10, 0x1000_0000);
    assert_eq!(machine.mapped(0), [(0x80_1000_0000, MAPPED)]);
    machine.write(0, 0x14, 0x81);
    assert_eq!(machine.mapped(0), [(0x81_1000_0000, MAPPED)]);
    // On its way below 4 GiB it would be in guest memory.
    machine.write(0, 0x14, 0);
    assert_eq!(machine.mapped(0), []);
    machine.write(0, 0x10, 0xC100_0000);
    assert_eq!(machine.mapped(0), [(0xC100_0000, MAPPED)]);
    // A driver's kernel asks for its size with decoding on.
    machine.write(0, 0x10, u32::MAX);
    assert_eq!(machine.mapped(0), []);
    machine.write(0, 0x10, 0xC100_0000);
    assert_eq!(machine.mapped(0), [(0xC100_0000, MAPPED)]);
}

#[test]
fn a_bar_that_is_moved_without_decoding_comes_to_its_new_place_alone() {
    let machine = Machine::new();
    machine.program(0, 0xC000_0000);
    machine.decode(0, false);
    assert_eq!(machine.mapped(0), []);
    machine.benches[0].mapper.take_calls();
    machine.write(0, 0x10, 0xC200_0000);
    machine.write(0, 0x10, 0xC300_0000);
    assert_eq!(machine.benches[0].mapper.take_calls(), []);
    machine.decode(0, true);
    assert_eq!(machine.mapped(0), [(0xC300_0000, MAPPED)]);
    assert_eq!(machine.reached(0xC000_0000), None);
}

#[test]
fn of_two_bars_at_one_place_the_first_is_there_and_the_second_follows_when_it_goes() {
    let machine = Machine::new();
    machine.program(1, 0xC000_0000);
    assert_eq!(machine.mapped(1), [(0xC000_0000, MAPPED)]);
    for at in [0xC000_0000, 0xC000_0000 - 0x4000] {
        machine.program(0, at);
        let overlaps = at == 0xC000_0000;
        let seen = if overlaps { Some(0) } else { Some(1) };
        assert_eq!(machine.reached(0xC000_0000), seen);
        assert_eq!(machine.mapped(1).is_empty(), overlaps);
    }
    machine.program(0, 0xC000_0000);
    machine.program(0, 0xC800_0000);
    assert_eq!(machine.mapped(0), [(0xC800_0000, MAPPED)]);
    assert_eq!(machine.mapped(1), [(0xC000_0000, MAPPED)]);
    // BAR 3 of the same function, over its BAR 0.
    machine.write(0, 0x1C, 0xC800_0000);
    assert_eq!(machine.mapped(0), [(0xC800_0000, MAPPED)]);
    machine.program(0, 0xC900_0000);
    let both = [(0xC800_0000, 0x1_0000), (0xC900_0000, MAPPED)];
    assert_eq!(machine.mapped(0), both);
}

/// Bases that are near each other and near the ends of the windows.
fn base() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0_u32..16).prop_map(|n| 0xC000_0000 + n * 0x2000),
        (0_u32..8).prop_map(|n| 0xDFFF_0000 + n * 0x4000),
        Just(0),
        Just(0x80),
        Just(0xFEE0_0000),
        any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_is_mapped_beside_the_windows_or_over_another(
        writes in prop::collection::vec((0_usize..2, 0_u16..6, base(), any::<bool>()), 1..60),
    ) {
        let machine = Machine::new();
        machine.program(0, 0xC000_0000);
        machine.program(1, 0xC000_4000);
        for (function, register, value, decode) in writes {
            match register {
                5 => machine.decode(function, decode),
                // BAR 2 is I/O.
                register => machine.write(function, 0x10 + 4 * register, value),
            }
            let mut mapped = [machine.mapped(0), machine.mapped(1)].concat();
            mapped.sort_unstable();
            let placed = machine.root.placed();
            for (at, size) in &mapped {
                let last = at + size - 1;
                let holds = |range: &RangeInclusive<u64>| range.contains(at) && range.contains(&last);
                prop_assert!([LOW, HIGH].iter().any(holds), "{at:#x}");
                prop_assert!(placed.iter().any(holds), "{at:#x} is not decoded");
            }
            for pair in mapped.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{mapped:#x?}");
            }
        }
    }
}
