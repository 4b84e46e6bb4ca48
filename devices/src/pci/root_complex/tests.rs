//! Configuration accesses as a guest makes them: both mechanisms, routing, resets, hostile accesses.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::pci::tests::fake::{Endpoint, Guest, bridge, machine, place};
use crate::pci::{BridgeKind, number_buses};

/// A reset control register that counts.
#[derive(Default)]
struct ResetControl(AtomicUsize);

impl DevicePio for ResetControl {
    fn pio_read(&self, base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        assert_eq!((base, offset), (PioAddress(0xCF9), 0));
        data.fill(0x5A);
    }

    fn pio_write(&self, base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        assert_eq!((base, offset, data.len()), (PioAddress(0xCF9), 0, 1));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Machine {
    root: Arc<RootComplex>,
    ports: ConfigPorts,
    reset_control: Arc<ResetControl>,
    drives: Vec<Arc<Endpoint>>,
}

/// Root port 1 with a switch (2 drives), root port 2 with a PCI bridge (1 drive). Buses 1 to 6.
fn pc() -> Machine {
    let drives: Vec<_> = (0..3).map(|_| Endpoint::drive()).collect();
    let drive =
        |index: usize, at| Node::endpoint(format!("nvme{index}"), place(at), drives[index].clone());
    let down0 = bridge("down0", 0, BridgeKind::Downstream, vec![drive(0, 0)]);
    let down1 = bridge("down1", 1, BridgeKind::Downstream, vec![drive(1, 0)]);
    let up = bridge("up", 0, BridgeKind::Upstream, vec![down0, down1]);
    let pci = bridge("pci", 0, BridgeKind::PciBridge, vec![drive(2, 5)]);
    let root = Arc::new(machine(vec![
        bridge("rp0", 1, BridgeKind::RootPort, vec![up]),
        bridge("rp1", 2, BridgeKind::RootPort, vec![pci]),
    ]));
    number_buses(&root).unwrap();
    let reset_control = Arc::new(ResetControl::default());
    let ports = ConfigPorts::new(root.clone(), reset_control.clone());
    Machine {
        root,
        ports,
        reset_control,
        drives,
    }
}

impl Machine {
    fn out(&self, port: u16, data: &[u8]) {
        self.ports
            .pio_write(PioAddress(CONFIG_PORTS), port - CONFIG_PORTS, data);
    }

    fn port<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut data = [0; N];
        self.ports
            .pio_read(PioAddress(CONFIG_PORTS), port - CONFIG_PORTS, &mut data);
        data
    }

    fn select(&self, bus: u8, device: u8, register: u8) {
        let address = 1 << 31 | u32::from(bus) << 16 | u32::from(device) << 11;
        self.out(0xCF8, &(address | u32::from(register)).to_le_bytes());
    }
}

#[test]
fn the_host_bridge_is_at_the_root() {
    let machine = pc();
    let guest = Guest(&machine.root);
    assert_eq!(guest.read(0, 0, 0), 0x0008_1B36);
    assert_eq!(guest.read(0, 0, 8) >> 8, 0x06_00_00);
    assert_eq!(guest.read(0, 0, 0x100), u32::MAX);
    guest.write(0, 0, 0, 0);
    assert_eq!(guest.read(0, 0, 0), 0x0008_1B36);
    assert_eq!(guest.read(0, 7, 0), u32::MAX, "nobody");
}

#[test]
fn both_mechanisms_see_the_same_registers() {
    let machine = pc();
    let guest = Guest(&machine.root);
    for bus in 0..8 {
        for device in 0..32 {
            for register in (0..256).step_by(4) {
                machine.select(bus, device, register as u8);
                let port = u32::from_le_bytes(machine.port(0xCFC));
                assert_eq!(
                    port,
                    guest.read(bus, device, register),
                    "{bus}:{device} {register}"
                );
            }
        }
    }
}

#[test]
fn data_ports_take_bytes_and_words() {
    let machine = pc();
    machine.select(0, 1, 0x3C);
    machine.out(0xCFC, &[0xAB]);
    assert_eq!(machine.port(0xCFC), [0xAB_u8, 0x01]);
    machine.select(0, 1, 0x18);
    machine.out(0xCFD, &[7, 9]);
    assert_eq!(Guest(&machine.root).read(0, 1, 0x18), 0x0009_0700);
    assert_eq!(machine.port(0xCFE), [9]);
    assert_eq!(machine.port(0xCFE), [9, 0]);
    // The low two bits of the address are the port's.
    machine.select(0, 1, 0x03);
    assert_eq!(machine.port(0xCFC), 0x000C_1B36_u32.to_le_bytes());
}

#[test]
fn only_a_double_word_at_cf8_is_an_address() {
    let machine = pc();
    machine.select(0, 1, 0);
    let address = machine.port::<4>(0xCF8);
    assert_eq!(u32::from_le_bytes(address), 0x8000_0800);
    machine.out(0xCF8, &[0]);
    machine.out(0xCF8, &[0, 0]);
    machine.out(0xCFA, &[0, 0]);
    machine.out(0xCFB, &[0]);
    assert_eq!(machine.port(0xCF8), address);
    assert_eq!(machine.port(0xCF8), [0xFF_u8]);
    assert_eq!(machine.port(0xCFA), [0xFF_u8; 2]);
    machine.out(0xCF8, &u32::MAX.to_le_bytes());
    assert_eq!(u32::from_le_bytes(machine.port(0xCF8)), 0x80FF_FFFC);
    machine.out(0xCF8, &0x0000_0800_u32.to_le_bytes());
    assert_eq!(machine.port(0xCFC), [0xFF_u8; 4], "not enabled");
}

#[test]
fn bytes_at_cf9_belong_to_the_reset_control() {
    let machine = pc();
    machine.out(0xCF9, &[6]);
    machine.out(0xCF9, &[6, 6]);
    assert_eq!(machine.reset_control.0.load(Ordering::Relaxed), 1);
    assert_eq!(machine.port(0xCF9), [0x5A_u8]);
    assert_eq!(machine.port(0xCF9), [0xFF_u8; 2]);
}

#[test]
fn routing_follows_the_bus_numbers() {
    let machine = pc();
    let guest = Guest(&machine.root);
    assert_eq!(guest.read16(3, 0, 0), 0x1B36);
    assert_eq!(
        guest.read(3, 1, 0),
        u32::MAX,
        "one device at the end of a link"
    );
    assert_eq!(guest.read16(6, 5, 0), 0x1B36);
    // Another set of numbers: the second root port takes the lowest buses.
    guest.write(0, 1, 0x18, 0x0040_3000);
    guest.write(0x30, 0, 0x18, 0x0040_3130);
    guest.write(0x31, 1, 0x18, 0x0040_4031);
    guest.write(0, 2, 0x18, 0x0002_0100);
    guest.write(1, 0, 0x18, 0x0002_0201);
    assert_eq!(guest.read(0x40, 0, 0), 0x0010_1B36);
    assert_eq!(guest.read(2, 5, 0), 0x0010_1B36);
    assert_eq!(guest.read(3, 0, 0), u32::MAX);
    let address = machine.root.address_of("nvme1").unwrap();
    assert_eq!(address.to_string(), "40:00.0");
    assert_eq!(
        machine.root.address_of("nvme0"),
        None,
        "its port's numbers lie outside"
    );
    // Two ports that claim the same buses: the first one has them.
    guest.write(0, 2, 0x18, 0x0041_3000);
    assert_eq!(guest.read(0x30, 0, 0), 0x8232_104C);
    assert_eq!(machine.root.address_of("pci"), None);
}

#[test]
fn a_secondary_bus_reset_resets_everything_behind() {
    let machine = pc();
    let guest = Guest(&machine.root);
    for (bus, device) in [(0, 1), (1, 0), (2, 0)] {
        guest.window(bus, device, 0xC000_0000, 0xC000_0000);
    }
    guest.bar(3, 0, 0xC000_0000);
    assert_eq!(machine.root.placed(), [0xC000_0000..=0xC000_3FFF]);
    guest.write16(0, 1, 0x3E, 0x40);
    let resets = |index: usize| machine.drives[index].resets.load(Ordering::Relaxed);
    assert_eq!((resets(0), resets(1), resets(2)), (1, 1, 0));
    assert_eq!(machine.drives[0].at(0), None);
    assert_eq!(guest.read(1, 0, 0), u32::MAX, "held in reset");
    guest.write16(0, 1, 0x3E, 0);
    assert_eq!(guest.read(1, 0, 0), 0x8232_104C);
    assert_eq!(guest.read(1, 0, 0x18), 0, "bus numbers are gone");
    assert_eq!(guest.read(0, 1, 0x18), 0x0004_0100, "but the root port's");
    assert_eq!(guest.read(3, 0, 0), u32::MAX);
}

#[test]
fn a_function_level_reset_takes_the_bar_away() {
    let machine = pc();
    let guest = Guest(&machine.root);
    for (bus, device) in [(0, 1), (1, 0), (2, 0)] {
        guest.window(bus, device, 0xC000_0000, 0xC000_0000);
    }
    guest.bar(3, 0, 0xC000_0000);
    let express = guest.capability(3, 0, 0x10).unwrap();
    guest.write16(3, 0, express + 8, 0x8000);
    assert_eq!(machine.root.placed(), []);
    assert_eq!(machine.drives[0].resets.load(Ordering::Relaxed), 1);
    assert_eq!(guest.read(3, 0, 0x10), 4);
}

#[test]
fn after_a_teardown_nothing_is_placed_and_the_firmware_numbers_anew() {
    use crate::lifecycle::{Deadline, Phases};

    let machine = pc();
    let guest = Guest(&machine.root);
    let power_on: Vec<u32> = (0..64).map(|at| guest.read(0, 1, at * 4)).collect();
    for (bus, device) in [(0, 1), (1, 0), (2, 0)] {
        guest.window(bus, device, 0xC000_0000, 0xC000_0000);
    }
    guest.bar(3, 0, 0xC000_0000);
    guest.command(0, 0, 6);
    machine.select(0, 1, 0);
    let by = Deadline::after(std::time::Duration::from_secs(1));
    for visit in machine.root.bus().walk().iter().rev() {
        visit
            .node
            .device()
            .shut_down(by, &mut Phases::default())
            .unwrap();
    }
    machine.root.reset();
    assert_eq!(machine.root.placed(), []);
    assert_eq!(machine.drives[0].at(0), None);
    assert_eq!(guest.read(0, 0, 4) as u16, 0);
    assert_eq!(machine.port(0xCF8), [0_u8; 4]);
    assert_eq!(guest.read(1, 0, 0), u32::MAX);
    number_buses(&machine.root).unwrap();
    let again: Vec<u32> = (0..64).map(|at| guest.read(0, 1, at * 4)).collect();
    assert_eq!(power_on, again);
}

proptest! {
    #[test]
    fn no_access_panics(
        accesses in prop::collection::vec(
            (any::<bool>(), any::<bool>(), 0u64..0x80_0000, 0u16..8,
             prop::collection::vec(any::<u8>(), 0..20)), 0..200),
    ) {
        let machine = pc();
        for (write, ecam, offset, port, mut data) in accesses {
            let near = [offset, offset | 0xFFF_0000, u64::MAX - offset % 64];
            match (write, ecam) {
                (true, true) => near.iter()
                    .for_each(|at| machine.root.mmio_write(MmioAddress(0), *at, &data)),
                (false, true) => near.iter()
                    .for_each(|at| machine.root.mmio_read(MmioAddress(0), *at, &mut data)),
                (true, false) => machine.ports.pio_write(PioAddress(0xCF8), port, &data),
                (false, false) => machine.ports.pio_read(PioAddress(0xCF8), port, &mut data),
            }
            machine.root.read(GuestAddress(u64::MAX - offset % 64), &mut data);
            machine.root.write(GuestAddress(u64::MAX - offset % 64), &data);
        }
    }
}
