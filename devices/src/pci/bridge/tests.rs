//! Bridge registers as a kernel probes them, windows, resets, links.

use std::time::Duration;

use super::*;
use crate::pci::config_space::COMMAND;

const KINDS: [BridgeKind; 5] = [
    BridgeKind::RootPort,
    BridgeKind::Upstream,
    BridgeKind::Downstream,
    BridgeKind::PciBridge,
    BridgeKind::ConventionalBridge,
];

fn write(bridge: &Bridge, offset: u16, value: u32) -> Decode {
    bridge.write_config(offset, value, u32::MAX)
}

fn capabilities(bridge: &Bridge) -> Vec<(u8, u16)> {
    let mut found = Vec::new();
    let mut at = bridge.read_config(0x34) as u8;
    while at != 0 {
        let [id, next, ..] = bridge.read_config(at.into()).to_le_bytes();
        found.push((id, at.into()));
        at = next;
    }
    found
}

fn express_at(bridge: &Bridge) -> u16 {
    capabilities(bridge)
        .into_iter()
        .find(|(id, _)| *id == 0x10)
        .unwrap()
        .1
}

#[test]
fn every_kind_is_a_bridge_with_the_capabilities_of_its_kind() {
    for kind in KINDS {
        let bridge = Bridge::new(kind, 3);
        assert_eq!(bridge.read_config(0x08) >> 8, 0x06_04_00);
        assert_eq!(bridge.read_config(0x0C) >> 16 & 0x7F, 1);
        let ids: Vec<u8> = capabilities(&bridge)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        if kind == BridgeKind::ConventionalBridge {
            assert_eq!(ids, [0x01, 0x0D]);
            assert_eq!(bridge.read_config(0x100), u32::MAX);
            continue;
        }
        assert_eq!(ids, [0x01, 0x05, 0x0D, 0x10]);
        let at = express_at(&bridge);
        let flags = bridge.read_config(at) >> 16;
        let (code, slot) = match kind {
            BridgeKind::RootPort => (4, 1),
            BridgeKind::Upstream => (5, 0),
            BridgeKind::Downstream => (6, 1),
            _ => (7, 0),
        };
        assert_eq!(flags, 2 | code << 4 | slot << 8, "{kind:?}");
        assert_eq!(
            bridge.read_config(at + 0x14) >> 6 & 1,
            0,
            "not hot-plug capable"
        );
    }
}

#[test]
fn links_and_slots_say_whether_a_device_is_there() {
    let port = Bridge::new(BridgeKind::RootPort, 5);
    let at = express_at(&port);
    assert_eq!(port.read_config(at + 0x0C) >> 24, 5, "port number");
    assert_eq!(port.read_config(at + 0x14) >> 19, 5, "slot number");
    assert_eq!(port.read_config(at + 0x10) >> 16, 0x1001, "no link");
    assert_eq!(port.read_config(at + 0x18) >> 22 & 1, 0, "no device");
    port.set_occupied(true);
    port.reset();
    assert_eq!(
        port.read_config(at + 0x10) >> 16,
        0x3043,
        "active, 8 GT/s, four lanes"
    );
    assert_eq!(port.read_config(at + 0x18) >> 22 & 1, 1);
    let upstream = Bridge::new(BridgeKind::Upstream, 0);
    assert_eq!(
        upstream.read_config(express_at(&upstream) + 0x10) >> 16,
        0x1043
    );
}

#[test]
fn windows_open_by_base_limit_and_memory_enable() {
    let bridge = Bridge::new(BridgeKind::RootPort, 0);
    assert_eq!(
        write(&bridge, COMMAND, 0x6),
        Decode::Same,
        "closed windows forward nothing"
    );
    assert_eq!(bridge.windows(), Windows::default());
    assert_eq!(write(&bridge, 0x20, 0xC010_C000), Decode::Changed);
    assert_eq!(bridge.windows().memory, Some(0xC000_0000..=0xC01F_FFFF));
    // One MiB at the top of what 32 bits can say, and the whole of it.
    write(&bridge, 0x20, 0xFFF0_FFF0);
    assert_eq!(bridge.windows().memory, Some(0xFFF0_0000..=0xFFFF_FFFF));
    write(&bridge, 0x20, 0xFFF0_0000);
    assert_eq!(bridge.windows().memory, Some(0..=0xFFFF_FFFF));
    write(&bridge, 0x20, 0x0000_0000);
    assert_eq!(
        bridge.windows().memory,
        Some(0..=0xF_FFFF),
        "base and limit zero is one MiB"
    );
    write(&bridge, 0x20, 0x0000_FFF0);
    assert_eq!(bridge.windows().memory, None);

    write(&bridge, 0x24, 0x1FF0_0000);
    write(&bridge, 0x28, 0x80);
    assert_eq!(bridge.windows().prefetchable, None, "limit below base");
    write(&bridge, 0x2C, 0x81);
    assert_eq!(
        bridge.windows().prefetchable,
        Some(0x80_0000_0000..=0x81_1FFF_FFFF)
    );
    write(&bridge, 0x24, 0xFFF0_FFF0);
    write(&bridge, 0x28, u32::MAX);
    write(&bridge, 0x2C, u32::MAX);
    assert_eq!(
        bridge.windows().prefetchable,
        Some(0xFFFF_FFFF_FFF0_0000..=u64::MAX)
    );
    assert_eq!(write(&bridge, COMMAND, 0), Decode::Changed);
    assert_eq!(bridge.windows(), Windows::default());
}

#[test]
fn a_kernel_finds_no_port_window_and_a_64_bit_prefetchable_one() {
    // As Linux probes for them.
    let bridge = Bridge::new(BridgeKind::Downstream, 1);
    write(&bridge, 0x1C, 0xE0F0);
    assert_eq!(bridge.read_config(0x1C) & 0xFFFF, 0);
    write(&bridge, 0x24, 0xFFE0_FFF0);
    assert_eq!(bridge.read_config(0x24) & 0x000F_000F, 0x0001_0001);
    write(&bridge, 0x28, u32::MAX);
    assert_eq!(bridge.read_config(0x28), u32::MAX);
}

#[test]
fn bus_numbers_are_read_without_the_lock() {
    let bridge = Bridge::new(BridgeKind::Upstream, 0);
    assert_eq!(write(&bridge, BUS_NUMBERS, 0xFF07_0302), Decode::Changed);
    let numbers = BusNumbers {
        primary: 2,
        secondary: 3,
        subordinate: 7,
    };
    assert_eq!(bridge.bus_numbers(), numbers);
    assert!(numbers.holds(3) && numbers.holds(7) && !numbers.holds(2) && !numbers.holds(8));
    assert_eq!(bridge.read_config(BUS_NUMBERS), 0x0007_0302);
    assert!(!BusNumbers::default().holds(0));
    assert!(
        BusNumbers {
            primary: 0,
            secondary: 4,
            subordinate: 1
        }
        .holds(4)
    );
}

#[test]
fn a_secondary_bus_reset_fires_at_its_rising_edge() {
    let bridge = Bridge::new(BridgeKind::PciBridge, 0);
    assert_eq!(
        write(&bridge, INTERRUPT, SECONDARY_BUS_RESET),
        Decode::ResetBehind
    );
    assert!(!bridge.passes());
    assert_eq!(write(&bridge, INTERRUPT, SECONDARY_BUS_RESET), Decode::Same);
    assert_eq!(write(&bridge, INTERRUPT, 0), Decode::Changed);
    assert!(bridge.passes());
    assert_eq!(
        bridge.write_config(INTERRUPT, SECONDARY_BUS_RESET, 0xFF),
        Decode::Same
    );
}

#[test]
fn a_disabled_link_goes_down_and_comes_back() {
    let port = Bridge::new(BridgeKind::RootPort, 0);
    port.set_occupied(true);
    let link = express_at(&port) + 0x10;
    assert_eq!(port.write_config(link, 0x10, 0xFFFF), Decode::ResetBehind);
    assert_eq!(port.read_config(link) >> 29 & 1, 0);
    assert!(!port.passes());
    assert_eq!(
        port.write_config(link, 0x20, 0xFFFF),
        Decode::Changed,
        "retrain, enabled again"
    );
    assert_eq!(port.read_config(link), 0x3043_0000);
}

#[test]
fn a_sleeping_bridge_passes_nothing() {
    let bridge = Bridge::new(BridgeKind::RootPort, 0);
    let at = capabilities(&bridge)[0].1 + 4;
    write(&bridge, COMMAND, 6);
    write(&bridge, 0x20, 0xC000_C000);
    assert_eq!(write(&bridge, at, 3), Decode::Changed);
    assert!(!bridge.passes());
    assert_eq!(bridge.windows(), Windows::default());
    assert_eq!(write(&bridge, at, 0), Decode::Changed);
    assert!(bridge.windows().memory.is_some());
}

#[test]
fn a_teardown_resets_the_registers_and_models_its_latency() {
    let latency = Duration::from_millis(500);
    for (bridge, waits) in [
        (Bridge::new(BridgeKind::RootPort, 0), false),
        (
            Bridge::new(BridgeKind::RootPort, 0).with_reset_latency(latency.into(), 1),
            true,
        ),
    ] {
        let fresh: Vec<u32> = (0..0x100)
            .step_by(4)
            .map(|at| bridge.read_config(at))
            .collect();
        write(&bridge, COMMAND, 6);
        write(&bridge, BUS_NUMBERS, 0x0007_0302);
        write(&bridge, 0x20, 0xC000_C000);
        let mut phases = Phases::default();
        let start = Instant::now();
        let by = Deadline::after(Duration::from_secs(5));
        let finish = bridge.shut_down(by, &mut phases).unwrap();
        assert!(
            start.elapsed() < latency,
            "a modelled latency is nobody's sleep"
        );
        match finish {
            Finish::Now => assert!(!waits),
            Finish::At(at) => assert!(waits && at >= start + latency),
        }
        assert_eq!(phases.as_slice().len(), 1);
        let after: Vec<u32> = (0..0x100)
            .step_by(4)
            .map(|at| bridge.read_config(at))
            .collect();
        assert_eq!(fresh, after);
        assert_eq!(bridge.bus_numbers(), BusNumbers::default());
    }
}

#[test]
fn what_the_guest_did_is_noted_until_the_teardown() {
    let bridge = Bridge::new(BridgeKind::RootPort, 0);
    let count = |act| bridge.guest_acts().of(act).map_or(0, |times| times.count);
    for command in [6, 2, 0, 6, 2] {
        write(&bridge, COMMAND, command);
    }
    assert_eq!(count(Act::BusMasterOff), 2, "on its way from 1 to 0 alone");
    for control in [1 << 22, 1 << 22, 0, 1 << 22] {
        bridge.write_config(INTERRUPT, control, 0x00FF_0000);
    }
    assert_eq!(count(Act::SecondaryBusReset), 2);
    bridge.reset();
    assert_eq!(
        count(Act::SecondaryBusReset),
        2,
        "a reset from above keeps it"
    );
    let by = Deadline::after(Duration::from_secs(5));
    bridge.shut_down(by, &mut Phases::default()).unwrap();
    assert!(bridge.guest_acts().is_empty());
}
