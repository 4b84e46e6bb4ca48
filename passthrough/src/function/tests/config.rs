//! Configuration space as the guest finds it.

use devices::guest_acts::Act;
use devices::lifecycle::Device;
use devices::pci::{Attachment, Decode, PciFunction};

use super::device::*;
use super::{Bench, COMMAND, INTX_DISABLE, MASTER, MEMORY};
use crate::client::{Region, region};
use crate::function::{Function, FunctionConfig, FunctionError, Machine};

/// The capabilities that a guest finds: id and place.
fn capabilities(bench: &Bench) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    let mut at = bench.read(0x34) as u8;
    while at != 0 && found.len() < 48 {
        let [id, next, ..] = bench.read(at.into()).to_le_bytes();
        found.push((id, at));
        at = next;
    }
    found
}

fn extended(bench: &Bench) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    let mut at = 0x100;
    while at != 0 && found.len() < 48 {
        let header = bench.read(at);
        found.push((header as u16, at));
        at = (header >> 20) as u16;
    }
    found
}

fn refused(device: Played) -> FunctionError {
    let config = FunctionConfig {
        id: "drive0".into(),
        attachment: Attachment::Express,
    };
    let machine = Machine {
        router: std::sync::Arc::<super::Router>::default(),
        pin: None,
        mapper: std::sync::Arc::<super::Mapper>::default(),
        io_events: None,
    };
    let made = Function::new(config, std::sync::Arc::new(device), machine);
    made.err().expect("it is refused")
}

#[test]
fn the_guest_finds_who_the_device_is_and_capabilities_where_the_device_has_them() {
    let bench = Bench::new();
    assert_eq!(bench.read(0x00), 0xA808_144D);
    assert_eq!(bench.read(0x08), 0x0108_0203);
    assert_eq!(bench.read(0x2C), 0xA801_144D);
    assert_eq!(bench.read(0x3C), 0x0000_0100, "INTA, no line yet");
    let found = capabilities(&bench);
    let expected = [
        (0x01, POWER as u8),
        (0x05, MSI as u8),
        (0x10, EXPRESS as u8),
        (0x11, MSIX as u8),
        (0x09, VENDOR_SPECIFIC as u8),
    ];
    assert_eq!(found, expected);
    assert_eq!(bench.read(0xD0), 0, "vital product data is hidden");
    assert_eq!(bench.read(0xD4), 0);
}

#[test]
fn of_extended_capabilities_the_harmless_are_shown() {
    let bench = Bench::new();
    // A null capability stands where the list has to begin.
    assert_eq!(extended(&bench), [(0, 0x100), (3, SERIAL), (0xB, VSEC)]);
    assert_eq!(bench.read(SERIAL + 4), 0x89AB_CDEF);
    assert_eq!(bench.read(SERIAL + 8), 0x0123_4567);
    assert_eq!(bench.read(VSEC + 8), 0x4444_4444);
    assert_eq!(bench.read(0x104), 0, "AER");
    bench.device.take_calls();
    bench.write(VSEC + 8, 1);
    bench.write(SERIAL + 4, 1);
    assert_eq!(bench.device.take_calls(), []);
    assert_eq!(bench.read(SERIAL + 4), 0x89AB_CDEF);
}

#[test]
fn the_express_capability_says_where_the_function_is_in_our_tree() {
    let at_a_port = Bench::new();
    let header = at_a_port.read(EXPRESS) >> 16;
    assert_eq!(header, 0x0002, "version 2, an endpoint");
    let device = at_a_port.read(EXPRESS + 4);
    assert_ne!(device & 1 << 28, 0, "function level reset");
    assert_eq!(device & 7, 1, "payloads of 256 bytes, as our ports have");
    assert_ne!(at_a_port.read(EXPRESS + 0x0C) & 0x3F0, 0, "a link");
    assert_eq!(at_a_port.read(EXPRESS + 0x10) >> 16 & 0x3FF, 0x43);

    let integrated = Bench::of(Played::drive(), Attachment::RootComplex);
    assert_eq!(integrated.read(EXPRESS) >> 16, 0x0092);
    assert_eq!(integrated.read(EXPRESS + 0x0C), 0, "no link");

    let conventional = Bench::of(Played::drive(), Attachment::Conventional);
    let ids: Vec<_> = capabilities(&conventional)
        .iter()
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(ids, [1, 5, 0x11, 9]);
    assert_eq!(conventional.read(0x100), u32::MAX);
    assert_eq!(conventional.read(EXPRESS + 4), 0);
}

#[test]
fn the_device_has_memory_decoding_always_and_mastering_as_the_guest_says() {
    let bench = Bench::new();
    assert_eq!(bench.device.command(), MEMORY as u16);
    bench.write16(COMMAND, (MEMORY | MASTER | INTX_DISABLE) as u16);
    let all = (MEMORY | MASTER | INTX_DISABLE) as u16;
    assert_eq!(bench.device.command(), all);
    assert!(bench.function.guest_acts().is_empty());
    bench.write16(COMMAND, 0);
    assert_eq!(bench.device.command(), MEMORY as u16);
    let acts = bench.function.guest_acts();
    assert_eq!(acts.of(Act::BusMasterOff).unwrap().count, 1);
    // The same again changes nothing.
    bench.device.take_calls();
    bench.write16(COMMAND, 0);
    assert_eq!(bench.device.take_calls(), []);
}

#[test]
fn a_function_in_d3hot_has_no_bars_and_does_no_dma() {
    let bench = Bench::new();
    bench.enable();
    assert_eq!(bench.function.decoded_bars().len(), 3);
    let write = bench.function.write_config(POWER + 4, 3, 0xFF);
    assert_eq!(write, Decode::Changed);
    assert_eq!(bench.function.decoded_bars(), []);
    assert_eq!(bench.device.command(), MEMORY as u16);
    assert_eq!(
        bench.function.write_config(POWER + 4, 0, 0xFF),
        Decode::Changed
    );
    assert_eq!(bench.function.decoded_bars().len(), 3);
    assert_eq!(bench.device.command(), (MEMORY | MASTER) as u16);
}

#[test]
fn what_no_capability_has_is_the_devices_own_as_wide_as_the_guest_writes_it() {
    let bench = Bench::new();
    bench.device.take_calls();
    assert_eq!(bench.read(VENDOR_SPECIFIC + 4), 0x1111_1111);
    bench.write(VENDOR_SPECIFIC + 4, 0x55AA_1234);
    bench.write16(VENDOR_SPECIFIC + 6, 0x7777);
    let _ = bench.function.write_config(0x48, 0xAABB_CCDD, 0x00FF_FF00);
    let expected = [
        Call::ConfigWrite(0xC4, vec![0x34, 0x12, 0xAA, 0x55]),
        Call::ConfigWrite(0xC6, vec![0x77, 0x77]),
        Call::ConfigWrite(0x49, vec![0xCC]),
        Call::ConfigWrite(0x4A, vec![0xBB]),
    ];
    assert_eq!(bench.device.take_calls(), expected);
    assert_eq!(bench.read(VENDOR_SPECIFIC + 4), 0x7777_1234);
    assert_eq!(bench.read(VENDOR_SPECIFIC) >> 16, 0x0010);
}

#[test]
fn a_gone_device_reads_all_ones_and_decodes_nothing() {
    let bench = Bench::new();
    bench.enable();
    bench.device.set_gone(true);
    for offset in [0, COMMAND, 0x10, MSIX, VENDOR_SPECIFIC + 4, SERIAL] {
        assert_eq!(bench.read(offset), u32::MAX);
    }
    assert_eq!(bench.read_bar32(0, 0), u32::MAX);
    assert_eq!(bench.function.decoded_bars(), []);
    bench.device.take_calls();
    bench.write16(COMMAND, 0);
    bench.write_bar32(0, 0, 1);
    assert_eq!(bench.device.take_calls(), []);
    // It comes back by itself: not for this boot of the guest.
    bench.device.set_gone(false);
    assert_eq!(bench.read(0), u32::MAX);
}

#[test]
fn devices_that_cannot_be_passed_through_say_why() {
    let absent = refused(Played::drive().with(0, &[0xFF; 4]));
    assert!(matches!(absent, FunctionError::Absent { .. }));
    let bridge = refused(Played::drive().with(0x0E, &[1]));
    assert!(matches!(
        bridge,
        FunctionError::NotAnEndpoint { header: 1, .. }
    ));
    let outside = refused(Played::drive().with(MSIX + 4, &[0, 0x40, 0, 0]));
    let text = outside.to_string();
    assert!(
        text.contains("ends at") || text.contains("end at 0x4080 of BAR 0"),
        "{text}"
    );
    let no_bar = refused(Played::drive().with(MSIX + 4, &[2, 0, 0, 0]));
    assert!(matches!(
        no_bar,
        FunctionError::Msix {
            bar: 2,
            size: 0,
            ..
        }
    ));
    let huge = Region {
        size: 1 << 40,
        readable: true,
        writable: true,
        areas: Vec::new(),
    };
    let huge = refused(Played::drive().with_region(3, huge));
    assert!(matches!(huge, FunctionError::Bar { bar: 3, .. }));
    let none = refused(Played::drive().with_region(region::CONFIG, Region::default()));
    assert!(matches!(none, FunctionError::ConfigSpace { size: 0, .. }));
}

#[test]
fn lists_that_do_not_end_are_cut() {
    let circle = Played::drive().with(VENDOR_SPECIFIC + 1, &[POWER as u8]);
    assert_eq!(
        capabilities(&Bench::of(circle, Attachment::Express)).len(),
        5
    );
    let outside = Played::drive().with(POWER + 1, &[0x04]);
    assert_eq!(
        capabilities(&Bench::of(outside, Attachment::Express)).len(),
        1
    );
    let extended_circle = Played::drive().with(VSEC + 2, &[0x81, 0x14]);
    assert_eq!(
        extended(&Bench::of(extended_circle, Attachment::Express)).len(),
        3
    );
}
