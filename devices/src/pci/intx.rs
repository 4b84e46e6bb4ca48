//! INTx: which interrupt line a function's pin ends at, behind any number of bridges.

use super::bus::DevFn;

/// The first of the interrupt controller's lines that PCI uses, and how many there are.
const FIRST_GSI: u32 = 16;
const GSIS: u32 = 8;

/// An interrupt pin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IntxPin {
    /// INTA#.
    A,
    /// INTB#.
    B,
    /// INTC#.
    C,
    /// INTD#.
    D,
}

impl IntxPin {
    /// All four, in order.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::D];

    /// The pin with this zero-based number, modulo 4.
    pub fn from_index(index: u32) -> Self {
        match index % 4 {
            0 => Self::A,
            1 => Self::B,
            2 => Self::C,
            _ => Self::D,
        }
    }

    /// 0 for INTA to 3 for INTD, as ACPI's _PRT counts.
    pub fn index(self) -> u32 {
        self as u32
    }

    /// 1 for INTA to 4 for INTD, as the interrupt pin register counts.
    pub fn register(self) -> u8 {
        self as u8 + 1
    }

    /// The pin of the bridge's primary side that this pin of `device` on its secondary side drives
    /// (PCI-to-PCI bridge 1.2, 9.1; PCIe base 6.0, 2.2.8.1).
    pub fn swizzle(self, device: u8) -> Self {
        Self::from_index(self.index() + u32::from(device))
    }
}

/// Where a function's pin arrives on the root bus: device number and pin. `path` holds the function's
/// place and those of the bridges above it, from the root bus down; an empty path is device 0.
pub fn root_pin(path: &[DevFn], pin: IntxPin) -> (u8, IntxPin) {
    let behind = path.get(1..).unwrap_or_default();
    let pin = behind
        .iter()
        .rev()
        .fold(pin, |pin, place| pin.swizzle(place.device()));
    (path.first().map_or(0, |place| place.device()), pin)
}

/// The global system interrupt of a root bus device's pin: 16 to 23. The machine wires devices and
/// describes them in ACPI's _PRT by this one function.
pub fn intx_gsi(device: u8, pin: IntxPin) -> u32 {
    FIRST_GSI + (u32::from(device) + pin.index()) % GSIS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(device: u8, function: u8) -> DevFn {
        DevFn::new(device, function).unwrap()
    }

    #[test]
    fn a_pin_on_the_root_bus_is_not_swizzled() {
        assert_eq!(root_pin(&[place(3, 1)], IntxPin::B), (3, IntxPin::B));
        assert_eq!(intx_gsi(3, IntxPin::B), 20);
    }

    #[test]
    fn every_bridge_adds_the_device_number_behind_it() {
        // Root port 2, upstream port 0, downstream port 3, drive 0: INTA arrives as INTD.
        let path = [place(2, 0), place(0, 0), place(3, 0), place(0, 0)];
        assert_eq!(root_pin(&path, IntxPin::A), (2, IntxPin::D));
        // Behind a PCI bridge device 7 on a port: 7 + C = B.
        let path = [place(1, 0), place(0, 0), place(7, 2)];
        assert_eq!(root_pin(&path, IntxPin::C), (1, IntxPin::B));
    }

    #[test]
    fn every_gsi_is_a_pin_above_the_isa_lines() {
        for device in 0..32 {
            for pin in IntxPin::ALL {
                assert!((16..24).contains(&intx_gsi(device, pin)));
                assert_eq!(IntxPin::from_index(pin.index()), pin);
                assert_eq!(u32::from(pin.register()), pin.index() + 1);
            }
        }
    }
}
