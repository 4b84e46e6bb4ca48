//! Placement against an oracle that reads the registers and compares everything with everything, under
//! programming of any kind; and single cases played by hand.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::pci::tests::fake::{Endpoint, Guest, bridge, host_windows, machine, place};
use crate::pci::{Bar, BridgeKind, Node, RootComplex, number_buses};

mod io_events;

struct Machine {
    root: RootComplex,
    endpoints: Vec<(String, Arc<Endpoint>)>,
}

/// A switch with two drives, a PCI bridge with a multi-BAR device and a drive behind another bridge,
/// and a drive on the root bus.
fn hierarchy() -> Machine {
    let mut endpoints = Vec::new();
    let mut endpoint = |id: &str, device: u8, bars: &[Bar]| {
        let endpoint = Endpoint::new(bars);
        endpoints.push((id.to_owned(), endpoint.clone()));
        Node::endpoint(id, place(device), endpoint)
    };
    let drive = [Bar::memory64(0, 0x4000)];
    let several = [
        Bar::memory32(0, 0x1000),
        Bar::memory32(1, 0x10_0000),
        Bar::memory64(2, 1 << 32).prefetchable(),
        Bar::memory64(4, 0x1000).prefetchable(),
    ];
    let down0 = bridge(
        "down0",
        0,
        BridgeKind::Downstream,
        vec![endpoint("nvme0", 0, &drive)],
    );
    let down1 = bridge(
        "down1",
        1,
        BridgeKind::Downstream,
        vec![endpoint("nvme1", 0, &several)],
    );
    let up = bridge("up", 0, BridgeKind::Upstream, vec![down0, down1]);
    let deep = vec![endpoint("nvme2", 4, &drive)];
    let behind = vec![
        endpoint("nvme3", 1, &several),
        bridge("conventional", 2, BridgeKind::ConventionalBridge, deep),
    ];
    let pci = bridge("pci", 0, BridgeKind::PciBridge, behind);
    let root = machine(vec![
        bridge("rp0", 1, BridgeKind::RootPort, vec![up]),
        bridge("rp1", 2, BridgeKind::RootPort, vec![pci]),
        endpoint("nvme4", 3, &drive),
    ]);
    number_buses(&root).unwrap();
    Machine { root, endpoints }
}

/// The ranges that shall be visible, from what the registers say: `(id, BAR, base, last)`.
fn oracle(machine: &Machine) -> Vec<(String, u8, u64, u64)> {
    let mut visible: Vec<(String, u8, u64, u64)> = Vec::new();
    let visits = machine.root.bus().walk();
    let node = |id: &str| visits.iter().find(|visit| visit.node.id() == id).unwrap();
    let awake = |node: &Node| {
        let read = |offset| u128::from(node.function().read_config(offset));
        !node.is_quarantined() && read(4) & 2 != 0 && read(0x44) & 3 == 0
    };
    for visit in &visits {
        let Some((id, endpoint)) = machine
            .endpoints
            .iter()
            .find(|(id, _)| id == visit.node.id())
        else {
            continue;
        };
        for bar in endpoint.config.bars() {
            let read = |offset| u128::from(visit.node.function().read_config(offset));
            let low = 0x10 + 4 * u16::from(bar.index());
            let high = if read(low) & 4 == 0 { 0 } else { read(low + 4) };
            let base = read(low) & !0xF | high << 32;
            let last = base + u128::from(bar.size()) - 1;
            let mut seen = awake(visit.node) && last <= u128::from(u64::MAX);
            let mut above = visit.parent;
            while let Some(parent) = above {
                let read = |offset| u128::from(parent.function().read_config(offset));
                let memory = (read(0x20) & 0xFFF0) << 16..(read(0x20) >> 20 << 20) + 0x10_0000;
                let prefetchable = (read(0x24) & 0xFFF0) << 16 | read(0x28) << 32
                    ..(read(0x24) >> 20 << 20 | read(0x2C) << 32) + 0x10_0000;
                let held = read(0x3C) >> 22 & 1 != 0;
                let forwards = [memory, prefetchable]
                    .iter()
                    .any(|window| window.contains(&base) && window.contains(&last));
                let link = parent.behind().unwrap().bridge.passes();
                seen &= awake(parent) && !held && forwards && link;
                above = node(parent.id()).parent;
            }
            let (base, last) = (base as u64, last as u64);
            seen &= host_windows()
                .iter()
                .any(|w| w.contains(&base) && w.contains(&last));
            seen &= !visible
                .iter()
                .any(|(_, _, from, to)| base <= *to && last >= *from);
            if seen {
                visible.push((id.clone(), bar.index(), base, last));
            }
        }
    }
    visible
}

fn check(machine: &Machine) {
    let mut expected = oracle(machine);
    expected.sort_by_key(|(_, _, base, _)| *base);
    let placed = machine.root.placed();
    let ranges: Vec<_> = expected
        .iter()
        .map(|(_, _, base, last)| *base..=*last)
        .collect();
    assert_eq!(placed, ranges);
    assert!(
        placed
            .windows(2)
            .all(|pair| pair[0].end() < pair[1].start()),
        "sorted, apart"
    );
    // What those that moved were told sums up to the table.
    for (id, endpoint) in &machine.endpoints {
        let told = endpoint.placed.lock().unwrap().clone();
        let mine = expected.iter().filter(|(owner, ..)| owner == id);
        assert_eq!(told, mine.map(|(_, bar, base, _)| (*bar, *base)).collect());
    }
    // Accesses arrive where they should, up to the last byte and not past it.
    for (id, _, base, last) in &expected {
        let endpoint = &machine
            .endpoints
            .iter()
            .find(|(owner, _)| owner == id)
            .unwrap()
            .1;
        let value = endpoint.told.load(Ordering::Relaxed) as u8;
        assert!(machine.root.write(GuestAddress(*last), &[value]));
        let mut data = [0; 2];
        assert!(machine.root.read(GuestAddress(*last), &mut data[..1]));
        assert_eq!(data[0], value);
        assert!(machine.root.read(GuestAddress(*base), &mut data));
        assert!(!machine.root.read(GuestAddress(*last), &mut data));
        assert_eq!(data, [0xFF; 2]);
    }
}

/// A guest's act on the function with this number in the walk.
#[derive(Clone, Debug)]
enum Act {
    Write(u16, u32, u32),
    Quarantine(bool),
}

/// Values as guests write them to BARs and windows, and some that make no sense.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            6,
            2,
            0x80,
            0x81,
            0xFF,
            0xC000_0000,
            0xC000_4000,
            0xC010_0000,
            0xC010_0008,
            0xC010_C000,
            0xC030_C000,
            0xDFF0_C000,
            0xDFFF_C000,
            0xFFFF_C000,
            0xFFF0_0000,
            0xFFF0_C000,
            0x0000_FFF0,
            u32::MAX,
        ]),
        any::<u32>(),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let registers = prop::sample::select(vec![
        0x04, 0x04, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x20, 0x20, 0x24, 0x28, 0x2C, 0x3C, 0x44,
    ]);
    let mask = prop::sample::select(vec![u32::MAX, u32::MAX, u32::MAX, 0xFFFF, 0xFF00_0000]);
    prop_oneof![
        30 => (registers, value(), mask).prop_map(|(at, value, mask)| Act::Write(at, value, mask)),
        1 => (0u16..1024, any::<u32>()).prop_map(|(at, value)| Act::Write(at * 4, value, u32::MAX)),
        1 => any::<bool>().prop_map(Act::Quarantine),
    ]
}

/// Opens all windows wide and puts BARs somewhere, so that acts find something to move.
fn program(machine: &Machine) {
    let guest = Guest(&machine.root);
    for (bus, device) in [(0, 1), (1, 0), (2, 0), (2, 1), (0, 2), (5, 0), (6, 2)] {
        guest.window(bus, device, 0xC000_0000, 0xDFF0_0000);
        guest.prefetchable_window(bus, device, 0x80_0000_0000, 0xFF_FFF0_0000);
    }
    guest.bar(3, 0, 0xC000_0000);
    guest.bar(7, 4, 0xC010_0000);
    guest.bar(0, 3, 0x80_0000_0000);
    for (bus, device, base) in [(4, 0, 0xC200_0000), (6, 1, 0xC300_0000)] {
        guest.write(bus, device, 0x10, base);
        guest.write(bus, device, 0x14, base + 0x10_0000);
        guest.write(bus, device, 0x1C, 0x90 + u32::from(device));
        guest.write(bus, device, 0x20, base + 0x20_0000);
        guest.command(bus, device, 6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_table_is_what_the_registers_ask_for(
        programmed in any::<bool>(),
        acts in prop::collection::vec((0usize..13, act()), 1..60),
    ) {
        let machine = hierarchy();
        if programmed {
            program(&machine);
            prop_assert_eq!(machine.root.placed().len(), 11);
        }
        check(&machine);
        let ids: Vec<String> =
            machine.root.bus().walk().iter().map(|visit| visit.node.id().to_owned()).collect();
        for (number, act) in acts {
            let id = &ids[number % ids.len()];
            match act {
                Act::Write(at, value, mask) => {
                    if let Some(address) = machine.root.address_of(id) {
                        machine.root.write_config(address, at, value, mask);
                    }
                }
                Act::Quarantine(quarantined) => {
                    machine.root.set_quarantined(id, quarantined);
                }
            }
            check(&machine);
        }
    }
}

#[test]
fn a_moved_bar_is_told_once_and_others_are_not() {
    let machine = hierarchy();
    program(&machine);
    let told = || -> Vec<usize> {
        machine
            .endpoints
            .iter()
            .map(|(_, each)| each.told.swap(0, Ordering::Relaxed))
            .collect()
    };
    told();
    let guest = Guest(&machine.root);
    guest.write(3, 0, 0x10, 0xC001_0000);
    assert_eq!(told(), [2, 0, 0, 0, 0], "away from there, to here");
    assert_eq!(machine.endpoints[0].1.at(0), Some(0xC001_0000));
    guest.write(3, 0, 0x10, 0xC001_0000);
    guest.write(3, 0, 0x3C, 0xFF);
    assert_eq!(told(), [0; 5]);
    // Closing the root port's windows takes away everything behind the switch.
    guest.command(0, 1, 0);
    assert_eq!(told(), [1, 4, 0, 0, 0]);
    guest.command(0, 1, 6);
    assert_eq!(told(), [1, 4, 0, 0, 0]);
}

#[test]
fn where_two_bars_meet_the_first_in_the_tree_stays() {
    let machine = hierarchy();
    program(&machine);
    let guest = Guest(&machine.root);
    let at = |index: usize| machine.endpoints[index].1.at(0);
    guest.bar(0, 3, 0xC000_0000);
    // The drive on the root bus comes before those behind the switch.
    assert_eq!((at(4), at(0)), (Some(0xC000_0000), None));
    guest.bar(0, 3, 0xC000_4000);
    assert_eq!((at(4), at(0)), (Some(0xC000_4000), Some(0xC000_0000)));
}

#[test]
fn two_bars_change_places() {
    let machine = hierarchy();
    program(&machine);
    let guest = Guest(&machine.root);
    // Each step is a placement of its own; nobody is ever told of a place that another one has.
    guest.bar(3, 0, 0xC010_0000);
    guest.bar(7, 4, 0xC000_0000);
    assert_eq!(machine.endpoints[0].1.at(0), Some(0xC010_0000));
    assert_eq!(machine.endpoints[2].1.at(0), Some(0xC000_0000));
    check(&machine);
}

#[test]
fn a_bar_must_lie_wholly_in_every_window() {
    let machine = hierarchy();
    program(&machine);
    let guest = Guest(&machine.root);
    let at = || machine.endpoints[2].1.at(0);
    // The innermost bridge opens one MiB; the BAR moves over its ends.
    guest.window(6, 2, 0xC040_0000, 0xC040_0000);
    for (base, visible) in [
        (0xC03F_C000, false),
        (0xC040_0000, true),
        (0xC04F_C000, true),
        (0xC050_0000, false),
    ] {
        guest.bar(7, 4, base);
        assert_eq!(at().is_some(), visible, "{base:#x}");
    }
    // Far above: through the prefetchable windows, whatever the BAR is.
    guest.bar(7, 4, 0x81_0000_0000);
    assert_eq!(at(), Some(0x81_0000_0000));
    // Outside the host bridge's windows.
    guest.window(6, 2, 0, 0xFFF0_0000);
    guest.window(5, 0, 0, 0xFFF0_0000);
    guest.window(0, 2, 0, 0xFFF0_0000);
    guest.bar(7, 4, 0xBFFF_C000);
    assert_eq!(at(), None);
    guest.bar(7, 4, 0xFFFF_C000);
    assert_eq!(at(), None);
}

#[test]
fn quarantine_takes_bars_away_with_everything_behind() {
    let machine = hierarchy();
    program(&machine);
    assert!(machine.root.set_quarantined("up", true));
    assert!(!machine.root.set_quarantined("nobody", true));
    let guest = Guest(&machine.root);
    assert_eq!(machine.root.placed().len(), 6);
    assert_eq!(machine.endpoints[0].1.at(0), None);
    assert_eq!(guest.read(1, 0, 0), u32::MAX);
    assert_eq!(guest.read(3, 0, 0), u32::MAX);
    assert_eq!(machine.root.address_of("nvme0"), None);
    let mut data = [0; 4];
    assert!(!machine.root.read(GuestAddress(0xC000_0000), &mut data));
    assert_eq!(data, [0xFF; 4]);
    guest.write(1, 0, 0x18, 0);
    assert!(machine.root.set_quarantined("up", false));
    assert_eq!(
        guest.read(3, 0, 0) as u16,
        0x1B36,
        "a write during quarantine does nothing"
    );
    assert_eq!(machine.root.placed().len(), 11);
}

#[test]
fn vcpus_read_while_bars_move() {
    let machine = hierarchy();
    program(&machine);
    std::thread::scope(|threads| {
        let (root, drive) = (&machine.root, &machine.endpoints[0].1);
        for _ in 0..2 {
            threads.spawn(|| {
                let mut data = [0; 4];
                for _ in 0..20_000 {
                    root.read(GuestAddress(0xC000_0000), &mut data);
                    root.write(GuestAddress(0xC001_0000), &data);
                }
            });
        }
        for device in [3, 4] {
            threads.spawn(move || {
                let guest = Guest(root);
                for round in 0..500 {
                    guest.write(device, 0, 0x10, 0xC000_0000 + (round % 2) * 0x1_0000);
                }
            });
        }
        assert!(drive.at(0).is_none_or(|at| at < 0xC002_0000));
    });
    check(&machine);
}
