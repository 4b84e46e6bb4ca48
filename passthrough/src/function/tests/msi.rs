//! MSI: as many vectors as the guest turns on.

use devices::interrupt::MsiMessage;
use devices::pci::Attachment;

use super::Bench;
use super::device::*;
use super::interrupts::ready;
use crate::client::IrqType::Msi as MsiIrq;

#[test]
fn msi_has_as_many_vectors_as_the_guest_turns_on() {
    let bench = ready();
    assert_eq!(bench.router.attached(), usize::from(VECTORS));
    bench.write(MSI + 4, 0xFEE0_1000);
    bench.write(MSI + 8, 2);
    bench.write(MSI + 12, 0x61);
    // Of four vectors the last is masked.
    bench.write(MSI + 16, 1 << 3);
    assert_eq!(bench.device.take_calls(), []);
    bench.write(MSI, 1 << 16 | 2 << 20);
    let four = vec![true, true, true, false];
    assert_eq!(bench.device.take_calls(), [Call::Connect(MsiIrq, 0, four)]);
    let route = usize::from(VECTORS);
    let expected = MsiMessage {
        address: 0x2_FEE0_1000,
        data: 0x62,
    };
    assert_eq!(bench.router.message(route + 2), Some(expected));
    assert!(bench.device.signal(MsiIrq, 2));
    assert_eq!(bench.router.taken(route + 2), 1);

    bench.write(MSI + 16, 1 << 1);
    bench.device.signal(MsiIrq, 1);
    assert_eq!(bench.router.taken(route + 1), 0);
    assert_eq!(bench.read(MSI + 20), 1 << 1);
    bench.write(MSI + 16, 0);
    assert_eq!(bench.router.taken(route + 1), 1);
    assert_eq!(bench.read(MSI + 20), 0);
    bench.device.take_calls();

    // More of them at once than the device has are as many as it has.
    bench.write(MSI, 1 << 16 | 7 << 20);
    let calls = bench.device.take_calls();
    assert_eq!(calls[0], Call::Disconnect(MsiIrq));
    assert_eq!(calls[1], Call::Connect(MsiIrq, 0, vec![true; 32]));
    bench.write(MSI, 0);
    assert_eq!(bench.device.connected(), 0);
}

/// A guest never has more of MSI than the host says that there are: it asks for a power of two up to what is shown.
#[test]
fn msi_shows_no_more_vectors_than_the_host_has() {
    for (host, exponent) in [(1, 0), (2, 1), (5, 2), (31, 4), (32, 5), (64, 5)] {
        let device = Played::drive().with_irqs([1, host, 0]);
        let bench = Bench::of(device, Attachment::Express);
        assert_eq!(bench.read(MSI) >> 17 & 0b111, exponent, "of {host}");
        bench.enable();
        bench.write(MSI, 1 << 16 | exponent << 20);
        assert_eq!(bench.device.connected(), 1 << exponent);
    }
}
