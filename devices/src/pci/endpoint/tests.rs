//! An endpoint's configuration space as its driver meets it.

use super::*;
use crate::guest_acts::Act;
use crate::pci::intx::IntxPin;
use crate::pci::msix::MsixLayout;
use crate::pci::tests::fake::{Line, NVME, Router};

struct Drive {
    config: EndpointConfig,
    line: Arc<Line>,
}

fn drive(attachment: Attachment) -> Drive {
    let layout = MsixLayout::in_bar(0, 0x2000, 65);
    let msix = Arc::new(Msix::attach(65, layout, Arc::new(Router::default())).unwrap());
    let line = Arc::new(Line::default());
    let config = EndpointConfig::builder(NVME)
        .attachment(attachment)
        .bar(Bar::memory64(0, msix.end()))
        .msix(msix)
        .intx(IntxPin::A, line.clone())
        .serial_number(0x1122_3344_5566_7788)
        .build()
        .unwrap();
    Drive { config, line }
}

impl Drive {
    fn write(&self, offset: u16, value: u32) -> EndpointWrite {
        self.config.write(offset, value, u32::MAX)
    }

    fn capabilities(&self) -> Vec<(u8, u16)> {
        let mut found = Vec::new();
        let mut at = self.config.read(0x34) as u8;
        while at != 0 {
            let [id, next, ..] = self.config.read(at.into()).to_le_bytes();
            found.push((id, at.into()));
            at = next;
        }
        found
    }

    fn find(&self, id: u8) -> u16 {
        self.capabilities()
            .into_iter()
            .find(|(found, _)| *found == id)
            .unwrap()
            .1
    }
}

#[test]
fn capabilities_follow_the_attachment() {
    let ids = |attachment| {
        let found = drive(attachment).capabilities();
        found.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Attachment::Express), [0x01, 0x11, 0x10]);
    assert_eq!(ids(Attachment::RootComplex), [0x01, 0x11, 0x10]);
    assert_eq!(ids(Attachment::Conventional), [0x01, 0x11]);
    assert_eq!(drive(Attachment::Conventional).config.read(0x100), u32::MAX);
    let express = drive(Attachment::Express);
    assert_eq!(express.config.read(0x100), 0x0001_0003);
    assert_eq!(express.config.read(0x104), 0x5566_7788);
    assert_eq!(express.config.read(0x108), 0x1122_3344);
    let at = express.find(0x10);
    assert_eq!(express.config.read(at) >> 16, 0x0002);
    assert_eq!(
        express.config.read(at + 0x0C) & 0x3FF,
        0x43,
        "8 GT/s, four lanes"
    );
    assert_eq!(express.config.read(at + 0x10) >> 16, 0x1043);
    let integrated = drive(Attachment::RootComplex);
    let at = integrated.find(0x10);
    assert_eq!(integrated.config.read(at) >> 16, 0x0092);
    assert_eq!(integrated.config.read(at + 0x0C), 0, "no link");
}

#[test]
fn msix_capability_points_into_the_bar_and_its_bits_work() {
    let drive = drive(Attachment::Express);
    let at = drive.find(0x11);
    assert_eq!(drive.config.read(at) >> 16, 64);
    assert_eq!(drive.config.read(at + 4), 0x2000);
    assert_eq!(drive.config.read(at + 8), 0x3000);
    let write = drive.write(at, 0xFFFF_FFFF);
    assert!(write.msix);
    assert_eq!(drive.config.read(at) >> 16, 0xC000 | 64);
    assert!(drive.config.msix().unwrap().enabled());
    assert!(!drive.write(at, 0xFFFF_FFFF).msix, "no change");
    assert!(drive.config.write(at, 0, 0xFF00_0000).msix);
    assert_eq!(drive.config.read(at) >> 16, 64);
}

#[test]
fn a_bar_moves_only_while_decoded() {
    let drive = drive(Attachment::Express);
    assert_eq!(drive.write(0x10, 0xC000_0000).decode, Decode::Same);
    let write = drive.write(4, 0x6);
    assert_eq!(
        (write.decode, write.bus_master),
        (Decode::Changed, Some(true))
    );
    let range = BarRange {
        bar: 0,
        base: 0xC000_0000,
        size: 0x4000,
        prefetchable: false,
    };
    assert_eq!(drive.config.decoded_bars(), [range]);
    assert_eq!(drive.write(0x10, 0xC000_0000).decode, Decode::Same);
    assert_eq!(drive.write(0x14, 0x1).decode, Decode::Changed);
    assert_eq!(drive.config.decoded_bars()[0].base, 0x1_C000_0000);
    assert_eq!(drive.write(0x3C, 0xFF).decode, Decode::Same);
}

#[test]
fn sleep_hides_the_bars_and_loses_nothing() {
    let drive = drive(Attachment::Express);
    let at = drive.find(0x01) + 4;
    let _ = drive.write(0x10, 0xC000_0000);
    let _ = drive.write(4, 0x6);
    assert!(drive.config.bus_master());
    for unsupported in [1, 2] {
        assert_eq!(drive.write(at, unsupported).power, None);
    }
    let write = drive.write(at, 3);
    assert_eq!(
        (write.power, write.decode),
        (Some(PowerState::D3Hot), Decode::Changed)
    );
    assert!(!drive.config.bus_master());
    assert_eq!(drive.config.decoded_bars(), []);
    assert_eq!(drive.write(at, 2).power, None, "stays in D3hot");
    let write = drive.write(at, 0);
    assert_eq!(
        (write.power, write.decode),
        (Some(PowerState::D0), Decode::Changed)
    );
    assert_eq!(drive.config.decoded_bars().len(), 1);
    assert_eq!(drive.config.read(at) & 8, 8, "no soft reset");
}

#[test]
fn function_level_reset_is_reported_and_reads_zero() {
    let drive = drive(Attachment::Express);
    let at = drive.find(0x10);
    assert_eq!(drive.config.read(at + 4) >> 28 & 1, 1);
    let write = drive.config.write(at + 8, 0x0000_8000, 0x0000_FF00);
    assert!(write.flr);
    assert_eq!(drive.config.read(at + 8) & 0x8000, 0);
    assert!(
        !drive.config.write(at + 8, 0x8000, 0x00FF).flr,
        "that byte was not written"
    );
    drive.config.reset();
    assert_eq!(drive.config.read(at + 8), 0x2910);
}

#[test]
fn the_line_follows_the_registers() {
    let drive = drive(Attachment::Express);
    let asserted = || drive.line.asserted.load(Ordering::Relaxed);
    drive.config.set_interrupt(true);
    drive.config.set_interrupt(true);
    assert!(asserted());
    assert_eq!(drive.config.read(4) >> 16 & 8, 8);
    let _ = drive.write(4, 0x400);
    assert!(!asserted());
    assert_eq!(drive.config.read(4) >> 16 & 8, 8, "pending all the same");
    let _ = drive.write(4, 0);
    assert!(asserted());
    let msix = drive.find(0x11);
    assert!(drive.write(msix, 0x8000_0000).msix);
    assert!(!asserted());
    assert!(drive.write(msix, 0).msix);
    assert!(asserted());
    drive.config.reset();
    assert!(!asserted());
    assert_eq!(drive.config.read(4), 0x0010_0000);
}

#[test]
fn impossible_configurations_are_refused() {
    let error = |builder: EndpointBuilder| builder.build().err();
    let builder = || EndpointConfig::builder(NVME);
    let clash = builder()
        .bar(Bar::memory64(0, 64))
        .bar(Bar::memory32(1, 64));
    assert_eq!(error(clash), Some(EndpointError::BarClash(1)));
    assert_eq!(
        error(builder().bar(Bar::memory64(5, 64))),
        Some(EndpointError::BarClash(5))
    );
    assert_eq!(
        error(builder().bar(Bar::memory32(9, 64))),
        Some(EndpointError::BarClash(9))
    );
    let router = Arc::new(Router::default());
    let msix = Arc::new(Msix::attach(8, MsixLayout::in_bar(2, 0x2000, 8), router).unwrap());
    let missing = builder().bar(Bar::memory64(0, 0x4000)).msix(msix.clone());
    assert_eq!(error(missing), Some(EndpointError::NoMsixBar(2)));
    let small = builder().bar(Bar::memory64(2, 0x2000)).msix(msix);
    let outside = EndpointError::MsixOutside {
        bar: 2,
        end: 0x3008,
        size: 0x2000,
    };
    assert_eq!(error(small), Some(outside));
}

#[test]
fn what_the_guest_did_is_noted_at_the_edges_and_outlives_a_reset() {
    let drive = drive(Attachment::Express);
    let count = |act| {
        drive
            .config
            .acts()
            .read()
            .of(act)
            .map_or(0, |times| times.count)
    };
    let _ = drive.write(COMMAND, 0b010);
    assert_eq!(count(Act::BusMasterOff), 0, "it was not on");
    for command in [0b110, 0b010, 0b000, 0b110, 0b010] {
        let _ = drive.write(COMMAND, command);
    }
    assert_eq!(count(Act::BusMasterOff), 2);
    assert!(drive.write(drive.find(0x10) + 8, 0x8000).flr);
    drive.config.reset();
    assert_eq!(
        (count(Act::FunctionReset), count(Act::BusMasterOff)),
        (1, 2)
    );
}
