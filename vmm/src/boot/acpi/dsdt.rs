//! The DSDT: processors, the PCI host bridge with its windows and interrupts, the devices on ISA ports,
//! the sleep state S5.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal,
    IO, If, Interrupt, Local, Memory32Fixed, Method, Name, NotEqual, Or, PackageBuilder, Path,
    ResourceTemplate, Return, Scope, Store, Uuid,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};
use devices::legacy::{CMOS, COM1, COM1_IRQ, Ports, RTC_IRQ, SLP_TYP_S5};

use super::{AcpiPlatform, Ecam, OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes_of};

/// The UUID of a PCI host bridge's _OSC (PCI Firmware Specification 3.3, section 4.5.1).
const OSC_PCI_HOST_BRIDGE: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
/// What the guest may control by itself: PCIe hotplug, PME, AER, the PCIe capability structure.
const OSC_GRANTED: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;
const OSC_UNKNOWN_UUID: u8 = 1 << 2;
const OSC_UNKNOWN_REVISION: u8 = 1 << 3;
const OSC_MASKED: u8 = 1 << 4;

const PCI_CONFIG_PORTS: Ports = Ports {
    first: 0xCF8,
    count: 8,
};

/// Builds the DSDT. Revision 2: integers have 64 bits.
pub fn build(platform: &AcpiPlatform) -> Vec<u8> {
    let pci = host_bridge(platform);
    let ecam = ecam_reservation(platform.ecam);
    let rtc = isa_device("RTC_", "PNP0B00", 0, CMOS, RTC_IRQ);
    let com1 = isa_device("COM1", "PNP0501", 1, COM1, COM1_IRQ);
    let cpus = processors(platform.cpus);
    let system = Scope::new(Path::new("\\_SB_"), vec![&cpus, &pci, &ecam, &rtc, &com1]);
    let mut s5 = PackageBuilder::new();
    for value in [SLP_TYP_S5, SLP_TYP_S5, 0, 0] {
        s5.add_element(&value);
    }
    let s5 = Name::new(Path::new("\\_S5_"), &s5);

    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    let mut body = bytes_of(&s5);
    body.extend(bytes_of(&system));
    dsdt.append_slice(&body);
    dsdt.as_slice().to_vec()
}

/// A piece of AML that is built already.
struct Built(Vec<u8>);

impl Aml for Built {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn name(name: &str, value: &dyn Aml) -> Name {
    Name::new(Path::new(name), value)
}

fn device(path: &str, parts: &[&dyn Aml]) -> Built {
    Built(bytes_of(&Device::new(Path::new(path), parts.to_vec())))
}

fn resources(parts: &[Box<dyn Aml>]) -> Name {
    let parts = parts.iter().map(AsRef::as_ref).collect();
    name("_CRS", &ResourceTemplate::new(parts))
}

/// The container of the processors. The UID of each is its index, as in the MADT.
fn processors(cpus: u8) -> Built {
    let processors: Vec<Built> = (0..cpus)
        .map(|cpu| {
            device(
                &format!("C{cpu:03X}"),
                &[&name("_HID", &"ACPI0007"), &name("_UID", &cpu)],
            )
        })
        .collect();
    let hid = name("_HID", &"ACPI0010");
    let cid = name("_CID", &EISAName::new("PNP0A05"));
    let mut parts: Vec<&dyn Aml> = vec![&hid, &cid];
    parts.extend(processors.iter().map(|processor| processor as &dyn Aml));
    device("CPUS", &parts)
}

fn host_bridge(platform: &AcpiPlatform) -> Built {
    device(
        "PCI0",
        &[
            &name("_HID", &EISAName::new("PNP0A08")),
            &name("_CID", &EISAName::new("PNP0A03")),
            &name("_SEG", &0u8),
            &name("_BBN", &platform.ecam.first_bus),
            &name("_UID", &0u8),
            &host_bridge_resources(platform),
            &interrupt_routing(platform.intx_gsi),
            &operating_system_capabilities(),
        ],
    )
}

fn host_bridge_resources(platform: &AcpiPlatform) -> Name {
    let ecam = platform.ecam;
    let mut parts: Vec<Box<dyn Aml>> = vec![
        Box::new(AddressSpace::new_bus_number(
            u16::from(ecam.first_bus),
            u16::from(ecam.last_bus),
        )),
        Box::new(fixed_ports(PCI_CONFIG_PORTS)),
    ];
    for window in &platform.io_windows {
        let (first, last) = (u32::from(*window.start()), u32::from(*window.end()));
        parts.push(Box::new(AddressSpace::new_io(first, last, None)));
    }
    let (first, last) = (*platform.mmio32.start(), *platform.mmio32.end());
    parts.push(Box::new(memory(first, last)));
    if let Some(window) = &platform.mmio64 {
        parts.push(Box::new(memory(*window.start(), *window.end())));
    }
    resources(&parts)
}

fn memory<T: Default>(first: T, last: T) -> AddressSpace<T> {
    AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None)
}

fn fixed_ports(ports: Ports) -> IO {
    IO::new(ports.first, ports.first, 1, ports.count as u8)
}

/// _PRT: the GSI of every pin of every device on the root bus. No link devices.
fn interrupt_routing(gsi: &dyn Fn(u8, u8) -> u32) -> Name {
    let mut routing = PackageBuilder::new();
    for device in 0..32u8 {
        for pin in 0..4u8 {
            let mut route = PackageBuilder::new();
            // All functions of the device.
            route.add_element(&(u32::from(device) << 16 | 0xFFFF));
            route.add_element(&pin);
            route.add_element(&0u8);
            route.add_element(&gsi(device, pin));
            routing.add_element(&route);
        }
    }
    name("_PRT", &routing)
}

/// _OSC: grants native control of what PCIe has for it, and says what was not granted.
fn operating_system_capabilities() -> Built {
    let (uuid, revision, buffer) = (Arg(0), Arg(1), Arg(3));
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let granted = Local(0);
    let unknown_revision = Or::new(&status, &status, &OSC_UNKNOWN_REVISION);
    let masked = Or::new(&status, &status, &OSC_MASKED);
    let unknown_uuid = Or::new(&status, &status, &OSC_UNKNOWN_UUID);
    Built(bytes_of(&Method::new(
        Path::new("_OSC"),
        4,
        // It creates named objects, which two callers at once may not.
        true,
        vec![
            &CreateDWordField::new(&status, &buffer, &0u8),
            &If::new(
                &Equal::new(&uuid, &Uuid::new(OSC_PCI_HOST_BRIDGE)),
                vec![
                    &CreateDWordField::new(&control, &buffer, &8u8),
                    &If::new(&NotEqual::new(&revision, &1u8), vec![&unknown_revision]),
                    &Store::new(&granted, &And::new(&0u8, &control, &OSC_GRANTED)),
                    &If::new(&NotEqual::new(&control, &granted), vec![&masked]),
                    &Store::new(&control, &granted),
                ],
            ),
            &Else::new(vec![&unknown_uuid]),
            &Return::new(&buffer),
        ],
    )))
}

/// A motherboard resource over the configuration space, without which a guest does not trust the MCFG.
fn ecam_reservation(ecam: Ecam) -> Built {
    let (start, size) = (ecam.start(), ecam.size());
    let range: Box<dyn Aml> = match (u32::try_from(start), u32::try_from(size)) {
        (Ok(start), Ok(size)) => Box::new(Memory32Fixed::new(true, start, size)),
        _ => Box::new(memory(start, start + (size - 1))),
    };
    device(
        "MBRD",
        &[
            &name("_HID", &EISAName::new("PNP0C02")),
            &name("_UID", &0u8),
            &resources(&[range]),
        ],
    )
}

fn isa_device(path: &str, id: &str, uid: u8, ports: Ports, irq: u32) -> Built {
    device(
        path,
        &[
            &name("_HID", &EISAName::new(id)),
            &name("_UID", &uid),
            &resources(&[
                Box::new(fixed_ports(ports)),
                Box::new(Interrupt::new(true, true, false, false, irq)),
            ]),
        ],
    )
}
